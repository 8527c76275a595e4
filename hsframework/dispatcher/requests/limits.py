"""Limits of pending requests: in all, for a consumer, and for a remote address."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Hashable
from typing import Any

from hsframework.configuration.settings import Limits
from hsframework.errors import RequestRefused


class PendingLimits:
    """Numbers of the requests that are taken and not closed.  :meth:`take` and :meth:`give_back` come in pairs."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._consumers: Counter[Hashable] = Counter()
        self._addresses: Counter[str] = Counter()
        self.total = 0

    def take(self, consumer: Hashable, address: str) -> None:
        """Count one more.  Raises RequestRefused (EAGAIN) at a limit, and then nothing is counted."""
        limits = self._limits
        if self.total >= limits.total:
            raise _busy(f"{self.total} requests are pending, the limit in all")
        if self._consumers[consumer] >= limits.per_consumer:
            raise _busy(f"{limits.per_consumer} requests of this consumer are pending, the limit for one")
        if self._addresses[address] >= limits.per_address:
            raise _busy(f"{limits.per_address} requests with {address} are pending, the limit for one address")
        self.total += 1
        self._consumers[consumer] += 1
        self._addresses[address] += 1

    def room_for(self, consumer: Hashable) -> bool:
        """True if one more of this consumer's may be taken, whatever the limit for its address says."""
        return self.total < self._limits.total and self._consumers[consumer] < self._limits.per_consumer

    def give_back(self, consumer: Hashable, address: str) -> None:
        """Count one less."""
        self.total -= 1
        _decrease(self._consumers, consumer)
        _decrease(self._addresses, address)


def _decrease(counter: Counter[Any], key: Hashable) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def _busy(reason: str) -> RequestRefused:
    return RequestRefused(f"{reason}; try again later", errno=errno.EAGAIN)
