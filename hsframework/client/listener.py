"""Listeners for datagram protocols: one UDP port, and a connected socket for each newcomer.

::

    with Client() as client, UdpListener("::", 4433) as listener:
        while True:
            newcomer = listener.accept()
            session = newcomer.handshake(client, options)       # in a thread of its own, in a server

The rules by which newcomers are told apart and let in are in :mod:`.newcomers`.  The blocking listener reads its port
during ``accept`` only, and datagrams wait in the socket meanwhile; the asyncio listener reads it at all times.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import math
import os
import select
import socket
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hsframework.client.newcomers import Newcomers, TakenNewcomer
from hsframework.client.udp import Port
from hsframework.errors import ClientError, ConfigurationError, PluginError
from hsframework.interface import AddressValidation, Gate

if TYPE_CHECKING:
    from hsframework.client.aio import AsyncClient
    from hsframework.client.request import HandshakeOptions
    from hsframework.client.session import AsyncSession, Session
    from hsframework.client.sync import Client
    from hsframework.registry.plugins import Registry

MAX_HALF_OPEN = 256
"""Default for ``max_half_open``: newcomers whose handshake has not ended."""


class BaseNewcomer:
    """A new client of a listener, whose handshake has not begun."""

    def __init__(self, taken: TakenNewcomer) -> None:
        self._taken = taken

    @property
    def socket(self) -> socket.socket:
        """UDP socket connected to the client.  The caller closes it."""
        return self._taken.socket

    @property
    def address(self) -> str:
        """``address:port`` of the client."""
        return self._taken.address

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Attributes for the request: among them the datagrams that the client has sent so far."""
        return self._taken.attributes

    def options(self, options: HandshakeOptions) -> HandshakeOptions:
        """Return ``options`` with this client's attributes added.

        Raises ConfigurationError for attributes that are already encoded.
        """
        if isinstance(options.attributes, bytes):
            raise ConfigurationError("attributes: give a mapping; the listener adds the client's first datagrams to it")
        return dataclasses.replace(options, attributes={**options.attributes, **self.attributes})

    def close(self) -> None:
        """Turn the client away without an answer, and close its socket."""
        self._taken.done()
        self.socket.close()


class Newcomer(BaseNewcomer):
    """A new client of a :class:`UdpListener`."""

    def handshake(self, client: Client, options: HandshakeOptions) -> Session:
        """Run the handshake on the newcomer's socket, as :meth:`hsframework.client.Client.handshake` does."""
        try:
            return client.handshake(self.socket, self.options(options))
        finally:
            self._taken.done()


class AsyncNewcomer(BaseNewcomer):
    """A new client of an :class:`AsyncUdpListener`."""

    async def handshake(self, client: AsyncClient, options: HandshakeOptions) -> AsyncSession:
        """Run the handshake on the newcomer's socket, as :meth:`hsframework.client.AsyncClient.handshake` does."""
        try:
            return await client.handshake(self.socket, self.options(options))
        finally:
            self._taken.done()


class BaseListener:
    """A UDP port on which the clients of one datagram protocol are accepted.

    ``host``: ``"::"`` for every address (of IPv4 too, unless the system separates the two), ``"0.0.0.0"`` for every
    IPv4 address.  ``port``: 0 for a free one.  ``sock``: in place of both, a UDP socket that is bound and not connected
    (activation, or a predecessor's at a reload); it is the listener's from then on.  ``protocol``: name of the
    protocol.  ``validation``: when newcomers must prove their address first (QUIC: Retry, RFC 9000 section 8.1.2).
    ``max_half_open``: newcomers whose handshake has not ended; beyond it new ones get no answer.

    Raises PluginError for a protocol that is not installed here, ConfigurationError for a protocol that does not use
    datagrams, ClientError for an address or port that cannot be bound.
    """

    def __init__(
        self,
        host: str = "",
        port: int = 0,
        *,
        sock: socket.socket | None = None,
        protocol: str = "quic",
        validation: AddressValidation = AddressValidation.UNDER_LOAD,
        max_half_open: int = MAX_HALF_OPEN,
        registry: Registry | None = None,
    ) -> None:
        if max_half_open < 1:
            raise ConfigurationError(f"max_half_open is {max_half_open}: let at least one client in")
        gate = _gate(protocol, validation, registry)
        self._port = Port(host, port, sock)
        self._newcomers = Newcomers(self._port, gate, max_half_open)

    @property
    def address(self) -> Any:
        """Address of the listening socket, as ``getsockname`` returns it."""
        return self._port.address

    def _close(self) -> None:
        self._newcomers.close()
        self._port.close()


class UdpListener(BaseListener):
    """A blocking listener.  Several threads may call ``accept`` at once."""

    def __init__(self, host: str = "", port: int = 0, **options: Any) -> None:
        super().__init__(host, port, **options)
        self._lock = threading.Lock()
        self._closed = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def accept(self, timeout: float | None = None) -> Newcomer:
        """Wait for the next newcomer and return it.

        ``timeout``: seconds; None: without limit.  Raises TimeoutError, and ClientError (EBADF) once the listener
        is closed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        # Another thread may hold the lock for as long as no newcomer arrives.
        if not self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            raise TimeoutError("timed out")
        try:
            while True:
                if self._closed < 0:
                    raise ClientError("the listener is closed", errno=errno.EBADF)
                taken = self._newcomers.take(time.monotonic())
                if taken is not None:
                    return Newcomer(taken)
                poller = select.poll()
                poller.register(self._port, select.POLLIN)
                poller.register(self._closed, select.POLLIN)
                ready = poller.poll(
                    None if deadline is None else math.ceil(max(0.0, deadline - time.monotonic()) * 1000)
                )
                if not ready:
                    raise TimeoutError("timed out")
                if any(fd == self._closed for fd, _ in ready):
                    raise ClientError("the listener is closed", errno=errno.EBADF)
        finally:
            self._lock.release()

    def close(self) -> None:
        """Stop listening; newcomers that were returned by ``accept`` keep their sockets."""
        if self._closed >= 0:
            os.eventfd_write(self._closed, 1)
            with self._lock:
                os.close(self._closed)
                self._closed = -1
                self._close()

    def __enter__(self) -> UdpListener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncUdpListener(BaseListener):
    """A listener for asyncio.  Create it while the event loop runs."""

    def __init__(self, host: str = "", port: int = 0, **options: Any) -> None:
        super().__init__(host, port, **options)
        self._loop = asyncio.get_running_loop()
        self._accepting: set[asyncio.Future[None]] = set()
        self._open = True
        self._loop.add_reader(self._port.fileno(), self._on_readable)

    async def accept(self) -> AsyncNewcomer:
        """Wait for the next newcomer and return it.  Raises ClientError (EBADF) once the listener is closed."""
        while True:
            if not self._open:
                raise ClientError("the listener is closed", errno=errno.EBADF)
            taken = self._newcomers.take(self._loop.time())
            if taken is not None:
                taken.socket.setblocking(False)
                return AsyncNewcomer(taken)
            future: asyncio.Future[None] = self._loop.create_future()
            self._accepting.add(future)
            try:
                await future
            finally:
                self._accepting.discard(future)

    def close(self) -> None:
        """Stop listening; newcomers that were returned by ``accept`` keep their sockets."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._port.fileno())
            self._close()
            self._wake()

    def _on_readable(self) -> None:
        self._newcomers.read_port(self._loop.time())
        if self._newcomers.waiting:
            self._wake()

    def _wake(self) -> None:
        for future in self._accepting:
            if not future.done():
                future.set_result(None)

    def __enter__(self) -> AsyncUdpListener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _gate(protocol: str, validation: AddressValidation, registry: Registry | None) -> Gate:
    from hsframework.client.session import installed_plugins

    entry = (registry or installed_plugins()).protocols.get(protocol)
    if entry is None:
        raise PluginError(f"no plugin that is installed here serves {protocol!r}: install hsframework-{protocol}")
    gate = entry.protocol.gate(validation)
    if gate is None:
        raise ConfigurationError(
            f"clients of {protocol!r} do not come by UDP: accept their connections on a TCP socket"
        )
    return gate
