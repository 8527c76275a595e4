"""Sessions for programs that use asyncio's streams, transports and protocols.

::

    async with AsyncClient() as client:
        reader, writer = await open_connection(client, "server.example", 443, options)
        server = await start_server(client, serve, "127.0.0.1", 8443, server_options)

The functions are named after asyncio's; they take the client first, and the options in the place of ``ssl``.
:func:`start_tls` is STARTTLS for a connection that asyncio holds already.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

from hsframework.adapters.server import SessionServer, listen
from hsframework.adapters.transport import SessionTransport
from hsframework.client import AsyncClient, HandshakeOptions
from hsframework.errors import ClientError

__all__ = ["SessionServer", "create_connection", "create_server", "open_connection", "start_server", "start_tls"]

LIMIT = 1 << 16
"""Bytes that a StreamReader keeps, as in asyncio."""

P = TypeVar("P", bound=asyncio.BaseProtocol)
Factory = Callable[[], asyncio.BaseProtocol]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]


async def create_connection(
    client: AsyncClient, factory: Callable[[], P], host: str, port: int, options: HandshakeOptions
) -> tuple[SessionTransport, P]:
    """Connect, run the handshake, and return transport and protocol.  The options name the peer.

    Raises ClientError, OSError.
    """
    return await over_socket(client, factory, await connect(host, port), options)


async def over_socket(
    client: AsyncClient, factory: Callable[[], P], sock: socket.socket, options: HandshakeOptions
) -> tuple[SessionTransport, P]:
    """Run the handshake on a connected socket, which belongs to the transport; it is closed if the handshake fails."""
    try:
        session = await client.handshake(sock, options)
        protocol = factory()
        return SessionTransport(session, protocol, options.peer_name), protocol
    except BaseException:
        sock.close()
        raise


async def open_connection(
    client: AsyncClient, host: str, port: int, options: HandshakeOptions, *, limit: int = LIMIT
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, run the handshake, and return a reader and a writer.  The options name the peer.

    Raises ClientError, OSError.
    """
    reader = asyncio.StreamReader(limit=limit)
    transport, protocol = await create_connection(client, lambda: _Halves(reader), host, port, options)
    return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())


async def create_server(
    client: AsyncClient,
    factory: Factory,
    host: str | None,
    port: int,
    options: HandshakeOptions,
    *,
    sock: socket.socket | None = None,
    backlog: int = 128,
    on_failure: Callable[[Exception], None] = lambda error: None,
) -> SessionServer:
    """Listen, and give each connection whose handshake succeeds a protocol of its own.

    ``sock``: a listening socket, in the place of ``host`` and ``port``.  ``on_failure``: called with the error of a
    handshake that failed; the server goes on.
    """
    listeners = [sock] if sock is not None else await listen(host, port, backlog)
    return SessionServer(client, factory, listeners, options, backlog=backlog, on_failure=on_failure)


async def start_server(
    client: AsyncClient,
    connected: Handler,
    host: str | None,
    port: int,
    options: HandshakeOptions,
    *,
    limit: int = LIMIT,
    backlog: int = 128,
    on_failure: Callable[[Exception], None] = lambda error: None,
) -> SessionServer:
    """Listen, and call ``connected(reader, writer)`` for each connection whose handshake succeeds."""

    def factory() -> asyncio.BaseProtocol:
        return _Halves(asyncio.StreamReader(limit=limit), connected)

    return await create_server(client, factory, host, port, options, backlog=backlog, on_failure=on_failure)


async def start_tls(
    client: AsyncClient, writer: asyncio.StreamWriter, options: HandshakeOptions, *, limit: int = LIMIT
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Run the handshake on asyncio's own connection (STARTTLS), and return a new reader and writer.

    The old ones are of no further use.  Raises ClientError (EPROTO) if the peer has sent data already: what came in
    plain text must not be taken for the session's.
    """
    protocol = writer.transport.get_protocol()
    old: asyncio.StreamReader | None = getattr(protocol, "_stream_reader", None)
    await writer.drain()
    sock = await take_socket(writer.transport)
    if old is not None and (old._buffer or old.at_eof()):  # type: ignore[attr-defined]
        sock.close()
        raise ClientError("the peer has sent data before the handshake, which would be mixed up", errno=errno.EPROTO)
    reader = asyncio.StreamReader(limit=limit)
    transport, fresh = await over_socket(client, lambda: _Halves(reader), sock, options)
    return reader, asyncio.StreamWriter(transport, fresh, reader, asyncio.get_running_loop())


async def take_socket(transport: asyncio.BaseTransport) -> socket.socket:
    """Take the connection out of one of asyncio's own transports, and return its socket.

    What was written is sent before.  The transport is ended without a word to its protocol.
    """
    if not isinstance(transport, asyncio.Transport) or isinstance(transport, SessionTransport):
        raise ClientError(f"a {type(transport).__name__} has no plain connection to take", errno=errno.EINVAL)
    transport.pause_reading()
    if transport.get_write_buffer_size():
        drained = _Drained()
        transport.set_protocol(drained)
        transport.set_write_buffer_limits(0)
        await drained.wait(transport)
    sock = socket.socket(fileno=socket.dup(transport.get_extra_info("socket").fileno()))
    transport.set_protocol(asyncio.Protocol())
    transport.abort()
    await asyncio.sleep(0)  # the transport closes its own copy in the next turn
    return sock


class _Halves(asyncio.StreamReaderProtocol):
    """A StreamReaderProtocol that goes on sending after the peer's end, as over TCP; asyncio's does not over TLS."""

    def eof_received(self) -> bool:
        super().eof_received()
        return True


class _Drained(asyncio.Protocol):
    """A protocol that waits until everything is written."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    async def wait(self, transport: asyncio.Transport) -> None:
        """Wait until the transport has sent everything.  Raises ClientError if the connection ends before."""
        while transport.get_write_buffer_size():
            if transport.is_closing():
                raise ClientError("the connection has ended", errno=errno.ECONNRESET)
            self._changed.clear()
            await self._changed.wait()

    def resume_writing(self) -> None:
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._changed.set()


async def connect(host: str, port: int) -> socket.socket:
    """Return a non-blocking socket connected to the first of the host's addresses that answers.  Raises OSError."""
    loop = asyncio.get_running_loop()
    problem = OSError(errno.EHOSTUNREACH, "no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
            return sock
        except OSError as error:
            sock.close()
            problem = error
        except BaseException:
            sock.close()
            raise
    raise problem
