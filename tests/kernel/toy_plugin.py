"""A toy protocol in a group of its own, both with the name under which a test installs it (``hs_NAME``).

Each side sends one line or datagram, ``NAME role``, and wants the other's.  All there is of a session is the agent's
word that it is in the kernel.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

import hsframework
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AuthMode, Demand, Endpoint, Handshaker, PeerIdentity, Protocol, Request, Result

NAME = __name__.removeprefix("hs_")


class Toy(Protocol):
    name = NAME
    groups = (NAME,)
    auth_modes = frozenset(AuthMode)
    understands = frozenset(Demand) - {Demand.TLS_POLICIES}
    socket_protocols = frozenset({socket.IPPROTO_TCP, socket.IPPROTO_UDP})

    def prepare(self, settings: Any) -> Handshaker:
        return ToyHandshaker()


class ToyHandshaker(Handshaker):
    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        await endpoint.send(f"{NAME} {request.role.name}\n".encode())
        if endpoint.socket.type == socket.SOCK_DGRAM:
            line = await endpoint.receive_datagram()
        else:
            line = b""
            while not line.endswith(b"\n"):
                line += await endpoint.receive_exactly(1)
        name, _, role = line.decode().strip().partition(" ")
        if name != NAME or role == request.role.name:
            raise HandshakeFailed(Failure.GARBAGE, f"{line!r} from the peer")
        return Result(in_kernel=True, peer=PeerIdentity())


@hsframework.hookimpl
def hsframework_protocols() -> Iterable[Protocol]:
    return [Toy()]
