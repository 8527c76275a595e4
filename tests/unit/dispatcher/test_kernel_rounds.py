"""Rounds of ACCEPT and completions of the kernel's requests, at their bounds."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Any

import pytest

from hsframework.dispatcher.requests import success
from hsframework.dispatcher.sources.kernel import rounds
from tests.support.house import connected_pair
from tests.support.played_kernel import GROUP, PSK_CLIENT, stage


async def test_a_round_goes_on_in_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its most requests a group pauses for no time but a turn of the loop, and no announcement is needed."""
    monkeypatch.setattr(rounds, "MOST_ACCEPTS", 2)
    loop = asyncio.get_running_loop()
    call_later, pauses = loop.call_later, []

    def noted(delay: float, call: Callable[..., None], *values: Any) -> asyncio.TimerHandle:
        if getattr(call, "__func__", None) is rounds.Rounds._pause_over:
            pauses.append(delay)
        return call_later(delay, call, *values)

    monkeypatch.setattr(loop, "call_later", noted)
    with connected_pair() as (one, two), connected_pair() as (three, four):
        async with stage() as played:
            await played.home.agent(GROUP)
            for sock in (one, two, three, four):
                played.ask(sock)
            played.announce()
            await played.until(lambda: len(played.home.dispatcher.requests) == 4)
            assert pauses == [0.0, 0.0]


async def test_a_group_is_left_while_done_meets_a_shortage() -> None:
    """A request behind the limit of lent sockets is refused when the last DONE was sent after all."""
    with connected_pair() as (ours, _), connected_pair() as (other, _):
        async with stage() as played:
            agent = await played.home.agent(GROUP)
            played.submit(ours)
            request = await agent.take_message(GROUP)
            played.service.withheld.add(GROUP)
            played.ask(other)
            await agent.ask("leave", {"group": [GROUP]})
            played.service.short_of_memory = 1
            agent.send("done", {"request-id": request.values["request-id"], "status": errno.EACCES})
            await played.until(lambda: not played.service.short_of_memory)
            played.service.withheld.clear()
            await played.until(lambda: not played.service.sockets())
            assert played.service.told == [(errno.EACCES, []), (errno.ETIMEDOUT, [])]


async def test_the_consumers_own_key_names_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pre-shared key is told by its serial, and stays where it is: it was not made for this."""
    monkeypatch.setattr(success, "session_planted", lambda group, custody: True)
    with connected_pair() as (ours, _):
        async with stage() as played:
            agent = await played.home.agent(GROUP)
            played.submit(ours, PSK_CLIENT)
            request = await agent.take_message(GROUP)
            said = {"in-kernel": True, "remote-psk-identity": b"key 7"}
            agent.send("done", {"request-id": request.values["request-id"], "status": 0, **said})
            await played.until(lambda: played.service.told)
            assert played.service.told == [(0, [7])]
            assert not played.keys.removed
