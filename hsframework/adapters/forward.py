"""A forwarder, for programs that cannot be changed: plain connections on one side, sessions on the other.

* As a client it takes plain connections and makes sessions with a server; as a server the other way round.
* A connection costs two fds.  At most ``most`` are open; further ones wait in the kernel's queue.
* ``drain`` ends the listening and waits for the connections; those that are left then are cut.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Collection

from hsframework.adapters.facts import SessionFacts
from hsframework.adapters.proxy import Ends, ends_of, proxy_header, read_header
from hsframework.adapters.relay import PlainStream, relay, reset_on_close
from hsframework.client import AsyncClient, AsyncSession, HandshakeOptions
from hsframework.errors import ClientError
from hsframework.interface import Role

MOST = 4096
"""Connections at a time."""

HEADER_TIMEOUT = 5.0
"""Seconds in which the header of the PROXY protocol has to come."""

_PAUSE = 0.1


class Forwarder:
    """A forwarder over one listening socket.

    ``connect`` makes the plain or, for a client, the unprotected connection to the other side.  ``allowed``: names of
    which a peer's certificate must have one; none: every peer that the handshake admits.  ``proxy``: version of the
    PROXY protocol in which a server's other side is told the peer's address; None: it is not.  ``headed``: True if each
    connection begins with a header of the PROXY protocol, whose address is the peer's then.  ``failed`` is called with
    the peer's address and the error of each connection that fails.
    """

    def __init__(
        self,
        client: AsyncClient,
        listener: socket.socket,
        connect: Callable[[], Awaitable[socket.socket]],
        options: HandshakeOptions,
        *,
        allowed: Collection[str] = (),
        proxy: int | None = None,
        headed: bool = False,
        most: int = MOST,
        failed: Callable[[str, Exception], None] = lambda address, error: None,
    ) -> None:
        self._client = client
        self._listener = listener
        self._connect = connect
        self.options = options
        """Those of the handshakes that begin from now on; may be changed."""
        self._allowed = frozenset(allowed)
        self._proxy, self._headed = proxy, headed
        self._failed = failed
        self._room = asyncio.Semaphore(most)
        self._connections: set[asyncio.Task[None]] = set()
        listener.setblocking(False)

    @property
    def open(self) -> int:
        """Number of connections that are open."""
        return len(self._connections)

    async def serve(self) -> None:
        """Accept connections until this is cancelled."""
        while True:
            await self._room.acquire()
            sock = await self._accept()
            task = asyncio.ensure_future(self._serve_one(sock))
            self._connections.add(task)
            task.add_done_callback(self._done)

    async def drain(self, seconds: float) -> int:
        """Stop listening, wait for the connections, and return the number of those that had to be cut."""
        self._listener.close()
        tasks = set(self._connections)
        if not tasks:
            return 0
        _, left = await asyncio.wait(tasks, timeout=seconds)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return len(left)

    async def _accept(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(self._listener)
                return sock
            except OSError as error:
                if error.errno in (errno.EBADF, errno.EINVAL):
                    raise
                await asyncio.sleep(_PAUSE)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        self._room.release()

    async def _serve_one(self, accepted: socket.socket) -> None:
        address = _address(accepted)
        with accepted:
            try:
                ends = await _headed_ends(accepted) if self._headed else ends_of(accepted)
                if ends is not None:
                    address = str(ends)
                if self.options.role is Role.SERVER:
                    await self._as_server(accepted, ends)
                else:
                    await self._as_client(accepted)
            except Exception as error:
                reset_on_close(accepted)
                self._failed(address, error)

    async def _as_server(self, accepted: socket.socket, ends: Ends | None) -> None:
        _no_delay(accepted)
        session = await self._client.handshake(accepted, self.options)
        self._admit(session)
        header = b"" if self._proxy is None else proxy_header(self._proxy, ends, session.alpn)
        with await self._connect() as other:
            plain = PlainStream(other)
            if header:
                await plain.send(header)
            await relay(session.stream(), plain)

    async def _as_client(self, accepted: socket.socket) -> None:
        with await self._connect() as other:
            _no_delay(other)
            session = await self._client.handshake(other, self.options)
            self._admit(session)
            await relay(session.stream(), PlainStream(accepted))

    def _admit(self, session: AsyncSession) -> None:
        """Raise ClientError (EACCES) for a peer whose certificate has none of the allowed names."""
        if not self._allowed:
            return
        fields = SessionFacts(session).getpeercert()
        names = {str(value) for _, value in fields.get("subjectAltName", ())} if isinstance(fields, dict) else set()
        if not names & self._allowed:
            shown = ", ".join(sorted(names)) or "no name"
            raise ClientError(f"the peer is {shown}, and none of those that are allowed", errno=errno.EACCES)


async def _headed_ends(accepted: socket.socket) -> Ends | None:
    """Take the header with which a connection begins, and no byte of what follows.

    Raises ClientError (EPROTO, ETIMEDOUT).
    """
    loop = asyncio.get_running_loop()
    data = b""
    try:
        async with asyncio.timeout(HEADER_TIMEOUT):
            while isinstance(found := read_header(data), int):
                piece = await loop.sock_recv(accepted, found)
                if not piece:
                    raise ClientError("the connection ended within its PROXY header", errno=errno.EPROTO)
                data += piece
    except ValueError as error:
        raise ClientError(str(error), errno=errno.EPROTO) from None
    except TimeoutError:
        raise ClientError(f"no PROXY header within {HEADER_TIMEOUT:g} s", errno=errno.ETIMEDOUT) from None
    return found.ends or ends_of(accepted)


def _no_delay(sock: socket.socket) -> None:
    """Send small pieces at once: whether to wait for more is for the programs at both ends."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _address(sock: socket.socket) -> str:
    try:
        name = sock.getpeername()
    except OSError:
        return "a peer that has gone"
    if not isinstance(name, tuple):
        return "a local program"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
