"""Outcomes of the last minutes: by minute and reason, forgotten in time, and bounded."""

from __future__ import annotations

from hsframework.telemetry.recent import MINUTES, MOST_REASONS, OTHERS, Recent


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_outcomes_are_told_apart_by_what_stands_before_the_colon() -> None:
    """The detail, which a peer may choose, makes no kind of its own; a success has no reason."""
    recent = Recent(Clock())
    for name in ("a", "b", "c"):
        recent.count("tlshd", 129, f"not trusted: {name}")
    recent.count("tlshd", 0, "ignored")
    recent.count("quic", 129, None)
    assert recent.report()["outcomes"] == [
        {"group": "tlshd", "status": 129, "reason": "not trusted", "count": 3},
        {"group": "tlshd", "status": 0, "reason": "", "count": 1},
        {"group": "quic", "status": 129, "reason": "", "count": 1},
    ]


def test_minutes_pass() -> None:
    """A minute is listed when it is over, until it is too old; the one that has begun counts for the reasons alone."""
    clock = Clock()
    recent = Recent(clock)
    recent.count("a", 0, None)
    recent.count("a", 5, "x")
    assert recent.report()["completed"] == [0] * MINUTES
    clock.now += 60
    recent.count("a", 0, None)
    report = recent.report()
    assert (report["completed"][-2:], report["failed"][-2:]) == ([0, 2], [0, 1])
    assert sum(each["count"] for each in report["outcomes"]) == 3
    clock.now += 60 * (MINUTES - 1)
    assert recent.report()["completed"][:2] == [2, 1]
    clock.now += 60
    assert recent.report()["completed"][:2] == [1, 0]
    clock.now += 3600
    assert (recent.report()["completed"], recent.report()["outcomes"]) == ([0] * MINUTES, [])


def test_kinds_are_bounded() -> None:
    """A minute keeps few kinds of any number of reasons and statuses, and no outcome is lost."""
    recent = Recent(Clock())
    for number in range(5000):
        recent.count("g", 1 + number % 4095, f"reason {number}")
    outcomes = recent.report()["outcomes"]
    assert len(outcomes) <= 2 * MOST_REASONS + 1
    assert sum(each["count"] for each in outcomes) == 5000
    assert any(each["reason"] == OTHERS for each in outcomes)
