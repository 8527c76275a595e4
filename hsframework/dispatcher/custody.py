"""Custody of a user's socket: every rule about its file descriptor, in one place.

* Only a connected socket is taken, and it is told apart from others by its inode: two fds of one socket are one socket.
* The dispatcher never polls it, so there is no epoll to leave before it is closed.
* O_NONBLOCK and TCP_NODELAY belong to the open file, hence to the owner too: they are saved when the socket is taken
  and put back before the owner is told the outcome.
* The last close of a socket with SO_LINGER blocks.  Whether it is set can change at any time for a consumer that we do
  not trust, so its sockets are closed on a thread of their own; a trusted consumer's only where SO_LINGER is set, since
  handing each socket to a thread costs more than everything else that the dispatcher does for a request.
* An fd that is handed to an agent is a copy; ours stays until the request is closed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable
from queue import SimpleQueue

from hsframework.errors import RequestRefused

SOL_TLS = 282
TLS_TX = 1
TLS_RX = 2
_LINGER = struct.Struct("=ii")


class Closer:
    """Closes fds off the loop.  :meth:`close` never blocks; :meth:`stop` waits for what is queued.

    The thread starts with the first socket, so that what must come before every thread can.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[socket.socket | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def close(self, sock: socket.socket) -> None:
        """Take over ``sock`` and close it soon."""
        self._queue.put(sock)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="closer", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Close what is queued, at most five seconds long."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(5)
            self._thread = None

    def _run(self) -> None:
        while (sock := self._queue.get()) is not None:
            with contextlib.suppress(OSError):
                sock.close()
            del sock


class Custody:
    """One socket.  Made from an fd, which it owns from then on, also when it refuses it.  ``trusted``: its consumer is.

    Raises RequestRefused: EINVAL for what is not a connected socket.
    """

    __slots__ = (
        "_close",
        "_flags",
        "_nodelay",
        "_socket",
        "_trusted",
        "inode",
        "local_address",
        "peer_address",
        "peer_host",
    )

    def __init__(self, fd: int, close: Callable[[socket.socket], None], *, trusted: bool = False) -> None:
        try:
            self._socket = socket.socket(fileno=fd)
        except OSError:
            os.close(fd)
            raise RequestRefused(
                "the file descriptor is not a socket; attach the connected socket", errno=errno.ENOTSOCK
            ) from None
        self._close = close
        self._trusted = trusted
        try:
            peer = self._socket.getpeername()
            self.local_address, _ = format_address(self._socket.getsockname())
            self.peer_address, self.peer_host = format_address(peer)
            self.inode = os.fstat(fd).st_ino
            self._flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            self._nodelay = self._is_tcp and self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        except OSError as error:
            self.release()
            raise RequestRefused(
                f"the socket is not connected ({error.strerror}); connect it first", errno=errno.ENOTCONN
            ) from None

    @property
    def _is_tcp(self) -> bool:
        return self._socket.proto == socket.IPPROTO_TCP

    @property
    def protocol(self) -> int:
        """SO_PROTOCOL: 6 TCP, 17 UDP, 261 in-kernel QUIC, 0 AF_UNIX."""
        return self._socket.proto

    def fileno(self) -> int:
        """Our copy; for sending it to an agent."""
        return self._socket.fileno()

    def restore(self) -> None:
        """Put the owner's flags and options back.  A socket that is gone needs nothing."""
        fd = self._socket.fileno()
        with contextlib.suppress(OSError):
            if fcntl.fcntl(fd, fcntl.F_GETFL) != self._flags:
                fcntl.fcntl(fd, fcntl.F_SETFL, self._flags)
            if self._is_tcp and self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != self._nodelay:
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, self._nodelay)

    def shut_down(self) -> None:
        """End the connection in both directions, for every copy of the socket."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def has_kernel_tls(self) -> bool:
        """Are TLS_TX and TLS_RX in place?  Asks for version and cipher alone, so no key is read."""
        try:
            for direction in (TLS_TX, TLS_RX):
                version, cipher = struct.unpack("=HH", self._socket.getsockopt(SOL_TLS, direction, 4))
                if not version or not cipher:
                    return False
        except (OSError, struct.error):
            return False
        return True

    def release(self) -> None:
        """Close our copy; where that could block, the closer does it."""
        if self._trusted and not _lingers(self._socket):
            self._socket.close()
        else:
            self._close(self._socket)


def _lingers(sock: socket.socket) -> bool:
    try:
        active, seconds = _LINGER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.size))
    except OSError:
        return True
    return bool(active and seconds)


def format_address(address: object) -> tuple[str, str]:
    """``("127.0.0.1", 443)`` → ``("127.0.0.1:443", "127.0.0.1")``; IPv6 in brackets; AF_UNIX ``unix``."""
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[0], address[1]
        return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}"), str(host)
    return "unix", "unix"
