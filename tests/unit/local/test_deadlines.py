"""Deadlines that share timers: each passes once, none early, and what was given up does not."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref

from hypothesis import given, settings, strategies as st

from hsframework.local.deadlines import GRAIN, Deadlines


class Item:
    """Something with a deadline."""


async def all_past(loop: asyncio.AbstractEventLoop, when: float) -> None:
    """Wait until every deadline up to ``when`` has had its turn."""
    reached = loop.create_future()
    loop.call_at(when + 2 * GRAIN, reached.set_result, None)
    await reached


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 0.05), st.booleans()), max_size=40))
def test_each_once_and_none_early(plan: list[tuple[float, bool]]) -> None:
    """An item passes once, after its time, unless it was given up before, in any order."""

    async def body() -> None:
        loop = asyncio.get_running_loop()
        passed: list[tuple[int, float]] = []
        deadlines: Deadlines[int] = Deadlines(loop, lambda item: passed.append((item, loop.time())))
        now = loop.time()
        tickets = [deadlines.add(number, now + delay) for number, (delay, _) in enumerate(plan)]
        for number, (_, given_up) in enumerate(plan):
            if given_up:
                deadlines.remove(number, tickets[number])
        await all_past(loop, now + 0.05)
        assert sorted(item for item, _ in passed) == [n for n, (_, given_up) in enumerate(plan) if not given_up]
        # The loop's timers may fire by its clock's resolution early.
        assert all(at >= now + plan[item][0] - 1e-6 for item, at in passed)

    asyncio.run(body())


async def test_one_may_give_up_another_of_the_same_moment() -> None:
    """The first that passes gives up the second, and may begin a third."""
    loop = asyncio.get_running_loop()
    passed: list[str] = []
    when = loop.time() + GRAIN
    tickets: dict[str, int] = {}
    third = loop.create_future()

    def on_passed(item: str) -> None:
        passed.append(item)
        if item == "three":
            third.set_result(None)
            return
        for other in {"one", "two"} - {item}:
            deadlines.remove(other, tickets[other])
        deadlines.add("three", loop.time())

    deadlines: Deadlines[str] = Deadlines(loop, on_passed)
    tickets = {item: deadlines.add(item, when) for item in ("one", "two")}
    await third
    assert len(passed) == 2
    assert passed[1] == "three"


async def test_a_failure_of_one_is_not_the_others() -> None:
    """An item whose passing raises takes no other's deadline with it."""
    loop = asyncio.get_running_loop()
    passed: list[int] = []

    def on_passed(item: int) -> None:
        passed.append(item)
        raise RuntimeError("no")

    loop.set_exception_handler(lambda _loop, _context: None)
    deadlines: Deadlines[int] = Deadlines(loop, on_passed)
    when = loop.time()
    for number in range(3):
        deadlines.add(number, when)
    await all_past(loop, when + GRAIN)
    assert sorted(passed) == [0, 1, 2]


async def test_close_within_a_deadline() -> None:
    """Gives up those of the same moment too, also where the one that closes fails."""
    loop = asyncio.get_running_loop()
    passed: list[int] = []
    failures: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _loop, context: failures.append(context))

    def on_passed(item: int) -> None:
        passed.append(item)
        if len(passed) == 2:
            deadlines.close()
        raise RuntimeError("no")

    deadlines: Deadlines[int] = Deadlines(loop, on_passed)
    when = loop.time()
    for number in range(4):
        deadlines.add(number, when)
    await all_past(loop, when + GRAIN)
    assert len(passed) == len(failures) == 2


async def test_nothing_is_kept_of_what_was_given_up() -> None:
    """An item that was given up, and all of them after close, are free to go."""
    deadlines: Deadlines[Item] = Deadlines(asyncio.get_running_loop(), lambda item: None)
    kept, dropped = Item(), Item()
    references = [weakref.ref(kept), weakref.ref(dropped)]
    when = asyncio.get_running_loop().time() + 3600
    deadlines.add(kept, when)
    deadlines.remove(dropped, deadlines.add(dropped, when))
    del dropped
    gc.collect()
    assert references[1]() is None
    deadlines.close()
    del kept
    gc.collect()
    assert references[0]() is None
    with contextlib.suppress(KeyError):
        deadlines.remove(Item(), 1)
