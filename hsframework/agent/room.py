"""Room for requests in one process, which all its links share, and the file descriptors that limit it.

Room is made in the midst of other work, as when a request ends.  A link that waits for it is called from the event
loop, once that work is done.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable

FD_RESERVE = 64
"""File descriptors that are left for everything but requests."""

MAX_IN_HAND = 8192
_MOST_FDS = 1 << 30


def default_capacity() -> int:
    """Return the number of requests that fit under the limit of open files."""
    return max(1, min(_fd_limit() - FD_RESERVE, MAX_IN_HAND))


def _fd_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_FDS if soft == resource.RLIM_INFINITY else soft


class Room:
    """Room for ``capacity`` requests, or for as many as the limit of open files allows."""

    def __init__(self, capacity: int | None = None) -> None:
        self._free = capacity or default_capacity()
        self._waiting: dict[Callable[[], object], None] = {}
        self.highest_fd = _fd_limit() - FD_RESERVE // 4
        """A file descriptor that requests never come to: the kernel gives the lowest number that is free."""

    def take(self, wanted: int, call_again: Callable[[], object]) -> int:
        """Reserve room for up to ``wanted`` requests and return for how many.

        Where it is for none, the loop calls ``call_again`` once when there is room.
        """
        number = min(wanted, self._free)
        if number <= 0:
            self._waiting[call_again] = None
            return 0
        self._free -= number
        return number

    def occupy(self) -> None:
        """Take room for a request that came without having been asked for."""
        self._free -= 1

    def give_back(self, number: int) -> None:
        """Make room for so many requests, since as many have ended or did not come."""
        self._free += number
        if self._waiting and self._free > 0:
            for call_again in self._waiting:
                asyncio.get_running_loop().call_soon(call_again)
            self._waiting.clear()

    def shortage(self) -> str:
        """Return the resource that soon runs out, as a sentence; "": none.

        It is file descriptors, if more are open than requests can need: some leak then.
        """
        try:
            os.fstat(self.highest_fd)
        except OSError:
            return ""
        return "file descriptors run out"
