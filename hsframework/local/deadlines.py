"""Many deadlines on one loop, most of which never come.

A timer of the loop's own for each costs more than the rest of what is done for a short request: a heap that compares
in Python, and dead entries that have to be swept out.  Here deadlines that are close together share a timer, and one
that is given up leaves nothing behind but its share.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Generic, TypeVar

GRAIN = 0.01
"""Seconds by which a deadline may be late."""

T = TypeVar("T")


class Deadlines(Generic[T]):
    """``passed(item)`` is called for each item whose deadline has come, at most :data:`GRAIN` late and never early.

    Items are told apart by identity or hash, and have one deadline at a time each: :meth:`add` returns its ticket,
    with which :meth:`remove` gives it up.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, passed: Callable[[T], object]) -> None:
        self._loop = loop
        self._passed = passed
        self._shared: dict[int, tuple[set[T], asyncio.TimerHandle]] = {}

    def add(self, item: T, when: float) -> int:
        """``when``: on the loop's clock.  Returns the ticket."""
        ticket = math.ceil(when / GRAIN)
        found = self._shared.get(ticket)
        if found is None:
            found = self._shared[ticket] = set(), self._loop.call_at(ticket * GRAIN, self._due, ticket)
        found[0].add(item)
        return ticket

    def remove(self, item: T, ticket: int) -> None:
        """Give it up.  Nothing happens for one that has passed."""
        found = self._shared.get(ticket)
        if found is not None:
            found[0].discard(item)

    def close(self) -> None:
        """Give up all."""
        for items, timer in self._shared.values():
            items.clear()
            timer.cancel()
        self._shared.clear()

    def _due(self, ticket: int) -> None:
        if ticket not in self._shared:
            return
        items, _ = self._shared[ticket]
        try:
            # An item at a time: what one brings about may give up another, and may fail.
            while items:
                self._passed(items.pop())
        finally:
            if items:
                self._loop.call_soon(self._due, ticket)
            else:
                self._shared.pop(ticket, None)
