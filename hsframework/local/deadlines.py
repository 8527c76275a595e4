"""Deadlines that share timers of the event loop, for many deadlines of which few pass.

A timer of the loop for each deadline costs more than the rest of a short request's work: the loop's heap compares in
Python, and cancelled entries must be removed from it.  Here deadlines that are close together share a timer, and
removing one costs a set operation.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Generic, TypeVar

GRAIN = 0.01
"""Seconds by which the call for a deadline may be late."""

T = TypeVar("T")


class Deadlines(Generic[T]):
    """A set of items with one deadline each; ``passed(item)`` is called when it has passed.

    The call is at most :data:`GRAIN` late and never early.  Items are compared by hash.  :meth:`add` returns a ticket,
    with which :meth:`remove` removes the item.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, passed: Callable[[T], object]) -> None:
        self._loop = loop
        self._passed = passed
        self._shared: dict[int, tuple[set[T], asyncio.TimerHandle]] = {}

    def add(self, item: T, when: float) -> int:
        """Add an item and return its ticket; ``when``: seconds on the loop's clock."""
        ticket = math.ceil(when / GRAIN)
        found = self._shared.get(ticket)
        if found is None:
            found = self._shared[ticket] = set(), self._loop.call_at(ticket * GRAIN, self._due, ticket)
        found[0].add(item)
        return ticket

    def remove(self, item: T, ticket: int) -> None:
        """Remove an item, unless its deadline has passed already."""
        found = self._shared.get(ticket)
        if found is not None:
            found[0].discard(item)

    def close(self) -> None:
        """Remove all items."""
        for items, timer in self._shared.values():
            items.clear()
            timer.cancel()
        self._shared.clear()

    def _due(self, ticket: int) -> None:
        if ticket not in self._shared:
            return
        items, _ = self._shared[ticket]
        try:
            # One item at a time, because its call may remove others, and may raise.
            while items:
                self._passed(items.pop())
        finally:
            if items:
                self._loop.call_soon(self._due, ticket)
            else:
                self._shared.pop(ticket, None)
