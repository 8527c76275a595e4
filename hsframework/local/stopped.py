"""Children that are stopped (SIGSTOP), and stay so: their parent ends them.

A stopped process serves nobody, cannot report that, and is no end that its parent would see.  The kernel sends SIGCHLD
when it stops.

A pause of the whole machine stops everybody, the parent too: whoever is continued within :data:`LIMIT` seconds of the
parent's own time is left alone (:mod:`hsframework.local.liveness`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Generic, TypeVar

from hsframework.local.liveness import Liveness

LIMIT = 0.75
"""Seconds for which a child may be stopped."""

K = TypeVar("K")


class StoppedChildren(Generic[K]):
    """Children that were found stopped, and since when."""

    def __init__(self) -> None:
        self._liveness: Liveness[K] = Liveness(LIMIT)
        self._stopped: set[K] = set()
        self.look_at: float | None = None
        """Time of the next look, on the clock of :meth:`look`; None: when SIGCHLD comes."""

    def look(self, children: Iterable[tuple[K, int]], now: float) -> list[K]:
        """Return those that have been stopped for the limit; ``children``: all that run, with their pids.

        To be called at :attr:`look_at` and whenever SIGCHLD has come.
        """
        stopped = {key for key, pid in children if is_stopped(pid)}
        for key in self._stopped - stopped:
            self._liveness.forget(key)
        for key in stopped - self._stopped:
            self._liveness.heard(key, now)
        found = self._liveness.silent(now) if stopped else []
        self._stopped = stopped.difference(found)
        self.look_at = now + self._liveness.interval if self._stopped else None
        return found


def is_stopped(pid: int) -> bool:
    """Return True if a child of this process is stopped; it is neither reaped nor changed."""
    try:
        return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False
