"""A plugin that misbehaves as its request's peer name says; the tests install it as a distribution of its own."""

from __future__ import annotations

import asyncio
import os
import pty
import resource
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any, NoReturn

import hsframework
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AuthMode, Demand, Endpoint, Handshaker, Protocol, Request, Result
from hsframework.netlink.spec import Specification, parse_specification

SPECIFICATION = parse_specification(
    "{name: toy, protocol: genetlink, attribute-sets: [{name: session, attributes: [{name: number, type: u32}]}]}"
)
GOOD = Result(session={"number": 7})
leaked: list[int] = []
hoard: list[bytearray] = []
tasks: list[asyncio.Task[None]] = []


class Toy(Protocol):
    name = "toy"
    groups = ("toy",)
    auth_modes = frozenset(AuthMode)
    understands = frozenset(Demand) - {Demand.TLS_POLICIES}

    @property
    def specification(self) -> Specification:
        return SPECIFICATION

    def prepare(self, settings: Any) -> Handshaker:
        return ToyHandshaker()


class ToyHandshaker(Handshaker):
    async def handshake(self, request: Request, endpoint: Endpoint) -> Any:
        await endpoint.send(b"toy")
        behave = globals()[request.peer_name or "well"]
        return await behave(endpoint)


async def well(endpoint: Endpoint) -> Result:
    return GOOD


async def refuses(endpoint: Endpoint) -> NoReturn:
    raise HandshakeFailed(Failure.UNTRUSTED, "the toy does not like this peer")


async def raises(endpoint: Endpoint) -> NoReturn:
    raise ValueError("a fault in the toy")


async def raises_system_exit(endpoint: Endpoint) -> NoReturn:
    sys.exit("the toy has had enough")


async def raises_cancelled(endpoint: Endpoint) -> NoReturn:
    raise asyncio.CancelledError


async def returns_nonsense(endpoint: Endpoint) -> object:
    return 42


async def returns_a_nonsense_result(endpoint: Endpoint) -> object:
    return Result(session={"number": "seven"}, tags={"a": 3})  # type: ignore[dict-item]


async def returns_too_much(endpoint: Endpoint) -> object:
    return Result(session={"number": 7}, tags={str(number): "x" * 1000 for number in range(1000)})


async def success_without_a_session(endpoint: Endpoint) -> Result:
    return Result()


async def claims_a_session_in_the_kernel(endpoint: Endpoint) -> Result:
    return Result(in_kernel=True)


async def never_returns(endpoint: Endpoint) -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError


async def swallows_cancellation(endpoint: Endpoint) -> NoReturn:
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue


async def closes_the_socket(endpoint: Endpoint) -> NoReturn:
    endpoint.socket.close()
    await endpoint.receive_exactly(1)
    raise AssertionError


async def closes_the_fd(endpoint: Endpoint) -> NoReturn:
    os.close(endpoint.socket.fileno())
    await endpoint.receive_exactly(1)
    raise AssertionError


async def closes_the_socket_while_it_reads(endpoint: Endpoint) -> Result:
    reading = asyncio.create_task(endpoint.receive_exactly(1))
    await asyncio.sleep(0)
    endpoint.socket.close()
    tasks.append(reading)  # type: ignore[arg-type]
    return GOOD


async def leaks_the_fd(endpoint: Endpoint) -> Result:
    leaked.append(os.dup(endpoint.socket.fileno()))
    return GOOD


async def leaves_a_task(endpoint: Endpoint) -> Result:
    tasks.append(asyncio.create_task(swallows_cancellation(endpoint)))
    return GOOD


async def prints(endpoint: Endpoint) -> Result:
    print("the toy talks")
    print("the toy complains", file=sys.stderr)
    return GOOD


async def forks(endpoint: Endpoint) -> Result:
    if not os.fork():
        await never_returns(endpoint)
    return GOOD


async def forks_a_terminal(endpoint: Endpoint) -> Result:
    pty.fork()
    return GOOD


async def starts_a_program(endpoint: Endpoint) -> Result:
    subprocess.run(["true"], check=True)  # noqa: ASYNC221
    return GOOD


async def exhausts_memory(endpoint: Endpoint) -> NoReturn:
    while True:
        hoard.append(bytearray(16 << 20))


async def exhausts_files(endpoint: Endpoint) -> NoReturn:
    while True:
        leaked.append(os.dup(0))


async def leaks_nearly_all(endpoint: Endpoint) -> Result:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    while not leaked or leaked[-1] < limit - 12:
        leaked.append(os.dup(0))
    return GOOD


async def exits(endpoint: Endpoint) -> NoReturn:
    os._exit(7)


async def blocks(endpoint: Endpoint) -> NoReturn:
    while True:
        time.sleep(0.1)  # noqa: ASYNC251


@hsframework.hookimpl
def hsframework_protocols() -> Iterable[Protocol]:
    return [Toy()]
