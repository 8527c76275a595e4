"""A plugin of a stranger: a toy protocol with a group, attributes and sessions of its own, and a say in who connects.

The toy handshake is one line each way, the client's first: ``TOY word`` and ``YOT word count``, where ``count`` is the
number that the server was asked to give.  The "session" shifts every byte by ``count``.
"""

from __future__ import annotations

import asyncio
import socket as _socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hsframework
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import (
    AsyncStream,
    Endpoint,
    EstablishedSession,
    Handshaker,
    PeerIdentity,
    Protocol,
    Request,
    Result,
    Role,
    Secret,
    Stream,
)
from hsframework.netlink.spec import Specification, parse_specification

GROUP = "toy"
UNWELCOME = "unwelcome.example"

SPECIFICATION = parse_specification(
    """
name: toy
protocol: genetlink
doc: A toy.
attribute-sets:
  - name: request
    attributes:
      - {name: word, type: string, doc: what is sent to the peer}
      - {name: count, type: u32, doc: "of a server, how far to shift"}
  - name: session
    attributes:
      - {name: count, type: u32}
      - {name: pepper, type: binary}
""",
    sensitive="session: [pepper]",
)


def install(folder: Path) -> None:
    """Install as pip would: a module, and a distribution whose entry point names it."""
    (folder / "hs_toy.py").write_text(Path(__file__).read_text("utf-8"), "utf-8")
    information = folder / "hs_toy-0.7.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: hs-toy\nVersion: 0.7\n")
    (information / "entry_points.txt").write_text("[hsframework]\ntoy = hs_toy\n")


@dataclass(frozen=True)
class Settings:
    """``greeting``: the first word of a client's line."""

    greeting: str = "TOY"


class ToyProtocol(Protocol):
    name = "toy"
    groups = (GROUP,)
    settings_type = Settings

    @property
    def specification(self) -> Specification:
        return SPECIFICATION

    def prepare(self, settings: Settings) -> Handshaker:
        return ToyHandshaker(settings)


class ToyHandshaker(Handshaker):
    def __init__(self, settings: Settings) -> None:
        self._greeting = settings.greeting

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        word = str(request.attributes.get("word", "nothing"))
        if request.role is Role.CLIENT:
            await endpoint.send(f"{self._greeting} {word}\n".encode())
            theirs, count = self._parse(await _line(endpoint), "YOT", 2)
        else:
            (theirs,) = self._parse(await _line(endpoint), self._greeting, 1)
            count = str(request.attributes["count"])
            await endpoint.send(f"YOT {word} {count}\n".encode())
        session = {"count": int(count), "pepper": Secret(theirs.encode())}
        return Result(peer=PeerIdentity(psk_identity=theirs.encode()), session=session, tags={"word": theirs})

    @staticmethod
    def _parse(line: bytes, greeting: str, size: int) -> list[str]:
        first, *words = line.decode("ascii", "replace").split(" ")
        if first != greeting or len(words) != size:
            raise HandshakeFailed(Failure.GARBAGE, "not a toy")
        return words


async def _line(endpoint: Endpoint) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        line += await endpoint.receive_exactly(1)
    return bytes(line[:-1])


def shifted(data: bytes, count: int) -> bytes:
    """Return every byte plus ``count``."""
    return bytes((byte + count) % 256 for byte in data)


class ToyStream:
    """Implements Stream."""

    def __init__(self, sock: _socket.socket, count: int) -> None:
        self._socket, self._count = sock, count

    def send(self, data: bytes) -> None:
        self._socket.sendall(shifted(data, self._count))

    def receive(self, max_size: int = 65536) -> bytes:
        return shifted(self._socket.recv(max_size), -self._count)

    def send_eof(self) -> None:
        self._socket.shutdown(_socket.SHUT_WR)

    def close(self) -> None:
        pass


class AsyncToyStream:
    """Implements AsyncStream."""

    def __init__(self, sock: _socket.socket, count: int) -> None:
        self._socket, self._count = sock, count

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, shifted(data, self._count))

    async def receive(self, max_size: int = 65536) -> bytes:
        return shifted(await asyncio.get_running_loop().sock_recv(self._socket, max_size), -self._count)

    async def send_eof(self) -> None:
        self._socket.shutdown(_socket.SHUT_WR)

    async def close(self) -> None:
        pass


@hsframework.hookimpl
def hsframework_protocols() -> Iterable[Protocol]:
    return [ToyProtocol()]


@hsframework.hookimpl
def hsframework_attach_session(
    session: EstablishedSession, socket: _socket.socket, asynchronous: bool
) -> Stream | AsyncStream | None:
    if session.protocol != "toy":
        return None
    count: int = session.parameters["count"]
    return AsyncToyStream(socket, count) if asynchronous else ToyStream(socket, count)


@hsframework.hookimpl
def hsframework_authorize(request: Request, peer: PeerIdentity) -> None:
    shown: tuple[Any, ...] = (*peer.certificates, peer.psk_identity or b"")
    if any(UNWELCOME.encode() in item for item in shown):
        raise HandshakeFailed(Failure.NOT_AUTHORIZED, UNWELCOME)
