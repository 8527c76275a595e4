"""The server behind :mod:`hsframework.adapters.aio`: accepts, runs handshakes, and hands connections to protocols.

* At most :data:`MOST_HANDSHAKES` run at a time; further connections wait in the kernel's queue.
* A handshake that fails ends its connection and nothing else.
* ``close`` ends the listening and the handshakes under way; connections go on, as with ``asyncio.Server``.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from typing import Self

from hsframework.adapters.transport import SessionTransport
from hsframework.client import AsyncClient, HandshakeOptions
from hsframework.errors import is_shortage

MOST_HANDSHAKES = 256
"""Handshakes of one server under way."""

_PAUSE = 0.1


class SessionServer(asyncio.AbstractServer):
    """A server over sessions, with the methods of ``asyncio.Server``.  It serves from its creation on."""

    def __init__(
        self,
        client: AsyncClient,
        factory: Callable[[], asyncio.BaseProtocol],
        listeners: Sequence[socket.socket],
        options: HandshakeOptions,
        *,
        backlog: int,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._factory = factory
        self._options = options
        self._on_failure = on_failure
        self._listeners = list(listeners)
        self._handshakes: set[asyncio.Task[None]] = set()
        self._transports: set[SessionTransport] = set()
        self._turns = asyncio.Semaphore(MOST_HANDSHAKES)
        self._ended = asyncio.Event()
        for sock in self._listeners:
            sock.setblocking(False)
            sock.listen(backlog)
        self._acceptors = [self._loop.create_task(self._accept(sock)) for sock in self._listeners]

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets; none once it is closed."""
        return () if self._ended.is_set() else tuple(self._listeners)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def is_serving(self) -> bool:
        return not self._ended.is_set()

    async def start_serving(self) -> None:
        """Do nothing: it serves from its creation on."""

    async def serve_forever(self) -> None:
        """Wait until the server is closed; close it if this is cancelled."""
        try:
            await self._ended.wait()
        finally:
            self.close()

    def close(self) -> None:
        """End the listening, and the handshakes under way."""
        self._ended.set()
        for task in (*self._acceptors, *self._handshakes):
            task.cancel()

    def close_clients(self) -> None:
        """Close every connection, after what was written."""
        for transport in tuple(self._transports):
            transport.close()

    def abort_clients(self) -> None:
        """End every connection at once."""
        for transport in tuple(self._transports):
            transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the server is closed, and its listening sockets and handshakes have ended."""
        await self._ended.wait()
        await asyncio.gather(*self._acceptors, *self._handshakes, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await self.wait_closed()

    async def _accept(self, listener: socket.socket) -> None:
        try:
            while True:
                await self._turns.acquire()
                sock = await self._accepted(listener)
                task = self._loop.create_task(self._handshake(sock))
                self._handshakes.add(task)
                task.add_done_callback(self._handshakes.discard)
        finally:
            listener.close()

    async def _accepted(self, listener: socket.socket) -> socket.socket:
        while True:
            try:
                sock, _ = await self._loop.sock_accept(listener)
                return sock
            except OSError as error:
                if not is_shortage(error) and error.errno not in (errno.EMFILE, errno.ECONNABORTED):
                    raise
                await asyncio.sleep(_PAUSE)

    async def _handshake(self, sock: socket.socket) -> None:
        try:
            session = await self._client.handshake(sock, self._options)
            transport = SessionTransport(session, self._factory(), on_lost=lambda: self._transports.discard(transport))
            self._transports.add(transport)
        except Exception as error:
            sock.close()
            self._on_failure(error)
        except BaseException:
            sock.close()
            raise
        finally:
            self._turns.release()


async def listen(host: str | None, port: int, backlog: int) -> list[socket.socket]:
    """Return a listening socket for each address of the host; ``None``: every address.  Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or "", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            if listeners and not port:
                address = (address[0], listeners[0].getsockname()[1], *address[2:])
            place = address[:2] if family == socket.AF_INET else address
            listeners.append(socket.create_server(place, family=family, backlog=backlog))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners
