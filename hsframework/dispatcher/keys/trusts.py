"""The trust files that agents have been given, in a bounded number of slots.

A trust-id is a slot.  When all are in use, the one that was used longest ago gets new content and a new generation;
an agent that meets the slot again is sent the new file first, in the same connection and so in order.
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
    """One slot's content.  ``fd`` is a sealed memfd that stays ours."""

    number: int
    generation: int
    fd: int
    size: int


class TrustFiles:
    """One memfd for each trust in use, by content."""

    def __init__(self, slots: int = SLOTS) -> None:
        self._slots = slots
        self._files: OrderedDict[bytes, TrustFile] = OrderedDict()
        self._generation = 0

    def file(self, trust: Trust) -> TrustFile:
        """The file of a trust; made when it is not there."""
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
