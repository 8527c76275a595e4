"""A session as a socket, for programs and libraries that use blocking sockets.

::

    with SessionSocket.connect(client, ("server.example", 443), options) as sock:
        sock.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        print(sock.recv(4096))

The rules, which are those of ``ssl.SSLSocket`` where it has any:

* The object owns the socket: ``close`` ends the session and closes it, once the files of ``makefile`` are closed too.
* One thread may send while another receives.
* ``settimeout`` limits each wait.  Without a wait (``settimeout(0)``): BlockingIOError; ``send`` raises it only if it
  has taken nothing.
* ``recv`` returns ``b""`` once the peer has closed its direction properly.  A connection that merely ends raises
  StreamError, which is an OSError: somebody may have cut it.
* ``fileno`` is the connection's.  It becomes readable with records, and ``pending`` bytes may wait without any:
  look there before a ``select``.
* What would get around the session (``recvmsg``, ``sendto``, ``dup`` and the like) is not there.  ``os.sendfile`` on
  ``fileno`` is right only where ``session.in_kernel``: the kernel encrypts there.  :meth:`SessionSocket.sendfile` does
  the right thing for either.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from types import TracebackType
from typing import Any, BinaryIO, Self

from hsframework.adapters.facts import SessionFacts
from hsframework.client import Client, HandshakeOptions, Session

CLOSE_PATIENCE = 3.0
"""Seconds that ``close`` waits at most for room for the message that ends the session."""

_CHUNK = 1 << 16
_SENDFILE = 1 << 30


class SessionSocket(SessionFacts):
    """A session with the methods of a socket that is connected."""

    def __init__(self, session: Session, server_hostname: str | None = None) -> None:
        super().__init__(session, server_hostname)
        self._socket = session.socket
        self._stream = session.stream()
        # Named as in socket.socket, for SocketIO.
        self._io_refs = 0
        self._closed = False
        self._released = False

    @classmethod
    def connect(
        cls,
        client: Client,
        address: tuple[str, int],
        options: HandshakeOptions,
        *,
        timeout: float | None = None,
    ) -> Self:
        """Connect to an address and run the handshake.  The options name the peer.

        ``timeout`` in seconds, for each of the two and for the socket from then on.
        """
        return cls.wrap(client, socket.create_connection(address, timeout), options)

    @classmethod
    def wrap(cls, client: Client, sock: socket.socket, options: HandshakeOptions) -> Self:
        """Run the handshake on a connected socket, which belongs to the result; it is closed if the handshake fails."""
        try:
            return cls(client.handshake(sock, options), options.peer_name)
        except BaseException:
            sock.close()
            raise

    def do_handshake(self) -> None:
        """Do nothing: the handshake was over before the object was made."""

    # Receiving

    def recv(self, bufsize: int = _CHUNK, flags: int = 0) -> bytes:
        """Receive 1 to ``bufsize`` bytes; ``b""`` at the proper end."""
        _no_flags(flags)
        return self._stream.receive(bufsize) if bufsize else b""

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Receive into a buffer and return the number of bytes; 0 at the proper end."""
        view = memoryview(buffer).cast("B")
        data = self.recv(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data)

    read = recv

    def pending(self) -> int:
        """Return the number of bytes that can be received without the connection."""
        return int(getattr(self._stream, "pending", 0))

    # Sending

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send everything."""
        _no_flags(flags)
        self._stream.send(memoryview(data).cast("B").tobytes())

    def send(self, data: Any, flags: int = 0) -> int:
        """Send everything and return its length."""
        content = memoryview(data).cast("B").tobytes()
        if self.gettimeout() != 0:
            self.sendall(content, flags)
            return len(content)
        _no_flags(flags)
        self._stream.send(b"")  # what an earlier call has left; raises BlockingIOError
        with suppress(BlockingIOError):
            self._stream.send(content)
        return len(content)

    write = send

    def sendfile(self, file: BinaryIO, offset: int = 0, count: int | None = None) -> int:
        """Send a regular file from ``offset``, ``count`` bytes or to its end, and return the number sent.

        In the kernel: by sendfile(2), without a copy in this process.
        """
        sent = 0
        try:
            if self.session.in_kernel and self.gettimeout() is None:
                while count is None or sent < count:
                    size = _SENDFILE if count is None else min(count - sent, _SENDFILE)
                    piece = os.sendfile(self.fileno(), file.fileno(), offset + sent, size)
                    if not piece:
                        break
                    sent += piece
                return sent
            file.seek(offset)
            while data := file.read(_CHUNK if count is None else min(count - sent, _CHUNK)):
                self.sendall(data)
                sent += len(data)
            return sent
        finally:
            file.seek(offset + sent)

    # The end

    def shutdown(self, how: int) -> None:
        """Close our direction (SHUT_WR), or both; with SHUT_RD nothing is done."""
        if how != socket.SHUT_RD:
            self._stream.send_eof()
        if how == socket.SHUT_RDWR:
            self._socket.shutdown(how)

    def unwrap(self) -> socket.socket:
        """End the session and return the socket, for plain data.

        Wait for the peer's end too; its data until then is dropped.  Not for a session in the kernel, which stays.
        """
        if self.session.in_kernel:
            raise ValueError("a session in the kernel stays until the socket is closed")
        self._stream.send_eof()
        while self._stream.receive():
            pass
        self._closed = self._released = True
        return self._socket

    def close(self) -> None:
        """End the session and close the socket, once the files of ``makefile`` are closed."""
        self._closed = True
        if self._io_refs <= 0:
            self._real_close()

    makefile: Any = socket.socket.makefile

    def _decref_socketios(self) -> None:
        self._io_refs -= 1
        if self._closed:
            self.close()

    def _real_close(self) -> None:
        if self._released:
            return
        self._released = True
        if self._socket.fileno() < 0:
            return
        try:
            timeout = self._socket.gettimeout()
            self._socket.settimeout(CLOSE_PATIENCE if timeout is None else min(timeout, CLOSE_PATIENCE))
            with suppress(OSError):
                self._stream.close()
        finally:
            self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # The connection

    def fileno(self) -> int:
        """Return the connection's fd."""
        return self._socket.fileno()

    def settimeout(self, value: float | None) -> None:
        """Limit each wait, in seconds; None: no limit, 0: no wait."""
        self._socket.settimeout(value)

    def gettimeout(self) -> float | None:
        """Return the limit of each wait in seconds."""
        return self._socket.gettimeout()

    timeout = property(gettimeout)

    def setblocking(self, flag: bool) -> None:
        """Wait without a limit, or not at all."""
        self._socket.setblocking(flag)

    def getblocking(self) -> bool:
        """Return False if calls do not wait."""
        return self._socket.getblocking()

    def getpeername(self) -> Any:
        """Return the peer's address."""
        return self._socket.getpeername()

    def getsockname(self) -> Any:
        """Return our address."""
        return self._socket.getsockname()

    def getsockopt(self, *arguments: Any) -> Any:
        """Return an option of the connection's socket."""
        return self._socket.getsockopt(*arguments)

    def setsockopt(self, *arguments: Any) -> None:
        """Set an option of the connection's socket."""
        self._socket.setsockopt(*arguments)

    @property
    def family(self) -> int:
        """Address family of the connection's socket."""
        return self._socket.family

    @property
    def type(self) -> int:
        """Type of the connection's socket."""
        return self._socket.type

    @property
    def proto(self) -> int:
        """Protocol number of the connection's socket."""
        return self._socket.proto


def _no_flags(flags: int) -> None:
    if flags:
        raise ValueError("a session takes no flags for a single call")
