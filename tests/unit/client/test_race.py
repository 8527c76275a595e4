"""Handshakes with several addresses of one host: who begins when, who wins, and which error is told."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from hsframework.client import AsyncClient, HandshakeOptions, connect_udp_session, race as module
from hsframework.client.race import interleaved, race
from hsframework.errors import HsframeworkError
from tests.unit.client.fake_dispatcher import FakeDispatcher

FOR_EVER = 3600.0
SIX, FOUR = (socket.AF_INET6, 2, 17, "", "6"), (socket.AF_INET, 2, 17, "", "4")


def failing(number: int, told: list[int] | None = None) -> Callable[[], Awaitable[str]]:
    async def attempt() -> str:
        if told is not None:
            told.append(number)
        raise HsframeworkError(f"error {number}", errno=number)

    return attempt


def silent(cancelled: list[bool]) -> Callable[[], Awaitable[str]]:
    async def attempt() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return "never"

    return attempt


async def winner() -> str:
    return "won"


async def test_the_next_begins_at_once_when_one_fails() -> None:
    """However long the head start is."""
    assert await race([failing(errno.ECONNREFUSED), winner], FOR_EVER) == "won"


async def test_a_silent_address_holds_nobody_up() -> None:
    """The next begins behind its head start, and the silent one is withdrawn when that has won."""
    cancelled: list[bool] = []
    assert await race([silent(cancelled), winner], 0.0) == "won"
    assert cancelled == [True]


async def test_the_first_address_wins_if_it_answers() -> None:
    """No other is tried."""
    told: list[int] = []
    assert await race([winner, failing(1, told)], FOR_EVER) == "won"
    assert told == []


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((errno.ECONNREFUSED, errno.EKEYREJECTED, errno.ETIMEDOUT), errno.EKEYREJECTED),
        ((errno.ENETUNREACH, errno.ECONNREFUSED), errno.ENETUNREACH),
        ((errno.EKEYREJECTED, errno.EACCES), errno.EKEYREJECTED),
    ],
)
async def test_the_error_of_a_server_goes_before_silence(numbers: tuple[int, ...], expected: int) -> None:
    """A server's own error is raised rather than silence; else the first error."""
    with pytest.raises(HsframeworkError) as caught:
        await race([failing(number) for number in numbers], FOR_EVER)
    assert caught.value.errno == expected


async def test_a_withdrawn_race_withdraws_its_attempts() -> None:
    """A caller that is cancelled leaves nothing behind."""
    cancelled: list[bool] = []
    racing = asyncio.create_task(race([silent(cancelled), silent(cancelled)], 0.0))
    while len(asyncio.all_tasks()) < 4:
        await asyncio.sleep(0)
    racing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await racing
    assert cancelled == [True, True]


@pytest.mark.parametrize(
    ("found", "order"),
    [([SIX, SIX, FOUR, FOUR], "6464"), ([FOUR, SIX, SIX], "466"), ([FOUR], "4"), ([], "")],
)
def test_families_take_turns(found: list[Any], order: str) -> None:
    """RFC 8305 section 4, the family of the first answer first."""
    assert "".join(answer[4] for answer in interleaved(found)) == order


async def test_a_session_with_the_address_that_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first address is silent, the second answers; its socket comes back, and the other's request is withdrawn."""
    monkeypatch.setattr(module, "HEAD_START", 0.0)
    found = [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", (host, 9)) for host in ("127.0.0.2", "127.0.0.3")]
    monkeypatch.setattr(module, "find_udp", lambda _host, _port: found)
    with FakeDispatcher(tmp_path) as dispatcher:
        async with AsyncClient(dispatcher.directory) as client:
            won = await connect_udp_session(client, "dual.example", 9, HandshakeOptions(any_peer_name=True))
            with won.socket:
                assert won.socket.getpeername()[0] in ("127.0.0.2", "127.0.0.3")
