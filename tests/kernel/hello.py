"""/dev/hello of our own module ``hello``: requests of the kernel's for any socket, and how each of them ended."""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import select
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tests.kernel import uml
from tests.kernel.machine import debian, loaded

_SUBMIT = struct.Struct("=QiIIiiii68s")
_DONE = struct.Struct("=QQii")
_HELLO_SUBMIT = 1 << 30 | _SUBMIT.size << 16 | ord("h") << 8 | 1


class Kind(enum.IntEnum):
    """Which function of the kernel's handshake API is called."""

    CLIENT_X509 = 0
    CLIENT_PSK = 1
    SERVER_X509 = 2
    SERVER_PSK = 3
    CLIENT_ANON = 4


@dataclass(frozen=True, slots=True)
class Ended:
    """``status``: 0 or an errno.  ``at``: in seconds, by time.monotonic().  ``peer``: a key's serial."""

    number: int
    status: int
    at: float
    peer: int


class Hello:
    """One open device.  A request's number is the caller's."""

    def __init__(self) -> None:
        self._fd = os.open("/dev/hello", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)

    def submit(
        self,
        sock: socket.socket,
        kind: Kind,
        number: int,
        *,
        peer_name: str = "",
        timeout: float = 0.0,
        psk: int = 0,
        keyring: int = 0,
    ) -> None:
        """Raises OSError with what the kernel refuses it with: EAGAIN, ESRCH."""
        values = (number, sock.fileno(), kind, int(timeout * 1000), keyring, psk, 0, 0, peer_name.encode())
        fcntl.ioctl(self._fd, _HELLO_SUBMIT, _SUBMIT.pack(*values))

    def ended(self, timeout: float) -> list[Ended]:
        """The requests that have ended, at least one; none: that took longer than ``timeout`` seconds."""
        if not select.select([self._fd], [], [], timeout)[0]:
            return []
        data = os.read(self._fd, 256 * _DONE.size)
        return [
            Ended(number, -status, nanoseconds / 1e9, peer)
            for number, nanoseconds, status, peer in _DONE.iter_unpack(data)
        ]

    def close(self) -> None:
        os.close(self._fd)


@contextlib.contextmanager
def hello() -> Iterator[Hello]:
    """The device, with its module loaded; that stays."""
    if "hello" not in loaded():
        debian("insmod", str((uml.BUILT / "ko" / "hello.ko").resolve()))
    made = Hello()
    try:
        yield made
    finally:
        made.close()
