"""Values that processes forked from one another must not share.

An agent's workers are forked from a process that has prepared everything.  Two workers with one device key and one SPI
counter would give the same SPI and key to two connections, and AES-GCM ends where a nonce comes twice; two workers
with one netlink socket would take each other's answers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value that is made anew in each process, when it is first asked for there."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: tuple[int, T] | None = None

    def get(self) -> T:
        """Return this process's own value, made at the first call.

        An error in making it is raised, and the next call tries again.
        """
        process = os.getpid()
        if self._made is None or self._made[0] != process:
            self._made = (process, self._make())
        return self._made[1]

    @property
    def existing(self) -> T | None:
        """This process's own value, if it was made."""
        return self._made[1] if self._made is not None and self._made[0] == os.getpid() else None
