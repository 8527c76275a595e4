"""Repeated events of the log: the first are written, the others counted, so that nobody fills a disk.

* Events are the same if logger, level, text and causer (user, agent, source, child) are: what else an event says may be
  the causer's choice.  So one who floods hides his own events and nobody else's.
* Of the same events :data:`BURST` are written in :data:`WINDOW` seconds.  When these are over, one line says how many
  were not.
* The outcomes of handshakes are all written: each is a fact of its own, and a handshake costs its causer more than a
  line.  So is everything at the level debug, and at the level info what names no causer, such as records of plugins.
* Causers are remembered up to :data:`MOST_CAUSERS`; those beyond share one count for each level.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Hashable, MutableMapping
from dataclasses import dataclass
from typing import Any

import structlog

BURST = 100
WINDOW = 10.0
MOST_CAUSERS = 512

CAUSERS = ("uid", "agent", "source", "child", "process")
"""Fields that tell who caused an event."""

ALWAYS = frozenset({"handshake"})
"""Events that are never left out."""

_Event = MutableMapping[str, Any]


@dataclass(slots=True)
class _Count:
    """Count of the same events since ``begun``; ``event``: the first of them, without what differs."""

    begun: float
    event: dict[str, Any]
    number: int = 0


class Repeats:
    """Processor of structlog that leaves out repeated events.  ``clock``: seconds, for tests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[Hashable, _Count] = {}
        self._process = os.getpid()
        self._look_at = 0.0

    def __call__(self, logger: Any, method: str, event: _Event) -> _Event:
        """Return the event.  Raises structlog.DropEvent to leave it out."""
        if event["level"] == "debug" or event["event"] in ALWAYS:
            return event
        now = self._clock()
        self._report_ended(now)
        if event["level"] == "info" and event.keys().isdisjoint(CAUSERS):
            return event
        causer = {name: event[name] for name in CAUSERS if name in event}
        key: Hashable = (event["logger"], event["level"], event["event"], *map(str, causer.values()))
        count = self._counts.get(key)
        if count is None:
            if len(self._counts) >= MOST_CAUSERS:
                key, causer = event["level"], {}
            count = self._counts.setdefault(key, _Count(now, {"of": event["event"], **causer}))
        count.number += 1
        if count.number <= BURST:
            return event
        if count.number == BURST + 1:
            self._report_later()
        raise structlog.DropEvent

    def _report_ended(self, now: float) -> None:
        """Forget the windows that are over, and log how many of their events were left out."""
        if self._process != os.getpid():
            # Those of the process that was forked are reported there.
            self._process, self._counts = os.getpid(), {}
        if now < self._look_at:
            return
        ended = [key for key, count in self._counts.items() if now >= count.begun + WINDOW]
        over = [count for key in ended if (count := self._counts.pop(key)).number > BURST]
        self._look_at = min((count.begun for count in self._counts.values()), default=now) + WINDOW
        for count in over:
            structlog.get_logger("hsframework.log").warning(
                "the same event again", **count.event, times=count.number - BURST, seconds=round(now - count.begun)
            )

    def _report_later(self) -> None:
        """See to it that the number is logged although nothing else may happen, where there is an event loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        loop.call_later(WINDOW + 0.1, lambda: self._report_ended(self._clock()))
