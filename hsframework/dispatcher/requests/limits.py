"""Limits on pending requests: of one source, of one consumer and of one remote address, each within one group.

Rules:

* Groups are independent, and so are the sources within each: the kernel in one network namespace, or all programs.
  Every count belongs to one group and one source (:class:`_Place`), and there is none of all groups.  So the requests
  of one group cannot make another refuse or wait.
* A limit is one row of :func:`_limits`.  :meth:`PendingLimits.take` and :meth:`PendingLimits.room_for` go through the
  same rows, so a limit that refuses a request is also asked before the kernel's ACCEPT takes one.  A request that
  ACCEPT took and a limit refuses has failed; one that is left in the kernel's queue has not.
* The remote address is unknown before ACCEPT.  A limit by address is therefore the only one that can refuse a request
  of the kernel's.
* File descriptors are what all groups share.  :func:`within_fds` gives each place an equal share of them beforehand,
  and :attr:`~hsframework.configuration.settings.Limits.groups` is the number of groups for which there are shares.
"""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple

from hsframework.configuration.settings import Configuration, Limits
from hsframework.errors import RequestRefused

FD_RESERVE = 256
"""File descriptors for all but pending requests and connections."""


class Claim(NamedTuple):
    """The properties by which a request is counted.  ``address``: None before ACCEPT."""

    group: str
    source: str
    consumer: Hashable
    address: str | None


@dataclass(frozen=True, slots=True)
class _Limit:
    """One limit."""

    most: int
    key: Callable[[Claim], Hashable]
    """The property that is counted.  None: unknown as yet, so the limit is passed over."""
    text: str


def _limits(limits: Limits) -> tuple[_Limit, ...]:
    """Return every limit that may refuse a request."""
    return (
        _Limit(limits.per_source, lambda _: "all", "of this source"),
        _Limit(limits.per_consumer, lambda claim: claim.consumer, "of this consumer"),
        _Limit(limits.per_address, lambda claim: claim.address, "with {key}"),
    )


_Place = tuple[dict[Hashable, int], ...]
"""Counts of one source's requests in one group: a dictionary for each limit."""


class PendingLimits:
    """Counts of the requests that were taken and not yet completed."""

    def __init__(self, limits: Limits) -> None:
        self._limits = _limits(limits)
        self._places: dict[tuple[str, str], _Place] = {}
        """By group and source."""

    def take(self, claim: Claim) -> None:
        """Count one more.  Raises RequestRefused with EAGAIN, and then counts nothing."""
        place = self._places.get(claim[:2])
        if place is None:
            place = self._places[claim[:2]] = tuple({} for _ in self._limits)
        reached = self._reached(place, claim)
        if reached is not None:
            whose = reached.text.format(key=reached.key(claim))
            raise RequestRefused(
                f"{reached.most} requests {whose} are pending in the group {claim.group!r}, the limit for one; try "
                "again later",
                errno=errno.EAGAIN,
            )
        for limit, counts in zip(self._limits, place, strict=True):
            key = limit.key(claim)
            counts[key] = counts.get(key, 0) + 1

    def room_for(self, claim: Claim) -> bool:
        """Return True if :meth:`take` would count one more, as far as its address does not matter."""
        place = self._places.get(claim[:2])
        return place is None or self._reached(place, claim._replace(address=None)) is None

    def give_back(self, claim: Claim) -> None:
        """Count one less.  ``claim``: that of :meth:`take`."""
        place = self._places[claim[:2]]
        for limit, counts in zip(self._limits, place, strict=True):
            key = limit.key(claim)
            if counts[key] == 1:
                del counts[key]
            else:
                counts[key] -= 1

    def _reached(self, place: _Place, claim: Claim) -> _Limit | None:
        """Return the first limit that allows no more, or None."""
        for limit, counts in zip(self._limits, place, strict=True):
            key = limit.key(claim)
            if key is not None and counts.get(key, 0) >= limit.most:
                return limit
        return None


def places(configuration: Configuration) -> int:
    """Return the number of places that may be in use at once: sources, times groups."""
    kernel = configuration.kernel
    forms = 1 + kernel.raw.enabled if kernel.enabled else 0
    return (1 + forms * (1 + len(kernel.namespaces))) * configuration.limits.groups


def reserve(configuration: Configuration) -> int:
    """Return the number of file descriptors that are not for pending requests."""
    return FD_RESERVE + 2 * configuration.limits.connections


def within_fds(configuration: Configuration, fds: int) -> Configuration:
    """Return the configuration with a ``per-source`` limit for which a process with so many fds has enough.

    Each request holds one.  An ACCEPT that fails for want of an fd ends a request, of whichever group.
    """
    share = max(fds // 2, fds - reserve(configuration)) // places(configuration)
    limits = configuration.limits
    limits = dataclasses.replace(limits, per_source=min(limits.per_source, max(1, share)))
    return dataclasses.replace(configuration, limits=limits)
