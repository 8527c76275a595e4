"""Trust files for agents, in slots whose contents have a bounded number of bytes.

A trust-id is a slot.  When the trusts in use have more bytes than ``memory.cache`` gives them, the least recently used
ones lose their slots, and the next trusts get these, each with a new generation; the new file is sent to an agent
before the first request that names the slot again, over the same link and so in order.  What several trusts share
counts once: agents keep it once.

A file is needed while agents have not got it: the last :data:`FILES` stay open, and others are made again for a worker
that takes another's place.  The memory of a memfd belongs to no process, and so is not locked with the dispatcher's: it
goes to swap, and a worker that replaces another would read it from there, by a connection that may need that worker.
So each is mapped here.
"""

from __future__ import annotations

import mmap
import os
from collections import Counter, OrderedDict
from collections.abc import Iterable, Set
from dataclasses import dataclass

from hsframework.caches import SizedCache
from hsframework.dispatcher.keys.given import GivenTrust
from hsframework.interface import Trust
from hsframework.local.trustfile import MAX_GIVEN_SIZE, create_trust_file

FILES = 64
"""Files that are open, of the configuration's trusts and of consumers' each; they count among the file descriptors in
reserve."""
GIVEN_BYTES = 4 * MAX_GIVEN_SIZE
"""Bytes of the trusts that consumers bring in files and that agents keep."""
_ITEM = 64
"""Bytes that an anchor or a list takes in a trust which shares it with others."""


@dataclass(slots=True)
class Slot:
    """A slot with the content of one generation.  ``items``: what it shares with others."""

    number: int
    generation: int
    items: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class TrustFile:
    """Content of a slot.  ``fd`` is a sealed memfd that stays ours, and ``mapping`` keeps it in locked memory."""

    fd: int
    size: int
    mapping: mmap.mmap | None

    def close(self) -> None:
        """Close the memfd."""
        if self.mapping is not None:
            self.mapping.close()
        os.close(self.fd)


class TrustFiles:
    """Slots and memfds of the trusts in use, one for each content.  Those of consumers are bounded on their own.

    ``capacity``, ``given_capacity``: bytes; None: the share of ``memory.cache``.
    """

    def __init__(self, capacity: int | None = None, given_capacity: int = GIVEN_BYTES) -> None:
        self._numbers = _Numbers()
        self._own = _Slots(SizedCache("files of trusts", share=1 / 2, capacity=capacity), self._numbers)
        self._given = _Slots(SizedCache("consumers' trusts", capacity=given_capacity), self._numbers)

    def slot(self, trust: Trust | GivenTrust) -> Slot:
        """Return the slot of a trust; one that has none gets one, and a file.  Raises OSError."""
        return self._of(trust).slot(trust)

    def file(self, trust: Trust | GivenTrust) -> TrustFile:
        """Return the file of a trust, made if there is none.  Raises OSError."""
        return self._of(trust).file(trust)

    def _of(self, trust: Trust | GivenTrust) -> _Slots:
        return self._given if isinstance(trust, GivenTrust) else self._own

    def keep(self, digests: Iterable[bytes]) -> None:
        """Drop the trusts of the dispatcher's own that are no longer in force; one that is used again is made again."""
        self._own.keep(frozenset(digests))

    def close(self) -> None:
        """Close every memfd."""
        for slots in (self._own, self._given):
            slots.close()


class _Numbers:
    """Numbers of slots and of generations."""

    def __init__(self) -> None:
        self._last = self._generation = 0
        self.free: list[int] = []

    def next(self) -> int:
        """Return a number that is free, or a new one."""
        if self.free:
            return self.free.pop()
        self._last += 1
        return self._last

    def generation(self) -> int:
        """Return a generation that no slot had before."""
        self._generation += 1
        return self._generation


class _Slots:
    """Slots with a bound in bytes, and the files that are open."""

    def __init__(self, slots: SizedCache[bytes, Slot], numbers: _Numbers) -> None:
        slots.when_dropped(self._dropped)
        self._slots = slots
        self._numbers = numbers
        self._shared: Counter[bytes] = Counter()
        """Slots that have an item."""
        self._files: OrderedDict[bytes, TrustFile] = OrderedDict()

    def slot(self, trust: Trust | GivenTrust) -> Slot:
        found = self._slots.get(trust.digest)
        if found is not None:
            return found
        # Before a slot is emptied: it may fail for want of memory.
        size = self.file(trust).size
        items = () if isinstance(trust, GivenTrust) else (*trust.anchors, *trust.crls)
        size -= sum(len(item) for item in items if item in self._shared)
        self._shared.update(items)
        slot = Slot(0, self._numbers.generation(), items)
        self._slots.put(trust.digest, slot, size + _ITEM * len(items))
        slot.number = self._numbers.next()
        return slot

    def file(self, trust: Trust | GivenTrust) -> TrustFile:
        found = self._files.get(trust.digest)
        if found is None:
            found = self._files[trust.digest] = _created(trust)
            if len(self._files) > FILES:
                self._files.popitem(last=False)[1].close()
        else:
            self._files.move_to_end(trust.digest)
        return found

    def keep(self, digests: Set[bytes]) -> None:
        for digest in set(self._slots) - digests:
            slot = self._slots.pop(digest)
            assert slot is not None
            self._dropped(digest, slot)
        for digest in self._files.keys() - digests:
            self._files.pop(digest).close()

    def close(self) -> None:
        self.keep(frozenset())

    def _dropped(self, digest: bytes, slot: Slot) -> None:
        self._numbers.free.append(slot.number)
        self._shared.subtract(slot.items)
        for item in slot.items:
            if self._shared[item] <= 0:
                del self._shared[item]
        file = self._files.pop(digest, None)
        if file is not None:
            file.close()


def _created(trust: Trust | GivenTrust) -> TrustFile:
    """Create a trust file.  Raises OSError."""
    if isinstance(trust, GivenTrust):
        return TrustFile(os.dup(trust.fd), trust.size, None)
    fd, size = create_trust_file(trust)
    try:
        return TrustFile(fd, size, _mapped(fd, size))
    except BaseException:
        os.close(fd)
        raise


def _mapped(fd: int, size: int) -> mmap.mmap | None:
    """Map a file and read it in; None if it is empty."""
    if not size:
        return None
    mapping = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ)
    for offset in range(0, size, mmap.PAGESIZE):
        mapping[offset]
    return mapping
