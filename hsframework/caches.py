"""Caches of a process, each bounded by a share of one number of bytes.

::

    verdicts: SizedCache[bytes, Verdict] = SizedCache("verdicts on peers", share=1 / 4)
    verdict = verdicts.get(key)
    if verdict is None:
        verdict = judge(...)
        verdicts.put(key, verdict, size)

The rules:

* The least recently used entries are dropped, until the others fit; the newest one stays, whatever its size.
* A cache *thrashes* when what it drops is wanted again: :data:`CROWDED` of :data:`WINDOW` look-ups missed an entry that
  was dropped for want of room.  That is logged once, until a window without such misses, and each such miss is counted
  (:func:`misses_for_want_of_room`), for a metric.
* A cache may be used by several threads.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

import structlog

__all__ = ["SizedCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

DEFAULT_BYTES = 256 << 20
"""Bytes of all caches of a process, unless the configuration says otherwise (``memory.cache``)."""
WINDOW = 256
"""Look-ups after which a cache decides whether it thrashes."""
CROWDED = 64
"""Misses for want of room in a window from which on it does."""
LEAST_REMEMBERED = 1024
"""Dropped keys that a cache knows at least, by their hashes; beyond, as many as it has entries."""

_log = structlog.get_logger("hsframework.cache")
_misses: Counter[str] = Counter()


class _Total:
    bytes = DEFAULT_BYTES


def set_total(size: int) -> None:
    """Set the bytes of all caches of this process."""
    _Total.bytes = size


def misses_for_want_of_room() -> dict[str, int]:
    """Return and forget the misses of entries that were dropped for want of room, by cache, of past windows."""
    if not _misses:
        return {}
    found = dict(_misses)
    _misses.clear()
    return found


class SizedCache(Generic[K, V]):
    """A cache whose entries have sizes.

    ``name``: for the log and the metric.  ``share``: its part of the process's bytes.  ``capacity``: bytes of its own
    instead.
    """

    def __init__(
        self,
        name: str,
        *,
        share: float = 1.0,
        capacity: int | None = None,
    ) -> None:
        self.name = name
        self.size = 0
        """Sum of the entries' sizes, in bytes."""
        self._share = share
        self._own = capacity
        self._dropped: Callable[[K, V], None] = lambda key, value: None
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._gone: OrderedDict[int, None] = OrderedDict()
        self._looked_up = self._missed = 0
        self._thrashes = False
        self._lock = threading.RLock()

    @property
    def capacity(self) -> int:
        """Return the bytes that it may have."""
        return int(_Total.bytes * self._share) if self._own is None else self._own

    def when_dropped(self, call: Callable[[K, V], None]) -> None:
        """Have ``call`` called with each key and value that is dropped for want of room."""
        self._dropped = call

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[K]:
        """Yield the keys, the least recently used first."""
        return iter(list(self._entries))

    def get(self, key: K) -> V | None:
        """Return the entry of this key, or None."""
        with self._lock:
            self._looked_up += 1
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            elif hash(key) in self._gone:
                self._missed += 1
            if self._looked_up >= WINDOW:
                self._end_window()
            return None if found is None else found[0]

    def items(self) -> list[tuple[K, V]]:
        """Return keys and values, the least recently used first, without using them."""
        with self._lock:
            return [(key, value) for key, (value, _) in self._entries.items()]

    def put(self, key: K, value: V, size: int) -> None:
        """Add an entry of ``size`` bytes, or replace it, and drop others until it fits."""
        with self._lock:
            self.pop(key)
            self._entries[key] = value, size
            self.size += size
            self._gone.pop(hash(key), None)
            while self.size > self.capacity and len(self._entries) > 1:
                oldest, (gone, its_size) = self._entries.popitem(last=False)
                self.size -= its_size
                self._gone[hash(oldest)] = None
                self._dropped(oldest, gone)
            while len(self._gone) > max(LEAST_REMEMBERED, len(self._entries)):
                self._gone.popitem(last=False)

    def pop(self, key: K) -> V | None:
        """Remove an entry, and return it; None: there is none.  It is not missed afterwards."""
        with self._lock:
            found = self._entries.pop(key, None)
            if found is None:
                return None
            self.size -= found[1]
            return found[0]

    def clear(self) -> None:
        """Remove every entry."""
        with self._lock:
            self._entries.clear()
            self._gone.clear()
            self.size = 0

    def _end_window(self) -> None:
        missed, self._missed, self._looked_up = self._missed, 0, 0
        if missed:
            _misses[self.name] += missed
        if missed >= CROWDED and not self._thrashes:
            self._thrashes = True
            _log.warning(
                "a cache is too small: what it drops is wanted again; raise memory.cache",
                cache=self.name,
                mebibytes=round(self.capacity / (1 << 20), 1),
                entries=len(self._entries),
                missed=missed,
                of=WINDOW,
            )
        elif not missed:
            self._thrashes = False
