"""Room for requests in one process: reserved, given back, and offered to those who found none."""

from __future__ import annotations

import asyncio
import os
import resource

import pytest

from hsframework.agent.room import FD_RESERVE, MAX_IN_HAND, Room, default_capacity


def never() -> None:
    """Fail: for a link that finds room."""
    raise AssertionError


def test_room_is_reserved_up_to_the_capacity() -> None:
    """Room that was taken is gone until it is given back; a request that nobody asked for takes room all the same."""
    shared = Room(5)
    assert shared.take(3, never) == 3
    shared.occupy()
    assert shared.take(3, never) == 1
    shared.give_back(2)
    assert shared.take(3, never) == 2


async def test_who_finds_none_is_called_from_the_loop() -> None:
    """Not within the call that makes room, once each, in the order of their asking, and only while there is some."""
    shared, called = Room(2), list[str]()

    def first() -> None:
        called.append("first")

    def second() -> None:
        called.append("second")

    assert shared.take(2, never) == 2
    shared.occupy()
    for link in (first, second, first):
        assert shared.take(1, link) == 0
    shared.give_back(1)
    await asyncio.sleep(0)
    assert called == [], "the request that nobody asked for took it"
    shared.give_back(1)
    assert called == []
    await asyncio.sleep(0)
    assert called == ["first", "second"]
    shared.give_back(1)
    await asyncio.sleep(0)
    assert called == ["first", "second"]


@pytest.mark.parametrize(
    ("limit", "capacity"),
    [(resource.RLIM_INFINITY, MAX_IN_HAND), (1024, 1024 - FD_RESERVE), (FD_RESERVE, 1)],
)
def test_capacity_follows_the_limit_of_open_files(limit: int, capacity: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as fit under it, less what other things need; at least one."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert default_capacity() == capacity
    assert Room().take(MAX_IN_HAND * 2, never) == capacity


def test_leaked_descriptors_are_a_shortage() -> None:
    """A number is open that requests do not come to."""
    shared = Room(1)
    assert shared.shortage() == ""
    shared.highest_fd = fd = os.open("/dev/null", os.O_RDONLY)
    assert shared.shortage() == "file descriptors run out"
    os.close(fd)
