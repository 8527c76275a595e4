"""The way of one request through the files, from a program's submit to its session.

Client, dispatcher and agent are the real ones, on one event loop; the plugin and its peer are the tests' own.  The way
is the sequence of files of ``hsframework`` whose functions are called (or coroutines resumed), repeats collapsed.
``pytest -s`` prints it.

A *return* is a move to a file that the way had left before.  Not counted are the helpers below all parts of the
service: channel, codec, deadlines, errors, metrics, the interface's types.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

import hsframework
from hsframework.agent.host import AgentHost
from hsframework.agent.served import prepare
from hsframework.client import AsyncClient
from hsframework.interface import Role
from hsframework.testing.dispatcher import registry_of
from tests.support.house import connected_pair, house
from tests.unit.testing.toy_exchange import Exchange, body_size
from tests.unit.testing.toy_plugin import CLIENT, KEY, ToyPlugin

PACKAGE = f"{Path(hsframework.__file__).parent}{os.sep}"
HELPERS = ("local/", "netlink/", "telemetry/", "interface", "errors.py", "failures.py")

MOST_RETURNS = {"": 56, "client/": 4, "dispatcher/": 28, "agent/": 18}
"""By part of the service, where the way through the others is left out; "": the whole."""


async def test_a_request_walks_forward() -> None:
    """From submit to result no part of the service goes back to a file more often than it is allowed to."""
    way = await _way_of_a_submit()
    print(f"\n{_drawn(way)}")
    found = {part: _returns(_part(way, part)) for part in MOST_RETURNS}
    print(f"{len(way) - 1} moves between {len(set(way))} files; returns: {found}")
    assert {"client/aio.py", "dispatcher/requests/core.py", "agent/link.py"} <= set(way)
    assert not {part: number for part, number in found.items() if number > MOST_RETURNS[part]}


def test_what_a_return_is() -> None:
    """A move to a file that was left before; the first visit to a file is none."""
    assert _returns(["a", "b", "c"]) == 0
    assert _returns(["a", "b", "a", "c", "b"]) == 2
    assert _part(["x/a", "y/b", "x/a", "x/c"], "x/") == ["x/a", "x/c"]


async def _way_of_a_submit() -> list[str]:
    """Return the way of a second handshake: what the first one has left remembered is used."""
    async with _served() as (client, loop):
        for _ in range(2):
            with connected_pair() as (ours, theirs):
                peer = loop.create_task(_converse(theirs))
                await asyncio.sleep(0)
                with _recorded() as way:
                    session = await client.handshake(ours, CLIENT)
                assert session.protocol == "toy"
                await peer
    return way


@contextlib.asynccontextmanager
async def _served() -> AsyncIterator[tuple[AsyncClient, asyncio.AbstractEventLoop]]:
    loop = asyncio.get_running_loop()
    registry = registry_of(ToyPlugin())
    joined = asyncio.Event()
    async with house() as home:
        path = home.folder / "agent.sock"
        host = AgentHost([prepare(registry, "toy")], registry, path, name="walker", on_joined=joined.set)
        serving = loop.create_task(host.run())
        await joined.wait()
        try:
            async with AsyncClient(home.folder, registry=registry) as client:
                yield client, loop
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


async def _converse(sock: socket.socket) -> None:
    """Play the toy's server, with nothing of hsframework."""
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    exchange = Exchange(Role.SERVER, KEY, os.urandom(16))
    while not exchange.finished:
        header = await _exactly(sock, 2)
        await loop.sock_sendall(sock, exchange.feed(header + await _exactly(sock, body_size(header))))


async def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await asyncio.get_running_loop().sock_recv(sock, size - len(data))
    return data


@contextlib.contextmanager
def _recorded() -> Iterator[list[str]]:
    """Record the files of the functions that are called within the block."""
    way: list[str] = []

    def called(frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_code.co_filename
        if event != "call" or not name.startswith(PACKAGE):
            return
        file = name.removeprefix(PACKAGE)
        if not file.startswith(HELPERS) and way[-1:] != [file]:
            way.append(file)

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        yield way
    finally:
        sys.setprofile(before)


def _part(way: Sequence[str], prefix: str) -> list[str]:
    return [file for file, _ in groupby(file for file in way if file.startswith(prefix))]


def _returns(way: Sequence[str]) -> int:
    return len(way) - len(set(way))


def _drawn(way: Sequence[str]) -> str:
    return "\n".join(f"{'<' if file in way[:place] else ' '} {file}" for place, file in enumerate(way))
