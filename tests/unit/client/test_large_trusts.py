"""Trusts that are too large for a submit: both clients send them in a file, once over each link."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
from collections.abc import Callable, Iterable

import pytest

from hsframework.client import AsyncClient, Client, HandshakeOptions
from hsframework.client.trusts import LARGE, TRUST_ID, TrustFiles
from hsframework.errors import RequestRefused
from hsframework.interface import CrlCheck, Trust
from hsframework.local.packets import MAX_PACKET
from hsframework.local.trustfile import read_trust_file
from tests.support.running import open_fds
from tests.unit.client.fake_dispatcher import FakeDispatcher, Submission

Pair = tuple[socket.socket, socket.socket]
Run = Callable[[FakeDispatcher, socket.socket, Iterable[HandshakeOptions]], list[str]]


def options(*contents: bytes) -> HandshakeOptions:
    trust = Trust((b"anchor",), tuple(content * LARGE for content in contents), CrlCheck.REQUIRE)
    return HandshakeOptions(trust=trust, any_peer_name=True)


def blocking(dispatcher: FakeDispatcher, sock: socket.socket, each: Iterable[HandshakeOptions]) -> list[str]:
    found = []
    with Client(dispatcher.directory) as client:
        for wanted in each:
            try:
                client.handshake(sock, wanted)
            except RequestRefused as error:
                found.append(str(error))
            else:
                found.append("")
    return found


def with_a_loop(dispatcher: FakeDispatcher, sock: socket.socket, each: Iterable[HandshakeOptions]) -> list[str]:
    async def main() -> list[str]:
        found = []
        async with AsyncClient(dispatcher.directory) as client:
            for wanted in each:
                try:
                    await client.handshake(sock, wanted)
                except RequestRefused as error:
                    found.append(str(error))
                else:
                    found.append("")
        return found

    return asyncio.run(main())


def content(submission: Submission) -> Trust:
    return read_trust_file(submission.fds[0], submission.message.values["size"])


@pytest.mark.parametrize("run", [blocking, with_a_loop])
def test_a_large_trust_comes_first_and_once(dispatcher: FakeDispatcher, pair: Pair, run: Run) -> None:
    """Each submit is preceded by its trust, unless the link has had that one last; no file is left open."""
    one, two, small = options(b"1", b"2", b"3", b"4"), options(b"5"), HandshakeOptions()
    assert sum(map(len, one.trust.crls if one.trust else ())) > MAX_PACKET
    came: list[Trust | None] = []
    named: list[int | None] = []

    def on_submit(submission: Submission) -> None:
        named.append(submission.message.values.get("trust-id"))
        came.append(None)
        submission.result()

    dispatcher.on_trust = lambda submission: came.append(content(submission))
    dispatcher.on_submit = on_submit
    before = open_fds(os.getpid())
    assert run(dispatcher, pair[0], (one, small, one, two, one)) == [""] * 5
    assert came == [one.trust, None, None, None, two.trust, None, one.trust, None]
    assert named == [TRUST_ID, None, TRUST_ID, TRUST_ID, TRUST_ID]
    dispatcher.gone.get(timeout=10)
    assert open_fds(os.getpid()) <= before


@pytest.mark.parametrize("run", [blocking, with_a_loop])
def test_a_trust_that_is_refused_is_the_submits_refusal(dispatcher: FakeDispatcher, pair: Pair, run: Run) -> None:
    """The reason is told once, and the next attempt sends the trust again."""
    taken: list[bool] = []

    def on_trust(submission: Submission) -> None:
        taken.append(bool(taken))
        if not taken[-1]:
            submission.refuse(errno.EAGAIN, "too many large trusts")

    def on_submit(submission: Submission) -> None:
        if taken[-1]:
            submission.result()
        else:
            submission.refuse(errno.ENOENT, "trust 1 did not come")

    dispatcher.on_trust, dispatcher.on_submit = on_trust, on_submit
    wanted = options(b"1")
    assert run(dispatcher, pair[0], (wanted, wanted)) == ["too many large trusts", ""]
    assert taken == [False, True]


def test_files_of_a_client() -> None:
    """A client keeps four files, and all are closed with it, or when it is dropped."""
    before = open_fds(os.getpid())
    files = TrustFiles()
    for number in range(6):
        for _ in range(2):
            os.close(files.file(Trust((b"%d" % number,))).fd)
    assert open_fds(os.getpid()) == before + TrustFiles.MOST
    files.close()
    assert open_fds(os.getpid()) == before
    os.close(files.file(Trust((b"again",))).fd)
    del files
    gc.collect()
    assert open_fds(os.getpid()) == before
