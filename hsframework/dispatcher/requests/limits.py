"""Limits on pending requests: of one source, of one consumer and of one remote network, each within one group.

Rules:

* Groups are independent, and so are the sources within each: the kernel in one network namespace, or all programs.
  Every count belongs to one group and one source (:class:`_Place`), and there is none of all groups.  So the requests
  of one group cannot make another refuse or wait.
* A limit is one row of :func:`_limits`.  :meth:`PendingLimits.take` and :meth:`PendingLimits.room_for` go through the
  same rows, so a limit that refuses a request is also asked before the kernel's ACCEPT takes one.  A request that
  ACCEPT took and a limit refuses has failed; one that is left in the kernel's queue has not.
* No user takes what another needs.  Of a source's requests an eighth is for root, the dispatcher's own user and the
  kernel; a remote network is counted for each user by itself.
* A host may have a whole /64 of IPv6: addresses are counted by networks (``limits.ipv4-prefix``, ``ipv6-prefix``).
* The remote address is unknown before ACCEPT.  A limit by address is therefore the only one that can refuse a request
  of the kernel's.
* File descriptors are what all groups share.  :func:`within_fds` gives each place an equal share of them beforehand,
  and :attr:`~hsframework.configuration.settings.Limits.groups` is the number of groups for which there are shares.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from hsframework.configuration.settings import Configuration, Limits
from hsframework.errors import RequestRefused
from hsframework.local.networks import network_of

_RESERVE = 8
"""Share of a source's requests that is for root, the dispatcher's own user and the kernel: one in so many."""

FD_RESERVE = 256
"""File descriptors for all but pending requests and connections."""


class Claim(NamedTuple):
    """The properties by which a request is counted.

    ``consumer``: the user id of a program, or a name of the kernel's.  ``address``: None before ACCEPT.
    """

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
    reserved: int = 0
    """Of these, those that only a privileged consumer may have."""


def _limits(limits: Limits) -> tuple[_Limit, ...]:
    """Return every limit that may refuse a request."""
    return (
        _Limit(limits.per_source, attrgetter("source"), "of this source", limits.per_source // _RESERVE),
        _Limit(limits.per_consumer, attrgetter("consumer"), "of this consumer"),
        _Limit(limits.per_address, _network, "of this consumer with {address}"),
    )


def _network(claim: Claim) -> Hashable:
    """Return the consumer's remote network, or None before ACCEPT."""
    return None if claim.address is None else (claim.consumer, claim.address)


_Place = tuple[dict[Hashable, int], ...]
"""Counts of one source's requests in one group: a dictionary for each limit."""

Counted = Sequence[tuple[dict[Hashable, int], Hashable]]
"""The counts in which a request is counted, each with the property."""


class PendingLimits:
    """Counts of the requests that were taken and not yet completed."""

    def __init__(self, limits: Limits) -> None:
        self._limits = _limits(limits)
        self._prefixes = limits.ipv4_prefix, limits.ipv6_prefix
        self._privileged = frozenset({0, os.geteuid()})
        self._keys = tuple(limit.key for limit in self._limits)
        self._most = tuple(limit.most for limit in self._limits)
        self._most_of_users = tuple(limit.most - limit.reserved for limit in self._limits)
        self._places: dict[tuple[str, str], _Place] = {}
        """By group and source."""

    def take(self, claim: Claim) -> Counted:
        """Count one more.  Raises RequestRefused with EAGAIN, and then counts nothing."""
        if claim.address is not None:
            claim = claim._replace(address=network_of(claim.address, *self._prefixes))
        place = self._places.get((claim.group, claim.source))
        if place is None:
            place = self._places[claim.group, claim.source] = tuple({} for _ in self._limits)
        counted = [(counts, key(claim)) for counts, key in zip(place, self._keys, strict=True)]
        limit = self._reached(counted, claim)
        if limit is not None:
            whose = limit.text.format(address=claim.address)
            raise RequestRefused(
                f"{limit.most} requests {whose} are pending in the group {claim.group!r}, the limit for one; try again "
                "later",
                errno=errno.EAGAIN,
            )
        for counts, key in counted:
            counts[key] = counts.get(key, 0) + 1
        return counted

    def room_for(self, claim: Claim) -> bool:
        """Return True if :meth:`take` would count one more, as far as its address does not matter."""
        place = self._places.get((claim.group, claim.source))
        if place is None:
            return True
        claim = claim._replace(address=None)
        counted = [(counts, key(claim)) for counts, key in zip(place, self._keys, strict=True)]
        return self._reached(counted, claim) is None

    def _reached(self, counted: Counted, claim: Claim) -> _Limit | None:
        """Return the first limit that allows no more, or None."""
        most = self._most_of_users if self._is_user(claim) else self._most
        for row, (counts, key) in enumerate(counted):
            if counts.get(key, 0) >= most[row] and key is not None:
                return self._limits[row]
        return None

    def _is_user(self, claim: Claim) -> bool:
        """Return True for a program of a user who is neither root nor the dispatcher's own."""
        return isinstance(claim.consumer, int) and claim.consumer not in self._privileged


def give_back(counted: Counted) -> None:
    """Count one less.  ``counted``: as :meth:`PendingLimits.take` returned it."""
    for counts, key in counted:
        if counts[key] == 1:
            del counts[key]
        else:
            counts[key] -= 1


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
