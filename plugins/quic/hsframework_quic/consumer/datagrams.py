"""The consumer's socket: sending and receiving datagrams without ever waiting.

The connection has a copy of its owner's file descriptor: the owner may close the socket when it likes.  Its flags and
its timeout are left as they are.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Iterable

from hsframework.errors import StreamError

MAX_SIZE = 65535
BATCH = 64
"""Datagrams taken in before anything else is done."""

_DONTWAIT = int(socket.MSG_DONTWAIT)
_REFUSED = (errno.ECONNREFUSED,)
_WAIT = (errno.EAGAIN, errno.ENOBUFS)


class DatagramSocket:
    """A copy of ``owner``, a connected datagram socket.  Raises StreamError for any other socket."""

    def __init__(self, owner: socket.socket) -> None:
        try:
            owner.getpeername()
            if owner.type != socket.SOCK_DGRAM:
                raise OSError(errno.EPROTOTYPE, "not a datagram socket")
            # Not owner.dup(), which copies the timeout: with one, Python waits before each call.
            self._socket = socket.socket(owner.family, owner.type, owner.proto, os.dup(owner.fileno()))
        except OSError as error:
            raise StreamError(
                f"a QUIC session goes on over its connected UDP socket: {error.strerror}",
                errno=error.errno or errno.EIO,
            ) from None
        self._unsent: deque[bytes] = deque()

    def fileno(self) -> int:
        """Return the copy's file descriptor, for poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the copy."""
        self._unsent.clear()
        self._socket.close()

    @property
    def owes(self) -> bool:
        """True if datagrams wait until the socket is writable; call :meth:`send` then."""
        return bool(self._unsent)

    def receive(self) -> tuple[list[bytes], bool]:
        """Return at most :data:`BATCH` datagrams that wait, and True if the socket has reported ECONNREFUSED."""
        datagrams: list[bytes] = []
        refused = False
        while len(datagrams) < BATCH:
            try:
                datagrams.append(self._socket.recv(MAX_SIZE, _DONTWAIT))
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    break
                # Anything else was said of a datagram that we sent before, and is a matter of loss recovery.
                refused = refused or error.errno in _REFUSED
                if error.errno == errno.EBADF:
                    break
        return datagrams, refused

    def send(self, datagrams: Iterable[bytes] = ()) -> bool:
        """Send these datagrams and those left before; return True if the socket has reported ECONNREFUSED.

        A datagram that the socket refuses for another reason is lost, as it could be on the way.
        """
        self._unsent.extend(datagrams)
        refused = False
        while self._unsent:
            try:
                self._socket.send(self._unsent[0], _DONTWAIT)
            except OSError as error:
                if error.errno in _WAIT:
                    break
                if error.errno in _REFUSED:
                    # It was said of an earlier one; this one has not been sent.
                    if refused:
                        self._unsent.popleft()
                    refused = True
                    continue
            self._unsent.popleft()
        return refused
