"""An in-kernel QUIC socket: its options and its messages.

* Options are read and written through libc: Python's ``getsockopt`` hands the kernel an uninitialised buffer and stops
  at 1024 bytes, and a ticket has up to 4096.
* A message goes with one byte of control data, the encryption level.  Data without it is an event or application
  data and belongs to the consumer.
* Every call raises OSError as the kernel says it; BlockingIOError: nothing can be read or sent now.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from hsframework_quic.kernel.structs import HANDSHAKE_INFO, SOL_QUIC

_libc = ctypes.CDLL(None, use_errno=True)
MAX_MESSAGE = 65536
"""Bytes of one read: a CRYPTO frame is shorter."""


@dataclass(frozen=True, slots=True)
class Received:
    """The data of one read.  ``level`` None: no handshake message.  ``data`` empty: the connection is closed."""

    level: int | None
    data: bytes


class QuicSocket(Protocol):
    """The socket of a handshake.  Implemented by :class:`KernelSocket` and by the tests' stand-in."""

    def fileno(self) -> int: ...

    def get_option(self, option: int, size: int) -> bytes:
        """Return at most ``size`` bytes."""
        ...

    def set_option(self, option: int, value: bytes) -> None: ...

    def receive(self) -> Received:
        """Return in-order bytes of one level, as many as one frame has."""
        ...

    def send(self, level: int, data: bytes, *, more: bool) -> int:
        """Send TLS messages; return how many bytes were taken."""
        ...


class KernelSocket:
    """A socket of the kernel.  ``sock`` is non-blocking and stays its owner's; ``level``: of its options."""

    def __init__(self, sock: socket.socket, level: int = SOL_QUIC) -> None:
        self._socket = sock
        self._level = level

    def fileno(self) -> int:
        return self._socket.fileno()

    def get_option(self, option: int, size: int) -> bytes:
        with _wiped(size) as buffer:
            length = ctypes.c_uint32(size)
            _check(_libc.getsockopt(self.fileno(), self._level, option, buffer, ctypes.byref(length)))
            return buffer.raw[: min(length.value, size)]

    def set_option(self, option: int, value: bytes) -> None:
        with _wiped(len(value)) as buffer:
            buffer.raw = value
            _check(_libc.setsockopt(self.fileno(), self._level, option, buffer, ctypes.c_uint32(len(value))))

    def receive(self) -> Received:
        data, control, _, _ = self._socket.recvmsg(MAX_MESSAGE, socket.CMSG_SPACE(1))
        for level, kind, value in control:
            if (level, kind, len(value)) == (SOL_QUIC, HANDSHAKE_INFO, 1):
                return Received(value[0], data)
        return Received(None, data)

    def send(self, level: int, data: bytes, *, more: bool) -> int:
        flags = socket.MSG_NOSIGNAL | (socket.MSG_MORE if more else 0)
        return self._socket.sendmsg([data], [(SOL_QUIC, HANDSHAKE_INFO, bytes((level,)))], flags)


@contextlib.contextmanager
def _wiped(size: int) -> Iterator[ctypes.Array[ctypes.c_char]]:
    """Yield a buffer of zeroes, and fill it with zeroes at the end: secrets pass through it."""
    buffer = ctypes.create_string_buffer(max(size, 1))
    buffer = (ctypes.c_char * size).from_buffer(buffer) if size else buffer
    try:
        yield buffer
    finally:
        ctypes.memset(buffer, 0, ctypes.sizeof(buffer))


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
