"""Limits on pending requests: in all, for one consumer and for one remote address.

Rules:

* A limit is one row of :func:`_limits`.  :meth:`PendingLimits.take` and :meth:`PendingLimits.room_for` go through the
  same rows, so a limit that refuses a request is also asked before the kernel's ACCEPT takes one.  A request that
  ACCEPT took and a limit refuses has failed; one that is left in the kernel's queue has not.
* The remote address is unknown before ACCEPT.  A limit by address is therefore the only one that can refuse a request
  of the kernel's.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from hsframework.configuration.settings import Limits
from hsframework.errors import RequestRefused


class Claim(NamedTuple):
    """The properties by which a request is counted.  ``address``: None before ACCEPT."""

    consumer: Hashable
    group: str
    address: str | None


@dataclass(slots=True)
class _Limit:
    """One limit and its counts."""

    most: int
    key: Callable[[Claim], Hashable]
    """The property that is counted.  None: unknown as yet, so the limit is passed over."""
    text: str
    counts: dict[Hashable, int] = field(default_factory=dict)


def _limits(limits: Limits) -> tuple[_Limit, ...]:
    """Return every limit that may refuse a request."""
    return (
        _Limit(limits.total, lambda _: "all", "{most} requests are pending, the limit in all"),
        _Limit(
            limits.per_consumer,
            attrgetter("consumer"),
            "{most} requests of this consumer are pending, the limit for one",
        ),
        _Limit(
            limits.per_address,
            attrgetter("address"),
            "{most} requests with {key} are pending, the limit for one address",
        ),
    )


class PendingLimits:
    """Counts of the requests that were taken and not yet completed."""

    def __init__(self, limits: Limits) -> None:
        self._limits = _limits(limits)

    def take(self, consumer: Hashable, group: str, address: str) -> None:
        """Count one more.  Raises RequestRefused with EAGAIN, and then counts nothing."""
        claim = Claim(consumer, group, address)
        reached = self._reached(claim)
        if reached is not None:
            text = reached.text.format(most=reached.most, key=reached.key(claim))
            raise RequestRefused(f"{text}; try again later", errno=errno.EAGAIN)
        for limit in self._limits:
            key = limit.key(claim)
            limit.counts[key] = limit.counts.get(key, 0) + 1

    def room_for(self, consumer: Hashable, group: str) -> bool:
        """Return True if :meth:`take` would count one more, as far as its address does not matter."""
        return self._reached(Claim(consumer, group, None)) is None

    def give_back(self, consumer: Hashable, group: str, address: str) -> None:
        """Count one less.  The arguments are those of :meth:`take`."""
        claim = Claim(consumer, group, address)
        for limit in self._limits:
            key = limit.key(claim)
            if limit.counts[key] == 1:
                del limit.counts[key]
            else:
                limit.counts[key] -= 1

    def _reached(self, claim: Claim) -> _Limit | None:
        """Return the first limit that allows no more, or None."""
        for limit in self._limits:
            key = limit.key(claim)
            if key is not None and limit.counts.get(key, 0) >= limit.most:
                return limit
        return None
