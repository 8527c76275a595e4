"""End of the supervisor, or of a keeper, of a socket for control messages (:mod:`hsframework.local.control`)."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Generic, TypeVar

from hsframework.errors import SHORTAGE_PAUSE, MessageError, is_shortage
from hsframework.local.control_form import MAX_MESSAGE, Direction, Message

SEND_TIME = 5.0
"""Seconds for which a message is sent again in a shortage of memory."""

_SO_PASSRIGHTS = 83
_MOST_FDS = 4

Sent = TypeVar("Sent", bound=Message)
Received = TypeVar("Received", bound=Message)


class ControlSocket(Generic[Sent, Received]):
    """End of the supervisor or of a keeper, for a selector.

    Receiving does not block, and sending does in a shortage of memory alone.  ``takes_fds``: file descriptors may come.
    """

    def __init__(
        self, sock: socket.socket, sends: Direction[Sent], receives: Direction[Received], *, takes_fds: bool = False
    ) -> None:
        self._takes_fds = takes_fds
        self._socket = sock
        self._sends = sends
        self._receives = receives
        sock.setblocking(False)
        if not takes_fds:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)

    def fileno(self) -> int:
        """Return the socket's fd."""
        return self._socket.fileno()

    def send(self, message: Sent, fd: int | None = None) -> bool:
        """Send a message, and a copy of ``fd``.  False: it is lost, since the other end is gone or does not read.

        Raises OSError if memory has been short for :data:`SEND_TIME` seconds.
        """
        data = self._sends.encode(message)
        end = time.monotonic() + SEND_TIME
        while True:
            try:
                if fd is None:
                    self._socket.send(data, socket.MSG_NOSIGNAL)
                else:
                    socket.send_fds(self._socket, [data], [fd], socket.MSG_NOSIGNAL)
            except OSError as error:
                if not is_shortage(error):
                    return False
                if time.monotonic() >= end:
                    raise
                time.sleep(SHORTAGE_PAUSE)
            else:
                return True

    def receive(self) -> Received | None:
        """Return the next message, or None if there is none yet.

        Raises EOFError when the other end is gone, MessageError for what is not a message.
        """
        received = self.receive_with_fd()
        if received is None:
            return None
        message, fd = received
        if fd is not None:
            os.close(fd)
        return message

    def receive_with_fd(self) -> tuple[Received, int | None] | None:
        """Return the next message, and the file descriptor that came with it.  Raises the errors of :meth:`receive`."""
        try:
            data, fds, flags, _ = socket.recv_fds(
                self._socket, MAX_MESSAGE, _MOST_FDS if self._takes_fds else 0, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return None
        except OSError as error:
            raise EOFError from error
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(fds) > 1:
                raise MessageError(f"a packet of more than {MAX_MESSAGE} bytes, or with file descriptors")
            if not data:
                raise EOFError
            message = self._receives.decode(data)
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        return message, fds[0] if fds else None

    def close(self) -> None:
        """Close the socket, which the other end sees."""
        self._socket.close()
