"""Handshakes of the last minutes, by outcome and reason: for `hsframework status`, and bounded whatever comes."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

MINUTES = 15
"""Whole minutes that are kept, beside the one that has begun."""
MOST_REASONS = 64
"""Kinds of outcomes that are told apart in one minute; further ones count as :data:`OTHERS`."""
LONGEST_REASON = 120
OTHERS = "other reasons"
_MINUTE = 60.0

Kind = tuple[str, int, str]
"""Group, status (0 or a positive errno), and reason, empty of a success."""


class Recent:
    """Counts by minute.  ``clock``: seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._minutes: OrderedDict[int, Counter[Kind]] = OrderedDict()

    def count(self, group: str, status: int, reason: str | None) -> None:
        """Count an outcome.  Of its reason, what stands before the first colon tells it apart."""
        counts = self._now()
        text = "" if not status else (reason or "").partition(": ")[0][:LONGEST_REASON]
        kind = group, status, text
        if kind not in counts and len(counts) >= MOST_REASONS:
            kind = "", status, OTHERS
        if kind not in counts and len(counts) >= 2 * MOST_REASONS:
            kind = "", -1, OTHERS
        counts[kind] += 1

    def report(self) -> dict[str, Any]:
        """Return the numbers of each whole minute, the latest last, and of all and the present one by reason."""
        self._now()
        present = next(reversed(self._minutes))
        kinds: Counter[Kind] = Counter()
        for counts in self._minutes.values():
            kinds.update(counts)
        by_minute = [self._minutes.get(present - ago, Counter()) for ago in range(MINUTES, 0, -1)]
        return {
            "minutes": MINUTES,
            "completed": [sum(counts.values()) for counts in by_minute],
            "failed": [sum(number for (_, status, _), number in counts.items() if status) for counts in by_minute],
            "outcomes": [
                {"group": group, "status": status, "reason": reason, "count": number}
                for (group, status, reason), number in kinds.most_common()
            ],
        }

    def _now(self) -> Counter[Kind]:
        minute = int(self._clock() // _MINUTE)
        counts = self._minutes.get(minute)
        if counts is None:
            counts = self._minutes[minute] = Counter()
            while next(iter(self._minutes)) < minute - MINUTES:
                self._minutes.popitem(last=False)
        return counts
