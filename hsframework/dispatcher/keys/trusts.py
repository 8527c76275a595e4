"""Trust files for agents, in a bounded number of slots.

A trust-id is a slot.  When all are in use, the least recently used one gets new content and a new generation; the new
file is sent to an agent before the first request that names the slot again, over the same link and so in order.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass

from hsframework.interface import Trust
from hsframework.local.trustfile import create_trust_file

SLOTS = 64


@dataclass(frozen=True, slots=True)
class TrustFile:
    """Content of a slot.  ``fd`` is a sealed memfd that stays ours."""

    number: int
    generation: int
    fd: int
    size: int


class TrustFiles:
    """Memfds of the trusts in use, one for each content."""

    def __init__(self, slots: int = SLOTS) -> None:
        self._slots = slots
        self._files: OrderedDict[bytes, TrustFile] = OrderedDict()
        self._generation = 0

    def file(self, trust: Trust) -> TrustFile:
        """Return the file of a trust, made if there is none yet."""
        found = self._files.get(trust.digest)
        if found is not None:
            self._files.move_to_end(trust.digest)
            return found
        number = len(self._files) + 1
        if number > self._slots:
            _, oldest = self._files.popitem(last=False)
            number = oldest.number
            os.close(oldest.fd)
        self._generation += 1
        fd, size = create_trust_file(trust)
        file = self._files[trust.digest] = TrustFile(number, self._generation, fd, size)
        return file

    def close(self) -> None:
        """Close every memfd."""
        while self._files:
            os.close(self._files.popitem()[1].fd)
