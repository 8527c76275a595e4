"""The way of one request through the files, from a program's submit to its session.

Client, dispatcher and agent are the real ones, on one event loop; the plugin and its peer are the tests' own.  The way
is the sequence of files of ``hsframework`` whose functions are called (or coroutines resumed), repeats collapsed.
``pytest -s`` prints it.

A *return* is a move to a file that the way had left before.  A *re-entry* is a call of a function whose file has
called another one and still waits for it: what calls cannot be read in one direction then.  Not counted are the helpers
below all parts of the service: channel, codec, deadlines, errors, metrics, the interface's types.
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

MOST_RETURNS = {"": 46, "client/": 4, "dispatcher/": 18, "agent/": 18}
"""By part of the service, where the way through the others is left out; "": the whole."""


async def test_a_request_walks_forward() -> None:
    """From submit to result no file is called back by what it has called, and few are come back to."""
    way, re_entries = await _way_of_a_submit()
    print(f"\n{_drawn(way)}\nre-entries: {re_entries}")
    found = {part: _returns(_part(way, part)) for part in MOST_RETURNS}
    print(f"{len(way) - 1} moves between {len(set(way))} files; returns: {found}")
    assert {"client/aio.py", "dispatcher/requests/core.py", "agent/conversation.py"} <= set(way)
    assert not {part: number for part, number in found.items() if number > MOST_RETURNS[part]}
    assert not re_entries


def test_what_a_return_is() -> None:
    """A move to a file that was left before; the first visit to a file is none."""
    assert _returns(["a", "b", "c"]) == 0
    assert _returns(["a", "b", "a", "c", "b"]) == 2
    assert _part(["x/a", "y/b", "x/a", "x/c"], "x/") == ["x/a", "x/c"]


def test_what_a_re_entry_is() -> None:
    """A file that waits for another is called; a file that calls its own functions is not."""
    assert _called_back(["a", "b", "a"]) == "b"
    assert _called_back(["a", "a", "b", "c"]) is None
    assert _called_back(["a"]) is None


async def _way_of_a_submit() -> tuple[list[str], list[tuple[str, str]]]:
    """Return the way of a second handshake: what the first one has left remembered is used."""
    async with _served() as (client, loop):
        for _ in range(2):
            with connected_pair() as (ours, theirs):
                peer = loop.create_task(_converse(theirs))
                await asyncio.sleep(0)
                with _recorded() as (way, re_entries):
                    session = await client.handshake(ours, CLIENT)
                assert session.protocol == "toy"
                await peer
    return way, re_entries


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
def _recorded() -> Iterator[tuple[list[str], list[tuple[str, str]]]]:
    """Record the files of the functions that are called within the block; and re-entries, each with its caller."""
    way: list[str] = []
    re_entries: list[tuple[str, str]] = []

    def called(frame: FrameType, event: str, argument: Any) -> None:
        file = _counted(frame)
        if event != "call" or file is None:
            return
        if way[-1:] != [file]:
            way.append(file)
        caller = _called_back(_stack(frame))
        if caller is not None:
            re_entries.append((file, caller))

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        yield way, re_entries
    finally:
        sys.setprofile(before)


def _counted(frame: FrameType) -> str | None:
    name = frame.f_code.co_filename
    file = name.removeprefix(PACKAGE)
    return None if file == name or file.startswith(HELPERS) else file


def _stack(frame: FrameType | None) -> list[str]:
    """Return the files of the functions that wait, outermost first, and the called one's last."""
    files: list[str] = []
    while frame is not None:
        file = _counted(frame)
        if file is not None:
            files.insert(0, file)
        frame = frame.f_back
    return files


def _called_back(stack: Sequence[str]) -> str | None:
    """Return the caller of the last file if that file waits further out, else None."""
    files = [file for file, _ in groupby(stack)]
    return files[-2] if files[-1] in files[:-1] else None


def _part(way: Sequence[str], prefix: str) -> list[str]:
    return [file for file, _ in groupby(file for file in way if file.startswith(prefix))]


def _returns(way: Sequence[str]) -> int:
    return len(way) - len(set(way))


def _drawn(way: Sequence[str]) -> str:
    return "\n".join(f"{'<' if file in way[:place] else ' '} {file}" for place, file in enumerate(way))
