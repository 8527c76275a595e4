"""The way of one request through the files, from a program's submit to its session.

Client, dispatcher and agent are the real ones, on one event loop; the plugin and its peer are the tests' own.  The way
is the sequence of files of ``hsframework`` whose functions are called, repeats collapsed.
``pytest -s`` prints it.

A *return* is a move to a file that the way had left before.  A *re-entry* is a call of a function whose file has
called another one and still waits for it: what calls cannot be read in one direction then.  Not counted are the helpers
below all parts of the service: channel, codec, deadlines, errors, metrics, the interface's types.

The resumption of a suspended coroutine is not a call: its reader is in that function still, at the ``await``.  The
first step of a task is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from inspect import CO_COROUTINE
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import hsframework
from hsframework.agent.host import AgentHost
from hsframework.agent.served import prepare
from hsframework.client import AsyncClient
from hsframework.interface import Role
from hsframework.testing.dispatcher import registry_of
from tests.support.house import REQUEST, connected_pair, house
from tests.support.played_kernel import GROUP, stage
from tests.unit.testing.toy_exchange import Exchange, body_size
from tests.unit.testing.toy_plugin import CLIENT, KEY, ToyPlugin

PAGE = Path(__file__).parents[3] / "docs" / "topics" / "walk.md"
PACKAGE = f"{Path(hsframework.__file__).parent}{os.sep}"
HELPERS = ("caches.py", "local/", "netlink/", "telemetry/", "interface", "errors.py", "failures.py")

_AFTER = 3
"""Bits of the argument of RESUME: 1 after ``yield``, 2 after ``yield from``, 3 after ``await`` (module ``dis``)."""

MOST_RETURNS = {"": 20, "client/": 1, "dispatcher/": 9, "agent/": 8}
"""By part of the service, where the way through the others is left out; "": the whole."""


@dataclass
class Way:
    """Files in the order of the calls.  ``with_resumptions``: a coroutine that is resumed counts as called."""

    files: list[str] = field(default_factory=list)
    with_resumptions: list[str] = field(default_factory=list)
    re_entries: list[tuple[str, str]] = field(default_factory=list)
    """Files that are called while they wait, each with its caller."""


async def test_a_request_walks_forward() -> None:
    """From submit to result no file is called back by what it has called, and few are come back to."""
    way = await _way_of_a_submit()
    found = {part: _returns(_part(way.files, part)) for part in MOST_RETURNS}
    print(f"\n{_drawn(way.files)}\nre-entries: {way.re_entries}")
    print(f"{len(way.files) - 1} moves between {len(set(way.files))} files; returns: {found}")
    print(f"returns where a resumed coroutine counts as called: {_returns(way.with_resumptions)}")
    assert {"client/aio.py", "dispatcher/requests/core.py", "agent/conversation.py"} <= set(way.files)
    assert not {part: number for part, number in found.items() if number > MOST_RETURNS[part]}
    assert not way.re_entries


async def test_the_page_has_the_way() -> None:
    """The documentation lists the files of a submit in the order in which they are called."""
    way = await _way_of_a_submit()
    steps = re.findall(r"^(\d+)\. `([a-z_/]+\.py)`: ", PAGE.read_text(), re.MULTILINE)
    assert [file for _, file in steps] == way.files
    assert [int(number) for number, _ in steps] == list(range(1, len(steps) + 1))


async def test_the_page_has_the_kernels_files() -> None:
    """It lists the files of a kernel source in the order in which a request first comes to them."""
    async with stage() as played:
        agent = await played.home.agent(GROUP)
        with connected_pair() as (ours, _), _recorded() as way:
            played.submit(ours)
            request = await agent.take_message(GROUP)
            agent.send("done", {"request-id": request.values["request-id"], "status": errno.EACCES})
            await played.until(lambda: played.service.told)
    steps = re.findall(r"^\* `([a-z_/]+\.py)`: ", PAGE.read_text(), re.MULTILINE)
    assert steps == list(dict.fromkeys(_part(way.files, "dispatcher/sources/kernel/")))


@pytest.mark.parametrize("pulled", [False, True])
async def test_a_request_that_is_withdrawn_walks_forward(pulled: bool) -> None:
    """No file is called back by what it has called, whether the request waits or is in an agent's hands."""
    async with house() as home:
        agent, consumer = await home.agent("toy"), await home.consumer()
        with connected_pair() as (ours, _):
            sequence = consumer.send("submit", REQUEST, ours.fileno())
            if pulled:
                await agent.take_message()
            else:
                await home.queued(1)
            with _recorded() as way:
                consumer.send("cancel", {"request-id": sequence})
                assert (await consumer.expect("result")).values["status"] == errno.ECANCELED
    assert "dispatcher/requests/core.py" in way.files
    assert not way.re_entries


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


async def test_what_a_resumption_is() -> None:
    """The first step of a coroutine is none, and each step after an ``await`` is one; a generator has none."""

    async def steps() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    seen: list[bool] = []

    def called(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code is steps.__code__:
            seen.append(_is_resumed(frame))

    sys.setprofile(called)
    try:
        await steps()
    finally:
        sys.setprofile(None)
    assert seen == [False, True, True]


async def _way_of_a_submit() -> Way:
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
def _recorded() -> Iterator[Way]:
    """Record the calls within the block."""
    way = Way()

    def called(frame: FrameType, event: str, argument: Any) -> None:
        file = _counted(frame)
        if event != "call" or file is None:
            return
        way.with_resumptions.append(file)
        if not _is_resumed(frame):
            way.files.append(file)
            caller = _called_back(_stack(frame))
            if caller is not None:
                way.re_entries.append((file, caller))

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        yield way
    finally:
        sys.setprofile(before)
        way.files = _collapsed(way.files)
        way.with_resumptions = _collapsed(way.with_resumptions)


def _is_resumed(frame: FrameType) -> bool:
    """Return True for a coroutine behind an ``await``: the instruction RESUME says which (0: at its start)."""
    if not frame.f_code.co_flags & CO_COROUTINE:
        return False
    return bool(frame.f_code.co_code[frame.f_lasti + 1] & _AFTER)


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
    files = _collapsed(stack)
    return files[-2] if files[-1] in files[:-1] else None


def _part(way: Sequence[str], prefix: str) -> list[str]:
    return _collapsed(file for file in way if file.startswith(prefix))


def _collapsed(way: Iterable[str]) -> list[str]:
    return [file for file, _ in groupby(way)]


def _returns(way: Sequence[str]) -> int:
    return len(way) - len(set(way))


def _drawn(way: Sequence[str]) -> str:
    return "\n".join(f"{'<' if file in way[:place] else ' '} {file}" for place, file in enumerate(way))
