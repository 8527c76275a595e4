"""httpx's AsyncClient over sessions (``pip install hsframework[httpx]``).

::

    async with AsyncClient() as client:
        transport = SessionTransport(client, trust=load_trust(["ca.pem"]))
        async with httpx.AsyncClient(transport=transport) as web:
            await web.get("https://server.example/")

The blocking ``httpx.Client`` takes a :class:`.context.SessionContext` as ``verify``.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import httpcore
import httpx

from hsframework.adapters.aio import connect
from hsframework.adapters.facts import SessionFacts
from hsframework.adapters.template import OptionsTemplate
from hsframework.client import AsyncClient, AsyncSession


class SessionTransport(httpx.AsyncHTTPTransport):
    """A transport for ``httpx.AsyncClient``.

    ``fields``: those of :class:`~hsframework.client.HandshakeOptions`; the peer's name is the URL's host.  HTTP/1.1
    alone.  Raises ConfigurationError.
    """

    def __init__(
        self,
        client: AsyncClient,
        *,
        limits: httpx.Limits | None = None,
        retries: int = 0,
        **fields: Any,
    ) -> None:
        protocols: Any = _Protocols()
        super().__init__(verify=protocols, trust_env=False)
        limits = limits or httpx.Limits(max_connections=100, max_keepalive_connections=20)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=protocols,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            retries=retries,
            network_backend=Backend(client, OptionsTemplate(**fields)),
        )


class _Protocols:
    """The application protocols that httpcore offers, in the place of an ``ssl.SSLContext``."""

    offered: tuple[str, ...] = ()

    def set_alpn_protocols(self, protocols: Sequence[str]) -> None:
        self.offered = tuple(protocols)


class Backend(httpcore.AsyncNetworkBackend):
    """The network of httpcore, with our handshake in the place of ``ssl``'s."""

    def __init__(self, client: AsyncClient, template: OptionsTemplate) -> None:
        self._client = client
        self._template = template

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect; ``local_address`` is not supported."""
        with _errors(httpcore.ConnectTimeout, httpcore.ConnectError):
            async with asyncio.timeout(timeout):
                sock = await connect(host, port)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option in socket_options or ():
            sock.setsockopt(*option)
        return _Plain(sock, self._client, self._template)

    async def sleep(self, seconds: float) -> None:
        """Wait before another attempt to connect."""
        await asyncio.sleep(seconds)


class _Plain(httpcore.AsyncNetworkStream):
    """A connection before its handshake, or without one."""

    def __init__(self, sock: socket.socket, client: AsyncClient, template: OptionsTemplate) -> None:
        self._socket = sock
        self._client = client
        self._template = template
        self._loop = asyncio.get_running_loop()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _errors(httpcore.ReadTimeout, httpcore.ReadError):
            async with asyncio.timeout(timeout):
                return await self._loop.sock_recv(self._socket, max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with _errors(httpcore.WriteTimeout, httpcore.WriteError):
            async with asyncio.timeout(timeout):
                await self._loop.sock_sendall(self._socket, buffer)

    async def aclose(self) -> None:
        self._socket.close()

    async def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        options = self._template.for_peer(server_hostname, ssl_context.offered)
        try:
            with _errors(httpcore.ConnectTimeout, httpcore.ConnectError):
                async with asyncio.timeout(timeout):
                    session = await self._client.handshake(self._socket, options)
            return _Protected(session, options.peer_name)
        except BaseException:
            self._socket.close()
            raise

    def get_extra_info(self, info: str) -> Any:
        return _connection_info(self._socket, info)


class _Protected(httpcore.AsyncNetworkStream):
    """A session."""

    def __init__(self, session: AsyncSession, name: str | None) -> None:
        self._socket = session.socket
        self._stream = session.stream()
        self._facts = SessionFacts(session, name)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _errors(httpcore.ReadTimeout, httpcore.ReadError):
            async with asyncio.timeout(timeout):
                return await self._stream.receive(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with _errors(httpcore.WriteTimeout, httpcore.WriteError):
            async with asyncio.timeout(timeout):
                await self._stream.send(buffer)

    async def aclose(self) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_PATIENCE):
                    await self._stream.close()
        finally:
            self._socket.close()

    def get_extra_info(self, info: str) -> Any:
        return self._facts if info == "ssl_object" else _connection_info(self._socket, info)


_CLOSE_PATIENCE = 3.0


def _connection_info(sock: socket.socket, info: str) -> Any:
    if info == "is_readable":  # an idle connection that is readable has ended
        poller = select.poll()
        if sock.fileno() >= 0:
            poller.register(sock, select.POLLIN)
        return sock.fileno() < 0 or bool(poller.poll(0))
    if info == "client_addr":
        return sock.getsockname()
    if info == "server_addr":
        return sock.getpeername()
    return sock if info == "socket" else None


@contextlib.contextmanager
def _errors(timeout: type[Exception], other: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise timeout(str(error)) from error
    except OSError as error:
        raise other(str(error)) from error
