"""A plugin whose sessions are plain text, installed by the tests as a distribution of its own."""

from __future__ import annotations

import asyncio
import socket as _socket
from collections.abc import Iterable
from typing import Any

import hsframework
from hsframework.interface import AuthMode, Demand, EstablishedSession, Handshaker, Protocol
from hsframework.netlink.spec import Specification, parse_specification

SPECIFICATION = parse_specification(
    """
name: tiny
protocol: genetlink
attribute-sets:
  - name: request
    attributes:
      - {name: word, type: string}
      - {name: number, type: u32}
      - {name: open, type: flag}
      - {name: peer, type: binary, multi-attr: true}
      - {name: key, type: binary}
      - {name: inner, type: nest, nested-attributes: session}
  - name: session
    attributes: [{name: number, type: u32}]
""",
    sensitive="request: [key]",
)


class Tiny(Protocol):
    name = "tiny"
    groups = ("tiny", "small")
    auth_modes = frozenset(AuthMode)
    understands = frozenset(Demand)

    @property
    def specification(self) -> Specification:
        return SPECIFICATION

    def prepare(self, settings: Any) -> Handshaker:
        raise NotImplementedError


class PlainStream:
    def __init__(self, sock: _socket.socket) -> None:
        self._socket = sock

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def receive(self, max_size: int = 65536) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._socket, max_size)

    async def send_eof(self) -> None:
        self._socket.shutdown(_socket.SHUT_WR)

    async def close(self) -> None:
        pass


@hsframework.hookimpl
def hsframework_protocols() -> Iterable[Protocol]:
    return [Tiny()]


@hsframework.hookimpl
def hsframework_attach_session(
    session: EstablishedSession, socket: _socket.socket, asynchronous: bool
) -> PlainStream | None:
    return PlainStream(socket) if session.protocol == "tiny" and asynchronous else None
