"""Handshakes of two in-kernel QUIC sockets through every door that there is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from hsframework.errors import HandshakeError
from hsframework.interface import Result, Role
from hsframework.testing.certificates import Authority
from hsframework_quic.kernel import structs as kernel
from tests.unit.quic.kernel_doors import Door, KernelDoor, StandInDoor, is_established, request, shake
from tests.unit.quic.kernel_stand_in import StandIn, module_is_here

ROOT = Authority("Kernel QUIC Root")
SERVER = ROOT.issue(["server.example"])
CLIENT = ROOT.issue(["client.example"])
ALPN = {kernel.ALPN: b"smb"}
DOORS: list[type[StandInDoor | KernelDoor]] = [StandInDoor, *([KernelDoor] if module_is_here() else [])]
Kind = type[StandInDoor | KernelDoor]


def run(kind: Kind, scenario: Callable[[Door], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with AsyncExitStack() as stack:
            await scenario(kind(stack))

    asyncio.run(whole())


def client_request(**wanted: Any) -> Any:
    fields = {"trust": ROOT.trust(), "peer_name": "server.example", "identities": (CLIENT.identity,), **wanted}
    return request(Role.CLIENT, **fields)


def server_request(**wanted: Any) -> Any:
    return request(Role.SERVER, **{"trust": ROOT.trust(), "identities": (SERVER.identity,), **wanted})


async def meet(
    door: Door,
    *,
    client: dict[str, Any] | None = None,
    server: dict[str, Any] | None = None,
    client_options: dict[int, bytes] | None = None,
    server_options: dict[int, bytes] | None = None,
    version: int = 1,
    chunk: int = 65536,
) -> tuple[Any, Any, Any, Any]:
    """Let both ends be ours, and return the two sockets and the outcome of each: a result or an error."""
    address, accepted = await door.server(options={**ALPN, **(server_options or {})})
    ours = await door.client(address, options={**ALPN, **(client_options or {})}, version=version)

    async def serve() -> tuple[Any, Result]:
        sock = await asyncio.wait_for(accepted, 10)
        if isinstance(sock, StandIn):
            sock.chunk = chunk
        return sock, await result_of(shake(door, sock, server_request(**(server or {}))))

    if isinstance(ours, StandIn):
        ours.chunk = chunk
    serving = asyncio.ensure_future(serve())
    outcome = await result_of(shake(door, ours, client_request(**(client or {}))))
    if isinstance(outcome, Exception):
        ours.close()  # the only way to tell the server
    theirs, served = await asyncio.wait_for(serving, 10)
    return ours, theirs, outcome, served


async def result_of(handshake: Awaitable[Result]) -> Any:
    try:
        return await handshake
    except (HandshakeError, TimeoutError) as error:
        return error


async def exchange(door: Door, ours: Any, theirs: Any) -> None:
    """Check that the session is there and is the consumer's."""
    assert is_established(door, ours)
    assert is_established(door, theirs)
    door.send_application_data(ours, b"to the server" * 500)
    assert await asyncio.wait_for(door.application_data(theirs, 13 * 500), 10) == b"to the server" * 500
    if isinstance(ours, StandIn):
        assert ours.reads_after_establishment == theirs.reads_after_establishment == 0
        for level in (kernel.APPLICATION, kernel.HANDSHAKE):
            for sending in (False, True):
                assert ours.secrets[sending, level] == theirs.secrets[not sending, level]
