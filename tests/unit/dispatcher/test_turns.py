"""Turns: who waits for whom, counted in requests."""

from __future__ import annotations

import contextlib
import random
from collections import deque
from typing import Any

import pytest

from hsframework.local.turns import Turn, Turns
from tests.support.house import connected_pair
from tests.unit.dispatcher.played import GROUP, stage


def drained(turns: Turns[str]) -> list[str]:
    """Take everything out."""
    found = [item for _ in range(3) for item in turns.take(1)] + turns.take(1 << 20)
    assert list(turns) == []
    return found


def test_a_burst_makes_nobody_else_wait() -> None:
    """Two thousand requests of one consumer: another's first waits for one of them, and its second for two."""
    turns = Turns[str]()
    for number in range(2000):
        turns.append(f"burst {number}", Turn("many", None))
    turns.append("first", Turn("few", None))
    turns.append("second", Turn("few", None))
    order = drained(turns)
    assert (order.index("first"), order.index("second")) == (1, 3)
    assert [item for item in order if item.startswith("burst")] == [f"burst {number}" for number in range(2000)]


def test_the_networks_of_a_consumer_take_turns() -> None:
    """A flood from one network delays the consumer's other networks by one request each, and no other consumer more."""
    turns = Turns[str]()
    for number in range(100):
        turns.append(f"flood {number}", Turn("server", "192.0.2.0/24"))
    turns.append("good", Turn("server", "198.51.100.0/24"))
    turns.append("other", Turn("client", "192.0.2.0/24"))
    order = drained(turns)
    assert order[:4] == ["flood 0", "other", "good", "flood 1"]


def test_many_networks_are_one_consumer() -> None:
    """A consumer with a thousand networks has one turn of two."""
    turns = Turns[str]()
    for number in range(1000):
        turns.append("wide", Turn("wide", number))
    for _ in range(10):
        turns.append("narrow", Turn("narrow", 0))
    assert drained(turns)[:20] == ["wide", "narrow"] * 10


def test_what_does_not_fit_keeps_its_place() -> None:
    """A request for another agent is passed over, and is the first for one that takes it."""
    turns = Turns[str]()
    for item, kind in (("udp 1", 17), ("tcp 1", 6), ("udp 2", 17)):
        turns.append(item, Turn("a", None), kind)
    turns.append("tcp 2", Turn("b", None), 6)
    assert turns.take(8, {6, 262}) == ["tcp 1", "tcp 2"]
    assert turns.take(8, {6}) == []
    assert drained(turns) == ["udp 1", "udp 2"]


def test_removal() -> None:
    """A request that has ended while it waited is gone, wherever it stood; a stranger to the queue is an error."""
    turns = Turns[str]()
    for item in "abc":
        turns.append(item, Turn("x", None))
    turns.append("d", Turn("y", 1))
    for item, turn in (("b", Turn("x", None)), ("c", Turn("x", None)), ("d", Turn("y", 1))):
        turns.remove(item, turn)
    assert list(turns) == ["a"]
    with pytest.raises(ValueError, match="does not wait"):
        turns.remove("z", Turn("x", None))
    with pytest.raises(KeyError):
        turns.remove("d", Turn("y", 1))
    assert drained(turns) == ["a"]


def test_nothing_is_lost_and_each_network_is_in_order() -> None:
    """Random requests and ends: what comes out is what went in, in order for each consumer and network."""
    choose = random.Random(20)
    turns, expected = Turns[tuple[Turn, int]](), dict[Turn, deque[int]]()
    items: dict[int, tuple[Turn, int]] = {}
    for number in range(3000):
        turn = Turn(choose.randrange(4), choose.randrange(5))
        action = choose.random()
        if action < 0.5:
            items[number] = turn, number
            turns.append(items[number], turn)
            expected.setdefault(turn, deque()).append(number)
        elif action < 0.6 and expected.get(turn):
            victim = choose.choice(expected[turn])
            expected[turn].remove(victim)
            turns.remove(items[victim], turn)
        else:
            for found in turns.take(1):
                assert found[1] == expected[found[0]].popleft()
    assert sorted(number for _, number in turns) == sorted(number for queue in expected.values() for number in queue)


async def test_users_take_turns_in_a_group() -> None:
    """Behind a burst of one user's requests another user's is the second that an agent gets; urgent ones go first."""
    async with stage() as played, contextlib.AsyncExitStack() as stack:

        def submit(origin: str, **changed: Any) -> None:
            played.another(stack.enter_context(connected_pair())[0], origin, **changed)

        for number in range(5):
            submit(f"burst {number}")
        submit("other", consumer=4001)
        submit("urgent", urgency=1)
        pulled = [request.origin for request in played.dispatcher.pull(played.agent, GROUP, 8)]
        assert pulled == ["urgent", "its origin", "other", *(f"burst {number}" for number in range(5))]


async def test_a_request_that_ends_while_it_waits_has_no_turn() -> None:
    """A withdrawn request leaves the queue; those behind it keep their places."""
    async with stage() as played, contextlib.AsyncExitStack() as stack:
        made = [
            played.another(stack.enter_context(connected_pair())[0], name, consumer=consumer)
            for name, consumer in (("a", 4001), ("b", 4001), ("c", 4002))
        ]
        played.dispatcher.cancel(made[0])
        made[0].custody.release()
        pulled = [request.origin for request in played.dispatcher.pull(played.agent, GROUP, 8)]
        assert pulled == ["its origin", "b", "c"]
