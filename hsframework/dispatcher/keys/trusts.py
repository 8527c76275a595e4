"""Trust files for agents, in a bounded number of slots.

A trust-id is a slot.  When all are in use, the least recently used one gets new content and a new generation; the new
file is sent to an agent before the first request that names the slot again, over the same link and so in order.

The memory of a memfd belongs to no process, and so is not locked with the dispatcher's: it goes to swap, and a worker
that replaces another would read it from there, by a connection that may need that worker.  So each is mapped here.
"""

from __future__ import annotations

import mmap
import os
from collections import OrderedDict
from collections.abc import Iterable, Set
from dataclasses import dataclass

from hsframework.dispatcher.keys.given import GivenTrust
from hsframework.interface import Trust
from hsframework.local.trustfile import create_trust_file

SLOTS = 64
GIVEN_SLOTS = 4
"""Slots of the trusts that consumers bring in files: agents keep what a slot holds, up to 64 MiB of each."""


@dataclass(frozen=True, slots=True)
class TrustFile:
    """Content of a slot.  ``fd`` is a sealed memfd that stays ours, and ``mapping`` keeps it in locked memory."""

    number: int
    generation: int
    fd: int
    size: int
    mapping: mmap.mmap | None

    def close(self) -> None:
        """Close the memfd."""
        if self.mapping is not None:
            self.mapping.close()
        os.close(self.fd)


class TrustFiles:
    """Memfds of the trusts in use, one for each content.  Those of consumers have slots of their own."""

    def __init__(self, slots: int = SLOTS, given_slots: int = GIVEN_SLOTS) -> None:
        self._own = _Slots(1, slots)
        self._given = _Slots(slots + 1, given_slots)

    def file(self, trust: Trust | GivenTrust) -> TrustFile:
        """Return the file of a trust, made if there is none yet.  Raises OSError."""
        return (self._given if isinstance(trust, GivenTrust) else self._own).file(trust)

    def keep(self, digests: Iterable[bytes]) -> None:
        """Drop the trusts of the dispatcher's own that are no longer in force; one that is used again is made again."""
        self._own.keep(frozenset(digests))

    def close(self) -> None:
        """Close every memfd."""
        for slots in (self._own, self._given):
            slots.close()


class _Slots:
    """``most`` slots with numbers from ``first`` on."""

    def __init__(self, first: int, most: int) -> None:
        self._files: OrderedDict[bytes, TrustFile] = OrderedDict()
        self._free = list(range(first + most - 1, first - 1, -1))
        self._generation = 0

    def file(self, trust: Trust | GivenTrust) -> TrustFile:
        found = self._files.get(trust.digest)
        if found is not None:
            self._files.move_to_end(trust.digest)
            return found
        # Before a slot is emptied: it may fail for want of memory.
        fd, size, mapping = _created(trust)
        if not self._free:
            self._drop(next(iter(self._files)))
        number = self._free.pop()
        self._generation += 1
        file = self._files[trust.digest] = TrustFile(number, self._generation, fd, size, mapping)
        return file

    def keep(self, digests: Set[bytes]) -> None:
        for digest in self._files.keys() - digests:
            self._drop(digest)

    def close(self) -> None:
        self.keep(frozenset())

    def _drop(self, digest: bytes) -> None:
        file = self._files.pop(digest)
        self._free.append(file.number)
        file.close()


def _created(trust: Trust | GivenTrust) -> tuple[int, int, mmap.mmap | None]:
    """Create a trust file; return its fd, its size and its mapping.  Raises OSError."""
    if isinstance(trust, GivenTrust):
        return os.dup(trust.fd), trust.size, None
    fd, size = create_trust_file(trust)
    try:
        return fd, size, _mapped(fd, size)
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
