"""Serving a datagram protocol on one port: a connected socket for each client, ready to be handed over.

::

    with Client() as client, UdpListener("::", 4433) as listener:
        while True:
            newcomer = listener.accept()
            session = newcomer.handshake(client, options)       # in a thread of its own, in a server

How clients are told apart, and which are let in: :mod:`.newcomers`.  With the blocking listener, what arrives is
looked at during ``accept`` alone, and waits in the socket meanwhile; the asyncio one looks at all times.
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

from hsframework.client.newcomers import HalfOpen, Newcomers
from hsframework.client.udp import Port
from hsframework.errors import ConfigurationError, HsframeworkError, PluginError
from hsframework.interface import AddressValidation, Gate

if TYPE_CHECKING:
    from hsframework.client.aio import AsyncClient
    from hsframework.client.request import HandshakeOptions
    from hsframework.client.session import AsyncSession, Session
    from hsframework.client.sync import Client
    from hsframework.registry.plugins import Registry

MAX_HALF_OPEN = 256


class BaseNewcomer:
    """A client whose handshake is to be run."""

    def __init__(self, half_open: HalfOpen) -> None:
        self._half_open = half_open

    @property
    def socket(self) -> socket.socket:
        """Connected to the client.  The caller's to close."""
        return self._half_open.socket

    @property
    def address(self) -> str:
        """``address:port`` of the client."""
        return self._half_open.address

    @property
    def attributes(self) -> Mapping[str, Any]:
        """For the request: what the client has sent so far."""
        return self._half_open.attributes

    def options(self, options: HandshakeOptions) -> HandshakeOptions:
        """``options`` with this client's attributes.

        Raises ConfigurationError for attributes that are encoded already.
        """
        if isinstance(options.attributes, bytes):
            raise ConfigurationError("attributes: give a mapping; the listener adds the client's first datagrams to it")
        return dataclasses.replace(options, attributes={**options.attributes, **self.attributes})

    def close(self) -> None:
        """Turn it away, by silence."""
        self._half_open.done()
        self.socket.close()


class Newcomer(BaseNewcomer):
    """A client at a :class:`UdpListener`."""

    def handshake(self, client: Client, options: HandshakeOptions) -> Session:
        """As :meth:`hsframework.client.Client.handshake` for this client's socket."""
        try:
            return client.handshake(self.socket, self.options(options))
        finally:
            self._half_open.done()


class AsyncNewcomer(BaseNewcomer):
    """A client at an :class:`AsyncUdpListener`."""

    async def handshake(self, client: AsyncClient, options: HandshakeOptions) -> AsyncSession:
        """As :meth:`hsframework.client.AsyncClient.handshake` for this client's socket."""
        try:
            return await client.handshake(self.socket, self.options(options))
        finally:
            self._half_open.done()


class BaseListener:
    """``host``: ``"::"`` for every address, of IPv4 too where the system has it so; ``"0.0.0.0"`` for those of IPv4.

    ``protocol``: whose clients come.  ``validation``: when they must prove their address first (QUIC: Retry).
    ``max_half_open``: clients whose handshake has not ended; beyond it new ones wait.  Raises PluginError for a
    protocol that is not installed here, ConfigurationError for one whose clients do not come by datagrams,
    HsframeworkError for a port that cannot be had.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        protocol: str = "quic",
        validation: AddressValidation = AddressValidation.UNDER_LOAD,
        max_half_open: int = MAX_HALF_OPEN,
        registry: Registry | None = None,
    ) -> None:
        if max_half_open < 1:
            raise ConfigurationError(f"max_half_open is {max_half_open}: let at least one client in")
        gate = _gate(protocol, validation, registry)
        self._port = Port(host, port)
        self._newcomers = Newcomers(self._port, gate, max_half_open)

    @property
    def address(self) -> Any:
        """Where it listens, as ``getsockname`` has it."""
        return self._port.address

    def _close(self) -> None:
        self._newcomers.close()
        self._port.close()


class UdpListener(BaseListener):
    """The blocking listener.  Several threads may accept."""

    def __init__(self, host: str, port: int, **options: Any) -> None:
        super().__init__(host, port, **options)
        self._lock = threading.Lock()
        self._closed = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def accept(self, timeout: float | None = None) -> Newcomer:
        """The next client.

        Raises TimeoutError after ``timeout`` seconds; HsframeworkError, EBADF, once it is closed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        # Another thread may have it for as long as no client comes.
        if not self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            raise TimeoutError("timed out")
        try:
            while True:
                if self._closed < 0:
                    raise HsframeworkError("the listener is closed", errno=errno.EBADF)
                half_open = self._newcomers.take(time.monotonic())
                if half_open is not None:
                    return Newcomer(half_open)
                poller = select.poll()
                poller.register(self._port, select.POLLIN)
                poller.register(self._closed, select.POLLIN)
                ready = poller.poll(
                    None if deadline is None else math.ceil(max(0.0, deadline - time.monotonic()) * 1000)
                )
                if not ready:
                    raise TimeoutError("timed out")
                if any(fd == self._closed for fd, _ in ready):
                    raise HsframeworkError("the listener is closed", errno=errno.EBADF)
        finally:
            self._lock.release()

    def close(self) -> None:
        """Listen no more; the clients that were handed out stay."""
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
    """The same over asyncio; to be made while the event loop runs."""

    def __init__(self, host: str, port: int, **options: Any) -> None:
        super().__init__(host, port, **options)
        self._loop = asyncio.get_running_loop()
        self._accepting: set[asyncio.Future[None]] = set()
        self._open = True
        self._loop.add_reader(self._port.fileno(), self._on_readable)

    async def accept(self) -> AsyncNewcomer:
        """The next client.  Raises HsframeworkError, EBADF, once it is closed."""
        while True:
            if not self._open:
                raise HsframeworkError("the listener is closed", errno=errno.EBADF)
            half_open = self._newcomers.take(self._loop.time())
            if half_open is not None:
                half_open.socket.setblocking(False)
                return AsyncNewcomer(half_open)
            future: asyncio.Future[None] = self._loop.create_future()
            self._accepting.add(future)
            try:
                await future
            finally:
                self._accepting.discard(future)

    def close(self) -> None:
        """Listen no more; the clients that were handed out stay."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._port.fileno())
            self._close()
            self._wake()

    def _on_readable(self) -> None:
        self._newcomers.take_in(self._loop.time())
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
