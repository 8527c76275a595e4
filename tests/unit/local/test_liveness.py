"""Reports in time and missing ones, without a clock."""

from __future__ import annotations

from hsframework.local.liveness import Liveness


def watch(limit: float = 8.0) -> Liveness[str]:
    return Liveness(limit)


def looks(liveness: Liveness[str], begin: float, end: float, reports: set[str]) -> list[str]:
    """Look every interval, with reports of some at each; what was found silent."""
    found, now = [], begin
    while now <= end:
        for key in reports:
            liveness.heard(key, now)
        found += liveness.silent(now)
        now += liveness.interval
    return found


def test_the_one_that_is_silent() -> None:
    """One that reports is never named; one that does not is, once, after the limit and not before."""
    liveness = watch()
    liveness.heard("well", 0)
    liveness.heard("hung", 0)
    assert looks(liveness, 0, 8, {"well"}) == []
    assert looks(liveness, 10, 40, {"well"}) == ["hung"]


def test_one_that_ended() -> None:
    """It is watched no more."""
    liveness = watch()
    liveness.heard("gone", 0)
    liveness.forget("gone")
    liveness.forget("never there")
    assert looks(liveness, 0, 40, set()) == []


def test_a_watcher_that_did_not_run() -> None:
    """Reports missed meanwhile count against nobody; a member that stays silent from then on is named."""
    liveness = watch()
    liveness.heard("one", 0)
    assert liveness.silent(0) == []
    assert liveness.silent(1000) == []
    assert looks(liveness, 1002, 1008, set()) == []
    assert looks(liveness, 1010, 1020, set()) == ["one"]
