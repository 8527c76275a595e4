"""Custody of a user's socket: every rule about its file descriptor, in one place.

* Only a connected socket is taken, and it is told apart from others by its inode: two fds of one socket are one socket.
* The dispatcher never polls it, so there is no epoll to leave before it is closed.
* O_NONBLOCK, TCP_NODELAY and SO_RCVLOWAT belong to the open file, hence to the owner too: they are saved when the
  socket is taken and put back once, on every way out, before the owner is told the outcome.  In between Nagle's
  algorithm is off, so that no agent has to see to it: handshakes are small messages, each of which waits for the other.
  For the same reason a socket is readable then as soon as there is a byte.
* The last close of a socket with SO_LINGER blocks.  Whether it is set can change at any time for a consumer that we do
  not trust, so its sockets are closed on threads of their own; a trusted consumer's only where SO_LINGER is set, since
  handing each socket to a thread costs more than everything else that the dispatcher does for a request.  The threads
  also close what else may hold the last copy of a user's socket: fds not wanted, links with unread messages.
* An fd that is handed to an agent is a copy; ours stays until :meth:`Custody.release`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from hsframework.errors import RequestRefused

_LINGER = struct.Struct("=ii")
_TCP_CLOSE = 7
"""State of a TCP socket without a connection (include/net/tcp_states.h)."""


class Closer:
    """Threads that close fds off the loop.  :meth:`close` never blocks; :meth:`stop` waits for what is queued.

    The first thread starts with the first fd, so after all that must precede every thread; another one whenever none
    has closed anything for ``patience`` seconds, so that a socket that blocks does not delay the others.
    """

    MOST_THREADS = 64

    def __init__(self, patience: float = 1.0) -> None:
        self._patience = patience
        self._queue: SimpleQueue[int | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._got_on = 0.0

    def close(self, fd: int) -> None:
        """Take over ``fd`` and close it soon."""
        now = time.monotonic()
        if self._queue.empty():
            self._got_on = now
        stuck = now - self._got_on > self._patience
        self._queue.put(fd)
        if not self._threads or (stuck and len(self._threads) < self.MOST_THREADS):
            self._got_on = now
            thread = threading.Thread(target=self._run, name="closer", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Close what is queued.  Wait for that, at most five seconds."""
        threads, self._threads = self._threads, []
        for _ in threads:
            self._queue.put(None)
        deadline = time.monotonic() + 5
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while (fd := self._queue.get()) is not None:
            self._got_on = time.monotonic()
            with contextlib.suppress(OSError):
                os.close(fd)


class Custody:
    """Socket of a user.  Made from an fd, which it owns from then on; one that is refused is closed.

    ``trusted``: the consumer is.  ``connected``: refuse a socket that is not connected; else it is taken, and has no
    :attr:`peer_host`.  Raises RequestRefused: ENOTSOCK, ENOTCONN.
    """

    __slots__ = (
        "_close",
        "_flags",
        "_nodelay",
        "_rcvlowat",
        "_socket",
        "_trusted",
        "fileno",
        "inode",
        "local_address",
        "peer_address",
        "peer_host",
        "protocol",
        "when_released",
    )

    def __init__(self, fd: int, close: Callable[[int], None], *, trusted: bool = False, connected: bool = True) -> None:
        try:
            self._socket = socket.socket(fileno=fd)
        except OSError:
            close(fd)
            raise RequestRefused(
                "the file descriptor is not a socket; attach the connected socket", errno=errno.ENOTSOCK
            ) from None
        self.fileno: Callable[[], int] = self._socket.fileno
        """Returns our copy, for sending it to an agent; -1 once it is closed."""
        self.protocol = self._socket.proto
        """SO_PROTOCOL: 6 TCP, 17 UDP, 261 in-kernel QUIC, 0 AF_UNIX."""
        self.when_released: Callable[[], None] | None = None
        """Called once our copy is closed, which for a request of the kernel's is when it has taken DONE."""
        self._close = close
        self._trusted = trusted
        self._flags: int | None = None
        """O_NONBLOCK and the like; None: there is nothing to put back."""
        self._nodelay: int | None = None
        self._rcvlowat = 1
        try:
            peer = self._peer(connected)
            self.local_address, _ = format_address(self._socket.getsockname())
            self.peer_address, self.peer_host = format_address(peer)
            self.inode = os.fstat(fd).st_ino
            self._flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            if self.protocol == socket.IPPROTO_TCP:
                self._without_delay()
        except OSError as error:
            self.release()
            raise RequestRefused(
                f"the socket is not connected ({error.strerror}); connect it first", errno=errno.ENOTCONN
            ) from None

    def _peer(self, connected: bool) -> object:
        try:
            return self._socket.getpeername()
        except OSError:
            if connected:
                raise
            return None

    def _without_delay(self) -> None:
        """Set TCP_NODELAY, and SO_RCVLOWAT to one byte, for the time of the handshake."""
        sock = self._socket
        self._nodelay = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        if not self._nodelay:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rcvlowat = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)
        if self._rcvlowat != 1:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    def restore(self) -> None:
        """Put the owner's flags and options back, once.  Errors are ignored: the connection may have ended."""
        if self._flags is None:
            return
        flags, self._flags = self._flags, None
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._socket, fcntl.F_SETFL, flags)
            if self._nodelay is not None:
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, self._nodelay)
            if self._rcvlowat != 1:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, self._rcvlowat)

    def shut_down(self) -> None:
        """End the connection in both directions, for every copy of the socket."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    @property
    def has_ended(self) -> bool:
        """True if the TCP connection is over in both directions, as by a reset."""
        if self.protocol != socket.IPPROTO_TCP:
            return False
        try:
            return self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE
        except OSError:
            return False

    def option(self, level: int, name: int, size: int) -> bytes:
        """Return the value of a socket option, by getsockopt(2).  Raises OSError."""
        return self._socket.getsockopt(level, name, size)

    def release(self) -> None:
        """Put the owner's flags and options back, and close our copy.

        If closing it could block, a thread of the closer does.
        """
        self.restore()
        if self.fileno() < 0:
            return
        if self._trusted and not _lingers(self._socket):
            self._socket.close()
        else:
            self._close(self._socket.detach())
        told, self.when_released = self.when_released, None
        if told is not None:
            told()


def _lingers(sock: socket.socket) -> bool:
    try:
        active, seconds = _LINGER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.size))
    except OSError:
        return True
    return bool(active and seconds)


def format_address(address: object) -> tuple[str, str]:
    """Return a socket address as text, and its host.

    ``("127.0.0.1", 443)`` → ``("127.0.0.1:443", "127.0.0.1")``; IPv6 in brackets; AF_UNIX ``unix``.
    """
    if isinstance(address, tuple) and len(address) >= 2:
        # Of AF_VSOCK and AF_NETLINK the first is a number.
        host, port = str(address[0]), address[1]
        return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}"), host
    return ("none", "") if address is None else ("unix", "unix")
