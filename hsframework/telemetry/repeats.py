"""Repeated events of the log: the first are written, the others counted, so that nobody fills a disk.

* Events are the same if logger, level, text and causer are: what else an event says may be the causer's choice.  So one
  who floods hides his own events and nobody else's.
* The causer is the user, where an event names one: he chooses the names of his agents, and has as many processes as he
  likes.  Else it is agent, source, child or process.
* Of the same events :data:`BURST` are written in :data:`WINDOW` seconds.  When these are over, one line says how many
  were not.  Once as many as :data:`CROWD` causers have had, only the first of each is: a user may have many numbers.
* Handshakes that have succeeded are all written: each is a fact of its own, and costs its causer more than a line.  So
  is everything at the level debug, and at the level info what names no causer, such as records of plugins.
* The causer of a handshake that has failed is its peer, by the address without the port, with the user who wanted it.
* Causers are remembered up to :data:`MOST_CAUSERS`; those beyond share one count for each level.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Hashable, MutableMapping
from dataclasses import dataclass
from typing import Any

import structlog

BURST = 100
CROWD = 10
WINDOW = 10.0
MOST_CAUSERS = 512

USER = "uid"
CAUSERS = (USER, "agent", "source", "child", "process")
"""Fields that tell who caused an event."""

HANDSHAKE = "handshake"
"""The event that is never left out if it is a success, and otherwise counts for its peer."""

_Event = MutableMapping[str, Any]


@dataclass(slots=True)
class _Count:
    """Count of the same events since ``begun``; ``event``: the first of them, without what differs.

    ``kind``: that of the events of all causers together.
    """

    begun: float
    kind: Hashable
    event: dict[str, Any]
    number: int = 0
    written: int = 0


class Repeats:
    """Processor of structlog that leaves out repeated events.  ``clock``: seconds, for tests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[Hashable, _Count] = {}
        self._written: Counter[Hashable] = Counter()
        """Events that were written, of all causers together."""
        self._process = os.getpid()
        self._look_at = 0.0

    def __call__(self, logger: Any, method: str, event: _Event) -> _Event:
        """Return the event.  Raises structlog.DropEvent to leave it out."""
        of_handshake = event["event"] == HANDSHAKE
        if event["level"] == "debug" or (of_handshake and event["level"] == "info"):
            return event
        now = self._clock()
        self._report_ended(now)
        if event["level"] == "info" and event.keys().isdisjoint(CAUSERS):
            return event
        causer = _peer(event) if of_handshake else _causer(event)
        key: Hashable = (event["logger"], event["level"], event["event"], *map(str, causer.values()))
        count = self._counts.get(key)
        if count is None:
            if len(self._counts) >= MOST_CAUSERS:
                key, causer = event["level"], {}
            kind = event["logger"], event["level"], event["event"]
            count = self._counts.setdefault(key, _Count(now, kind, {"of": event["event"], **causer}))
        count.number += 1
        if count.number == 1 or (count.number <= BURST and self._written[count.kind] < BURST * CROWD):
            self._written[count.kind] += 1
            count.written += 1
            return event
        if count.number == count.written + 1:
            self._report_later()
        raise structlog.DropEvent

    def _report_ended(self, now: float) -> None:
        """Forget the windows that are over, and log how many of their events were left out."""
        if self._process != os.getpid():
            # Those of the process that was forked are reported there.
            self._process, self._counts, self._written = os.getpid(), {}, Counter()
        if now < self._look_at:
            return
        ended = [self._counts.pop(key) for key, count in list(self._counts.items()) if now >= count.begun + WINDOW]
        for count in ended:
            self._written[count.kind] -= count.written
        self._written = +self._written
        over = [count for count in ended if count.number > count.written]
        self._look_at = min((count.begun for count in self._counts.values()), default=now) + WINDOW
        for count in over:
            left_out, seconds = count.number - count.written, round(now - count.begun)
            structlog.get_logger("hsframework.log").warning(
                "the same event again", **count.event, times=left_out, seconds=seconds
            )

    def _report_later(self) -> None:
        """See to it that the number is logged although nothing else may happen, where there is an event loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        loop.call_later(WINDOW + 0.1, lambda: self._report_ended(self._clock()))


def _causer(event: _Event) -> dict[str, Any]:
    return {name: event[name] for name in ((USER,) if USER in event else CAUSERS) if name in event}


def _peer(event: _Event) -> dict[str, Any]:
    """Return the causer of a handshake that has failed; of a peer on a unix socket, which has no address, the user."""
    host = str(event.get("peer", "")).rpartition(":")[0]
    found = {"peer": host} if host else {}
    return {**found, USER: event[USER]} if USER in event else found or _causer(event)
