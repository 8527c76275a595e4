"""Niceness of a process that serves one user: one that uses much processor time gives way to all others.

Rules:

* Much is a share of all processors over a second, so that on a machine with six or more no process of one thread gives
  way: there the others have processors enough.  One user who makes one handshake after the other uses less.
* To give way costs nothing on a machine that is idle.
* It goes back once it has used less for :data:`QUIET_TIME` seconds.  Without CAP_SYS_NICE that takes RLIMIT_NICE
  (:func:`allow_going_back`); where that is not set either, it gives way for as long as it lives.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Callable

CELL_SHARE, WORKER_SHARE = 1 / 6, 1 / 3
"""Shares of the machine's processor time that are much: a worker has more to do for a handshake than a cell."""

MORE = 10
"""Niceness that is added: an ordinary process beside it gets ten times as much."""

WINDOW, QUIET_TIME = 1.0, 5.0
"""Seconds of a measurement, and without a high one until the process goes back."""

_ORDINARY = 20
"""RLIMIT_NICE that allows niceness 0."""


def allow_going_back() -> None:
    """Let this process, and those forked from it, go back to the niceness of ordinary ones, if that may be allowed."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NICE, (_ORDINARY, _ORDINARY))


class GivingWay:
    """Niceness of a process, to be looked at each second or oftener.

    ``share``: of the machine's processor time, that is much.  ``used``: returns its seconds of processor time.
    """

    def __init__(self, pid: int, share: float, used: Callable[[], float] | None = None) -> None:
        self._pid = pid
        self._used = used or (lambda: _processor_time(pid))
        self._before: tuple[float, float] | None = None
        """Time of the last measurement, and what was used by then."""
        self._quiet_at: float | None = None
        """Time at which the process goes back; None: it does not give way."""
        self._ordinary = 0
        self._much = share * len(os.sched_getaffinity(0))

    def look(self, now: float) -> None:
        """Measure, and change the niceness where it is time.  One that has ended is left alone."""
        with contextlib.suppress(OSError):
            used = self._used()
            if self._before is None:
                self._before = now, used
                self._ordinary = os.getpriority(os.PRIO_PROCESS, self._pid)
            elif now - self._before[0] >= WINDOW:
                share = (used - self._before[1]) / (now - self._before[0])
                self._before = now, used
                self._judge(share, now)

    def _judge(self, share: float, now: float) -> None:
        """Change the niceness.  Raises OSError."""
        if share > self._much:
            first, self._quiet_at = self._quiet_at is None, now + QUIET_TIME
            if first:
                os.setpriority(os.PRIO_PROCESS, self._pid, min(19, self._ordinary + MORE))
        elif self._quiet_at is not None and now >= self._quiet_at:
            self._quiet_at = None
            os.setpriority(os.PRIO_PROCESS, self._pid, self._ordinary)


def _processor_time(pid: int) -> float:
    """Return the seconds of processor time that a process has used.  Raises OSError."""
    return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3), which opens no file
