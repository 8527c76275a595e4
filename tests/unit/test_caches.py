"""Caches with a bound in bytes: what stays, what is dropped, and when one says that it is too small."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from hsframework import caches
from hsframework.caches import CROWDED, WINDOW, SizedCache, misses_for_want_of_room, set_total

TOO_SMALL = "a cache is too small: what it drops is wanted again; raise memory.cache"


@pytest.fixture(autouse=True)
def _own_counts() -> Iterator[None]:
    """Each test begins without misses, and leaves the process's bytes as they were."""
    before = caches._Total.bytes
    misses_for_want_of_room()
    yield
    misses_for_want_of_room()
    set_total(before)


def use(cache: SizedCache[int, int], keys: Iterator[int] | range, size: int = 10) -> int:
    """Look each key up, and put it in where it is missing; return how many were."""
    missing = 0
    for key in keys:
        if cache.get(key) is None:
            missing += 1
            cache.put(key, -key, size)
    return missing


def warnings(logs: list[Any]) -> list[Any]:
    return [entry for entry in logs if entry["event"] == TOO_SMALL]


def test_the_least_recently_used_goes() -> None:
    """Entries are dropped in the order of their last use until the rest fits, whatever their number."""
    dropped: list[tuple[str, int]] = []
    cache = SizedCache[str, int]("test", capacity=100)
    cache.when_dropped(lambda key, value: dropped.append((key, value)))
    for number, key in enumerate("abc"):
        cache.put(key, number, 30)
    assert cache.get("a") == 0
    cache.put("d", 3, 40)
    assert (list(cache), cache.size, dropped) == (["c", "a", "d"], 100, [("b", 1)])
    cache.put("a", 9, 5)
    assert (cache.get("a"), cache.size) == (9, 75)
    assert (cache.pop("a"), cache.pop("a"), cache.size, dropped) == (9, None, 70, [("b", 1)])


def test_the_newest_stays() -> None:
    """An entry above the bound is kept alone: it would be made anew for each use."""
    cache = SizedCache[str, int]("test", capacity=100)
    cache.put("a", 1, 10)
    cache.put("b", 2, 1000)
    assert (list(cache), cache.size) == (["b"], 1000)
    cache.put("c", 3, 10)
    assert list(cache) == ["c"]


def test_the_share_is_of_the_configured_bytes() -> None:
    """A change of the process's bytes counts for the next entry."""
    cache = SizedCache[int, int]("test", share=1 / 4)
    set_total(400)
    use(cache, range(20))
    assert (len(cache), cache.size) == (10, 100)
    set_total(200)
    use(cache, range(20, 21))
    assert (len(cache), cache.size) == (5, 50)


def test_a_cache_that_thrashes_says_so_once() -> None:
    """Eleven that take turns in a cache for ten: one line in the log, and each miss in the metric's count."""
    cache = SizedCache[int, int]("verdicts", capacity=100)
    with capture_logs() as logs:
        missing = use(cache, (number % 11 for number in range(4 * WINDOW)))
    assert missing == 4 * WINDOW
    assert len(warnings(logs)) == 1
    assert warnings(logs)[0]["cache"] == "verdicts"
    assert misses_for_want_of_room() == {"verdicts": 4 * WINDOW - 11}
    assert misses_for_want_of_room() == {}


def test_it_says_so_again_after_it_was_well() -> None:
    """A window without a miss for want of room ends the trouble; the next trouble is news."""
    cache = SizedCache[int, int]("verdicts", capacity=100)
    with capture_logs() as logs:
        for keys in (11, 10, 11):
            use(cache, (number % keys for number in range(3 * WINDOW)))
    assert len(warnings(logs)) == 2


def test_strangers_are_no_thrashing() -> None:
    """Keys that never come again, and a few that do, are what a cache is there to drop."""
    cache = SizedCache[int, int]("verdicts", capacity=100)
    with capture_logs() as logs:
        use(cache, range(4 * WINDOW))
        few = (10 * WINDOW + number if number >= CROWDED - 1 else number for number in range(WINDOW))
        use(cache, few)
    assert warnings(logs) == []


def test_what_was_removed_is_not_missed() -> None:
    """An entry that its owner has removed was not dropped for want of room."""
    cache = SizedCache[int, int]("verdicts", capacity=100)
    for _ in range(2 * WINDOW):
        use(cache, range(1))
        cache.pop(0)
    assert misses_for_want_of_room() == {}


def test_what_is_remembered_of_the_dropped_is_bounded() -> None:
    """A flood of keys leaves a bounded number of hashes behind."""
    cache = SizedCache[int, int]("verdicts", capacity=100)
    use(cache, range(10 * caches.LEAST_REMEMBERED))
    assert len(cache._gone) == caches.LEAST_REMEMBERED
