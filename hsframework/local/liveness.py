"""Liveness: processes that report in time, and those that do not.

Each process whose event loop turns says so every quarter of the limit.  One that has not for the limit, because it
hangs or is stopped, is ended by its parent and replaced.

Rules:

* No clock here: times are arguments, in seconds of one monotonic clock.
* A watcher that did not run itself, because it was stopped or the machine was overloaded, gives everybody the whole
  time again: in what it missed there may be reports that it has not read.
"""

from __future__ import annotations

from typing import Generic, TypeVar

SHARE = 4
"""Reports in the time of the limit."""

K = TypeVar("K")


class Liveness(Generic[K]):
    """Times at which the watched were last known to be alive.  ``limit``: seconds."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._heard: dict[K, float] = {}
        self._looked: float | None = None

    @property
    def interval(self) -> float:
        """Seconds between two reports, and between two looks."""
        return self.limit / SHARE

    def heard(self, key: K, now: float) -> None:
        """Note a report, or that the watch begins."""
        self._heard[key] = now

    def forget(self, key: K) -> None:
        """End the watch of one that has ended."""
        self._heard.pop(key, None)

    def silent(self, now: float) -> list[K]:
        """Return those that have not reported for the limit, and end their watch.

        To be called every :attr:`interval` seconds, after everything that waits was read.
        """
        missed = self._looked is not None and now - self._looked > 2 * self.interval
        self._looked = now
        if missed:
            self._heard = dict.fromkeys(self._heard, now)
            return []
        found = [key for key, heard in self._heard.items() if now - heard > self.limit]
        for key in found:
            del self._heard[key]
        return found
