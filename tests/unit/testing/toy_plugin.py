"""A plugin that keeps every rule, on streams and on datagrams; the broken ones are made from it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import hsframework
from hsframework.client import HandshakeOptions
from hsframework.errors import ConfigurationError, StreamError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import (
    AsyncStream,
    AuthMode,
    Endpoint,
    EstablishedSession,
    Handshaker,
    Protocol,
    Request,
    Result,
    Role,
    Secret,
    Stream,
)
from hsframework.netlink.spec import Specification, parse_specification
from hsframework.testing.conformance import Scenario
from tests.unit.testing.toy_exchange import Exchange, body_size, keystream

SPECIFICATION = parse_specification(
    """
name: toy
attribute-sets:
  - {name: request, attributes: [{name: key, type: binary}]}
  - {name: session, attributes: [{name: key, type: binary}]}
operations: {list: []}
""",
    sensitive="{request: [key], session: [key]}",
)


@dataclass(frozen=True)
class ToySettings:
    """``tries``: how often a datagram is sent."""

    tries: int = 6

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise ConfigurationError(f"plugins.toy.tries is {self.tries}: give a number from 1 up")


class ToyHandshaker(Handshaker):
    """On a stream."""

    def __init__(self, settings: ToySettings) -> None:
        self.settings = settings

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        if request.kernel_consumer:
            raise HandshakeFailed(Failure.NO_KERNEL_SESSION, "no kernel has a toy")
        exchange = self.exchange(request)
        await self.converse(exchange, endpoint)
        return self.result(exchange)

    def exchange(self, request: Request) -> Exchange:
        return Exchange(request.role, request.attributes["key"], os.urandom(16))

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        output = exchange.begin()
        while True:
            if output:
                await endpoint.send(output)
            if exchange.finished:
                return
            output = exchange.feed(await self.receive(endpoint))

    async def receive(self, endpoint: Endpoint) -> bytes:
        return await endpoint.receive_record(2, body_size)

    def result(self, exchange: Exchange) -> Result:
        return Result(session={"key": exchange.session_key()}, tags={"version": "1"})


class DatagramHandshaker(ToyHandshaker):
    """On datagrams: what is not answered is sent again, what makes no sense is passed over."""

    async def converse(self, exchange: Exchange, endpoint: Endpoint) -> None:
        output = exchange.begin()
        heard: set[bytes] = set()
        while not exchange.finished:
            if output:
                await endpoint.send(output)
            try:
                async with asyncio.timeout(0.3):
                    message = await endpoint.receive_datagram()
            except TimeoutError:
                continue
            if message in heard or body_size(message[:2]) != len(message) - 2:
                continue
            heard.add(message)
            output = exchange.feed(message)
        for _ in range(self.settings.tries if output else 0):
            await endpoint.send(output)


class ToyStream:
    """Implements AsyncStream: records of two bytes of length and a body; length 0 ends a direction.

    Encrypted, and nothing more: the stream of those that are not asked for protection.
    """

    first_received = 0

    def __init__(self, sock: socket.socket, role: Role, key: Secret) -> None:
        self._socket = sock
        self._role, self._peer = role, Role.SERVER if role is Role.CLIENT else Role.CLIENT
        self._key = key
        self._sent, self._received = 0, self.first_received
        self._rest = b""
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        for start in range(0, len(data), 1000):
            await self._send_record(data[start : start + 1000])

    async def _send_record(self, data: bytes) -> None:
        pad = keystream(self._key, self._role, self._sent, len(data))
        self._sent += 1
        record = len(data).to_bytes(2, "big") + bytes(a ^ b for a, b in zip(data, pad, strict=True))
        record += self.seal(self._role, self._sent, data)
        await self._loop.sock_sendall(self._socket, record)

    async def receive(self, max_size: int = 65536) -> bytes:
        if not self._rest:
            size = int.from_bytes(await self._exactly(2), "big")
            pad = keystream(self._key, self._peer, self._received, size)
            self._received += 1
            data = bytes(a ^ b for a, b in zip(await self._exactly(size), pad, strict=True))
            seal = self.seal(self._peer, self._received, data)
            if await self._exactly(len(seal)) != seal:
                raise StreamError("a record does not verify")
            self._rest = data
        data, self._rest = self._rest[:max_size], self._rest[max_size:]
        return data

    def seal(self, role: Role, number: int, data: bytes) -> bytes:
        """Return what proves a record of ``role``: nothing."""
        return b""

    async def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = await self._loop.sock_recv(self._socket, size - len(data))
            if not more:
                raise ConnectionResetError("cut off")
            data += more
        return data

    async def send_eof(self) -> None:
        await self._send_record(b"")

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""


class SealedStream(ToyStream):
    """Each record ends with a proof of its sender, its number and its data."""

    def seal(self, role: Role, number: int, data: bytes) -> bytes:
        said = bytes([role]) + number.to_bytes(8, "big") + data
        return hmac.digest(self._key.reveal(), said, hashlib.sha256)


class ToyProtocol(Protocol):
    name = "toy"
    groups: tuple[str, ...] = ("toy",)
    settings_type: type[Any] | None = ToySettings
    auth_modes = frozenset(AuthMode)
    handshaker: ClassVar[type[ToyHandshaker]] = ToyHandshaker

    @property
    def specification(self) -> Specification:
        return SPECIFICATION

    def prepare(self, settings: Any) -> Handshaker:
        return self.handshaker(settings)


class DatagramProtocol(ToyProtocol):
    socket_protocols = frozenset({socket.IPPROTO_UDP})
    handshaker: ClassVar[type[ToyHandshaker]] = DatagramHandshaker


class ToyPlugin:
    """The hooks, for one protocol class."""

    def __init__(
        self, protocol: type[ToyProtocol] = ToyProtocol, stream: type[ToyStream] | None = SealedStream
    ) -> None:
        self._protocol = protocol
        self._stream = stream

    @hsframework.hookimpl
    def hsframework_protocols(self) -> Iterable[Protocol]:
        return [self._protocol()]

    @hsframework.hookimpl
    def hsframework_attach_session(
        self, session: EstablishedSession, socket: socket.socket, asynchronous: bool
    ) -> Stream | AsyncStream | None:
        if session.protocol != "toy" or self._stream is None or not asynchronous:
            return None
        return self._stream(socket, session.role, session.parameters["key"])


def plugin_with(handshaker: type[ToyHandshaker], base: type[ToyProtocol] = ToyProtocol, **names: Any) -> ToyPlugin:
    """Return the toy with another handshaker; ``names``: further attributes of the protocol."""
    protocol = type("Changed", (base,), {"handshaker": handshaker, **names})
    return ToyPlugin(protocol, None if issubclass(base, DatagramProtocol) else SealedStream)


KEY, OTHER_KEY = Secret(bytes(range(100, 132))), Secret(bytes(range(50, 82)))
CLIENT = HandshakeOptions(group="toy", attributes={"key": KEY})
SERVER = HandshakeOptions(group="toy", role=Role.SERVER, attributes={"key": KEY})
STRANGER = HandshakeOptions(group="toy", role=Role.SERVER, attributes={"key": OTHER_KEY})


def scenario_for(plugin: object, **changes: Any) -> Scenario:
    """Return the toy's scenario."""
    given: dict[str, Any] = {
        "client": CLIENT,
        "server": SERVER,
        "refused": {"another key": (CLIENT, STRANGER)},
        "wrong_settings": {"tries": {"tries": 0}},
        "sans_io": ("tests.unit.testing.toy_exchange",),
    }
    return Scenario(plugin=plugin, **{**given, **changes})
