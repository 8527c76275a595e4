"""Real-time priority, the lowest, for a process that must run ahead of all others and sleeps nearly always.

Rules:

* It must not keep the processor from the others (RLIMIT_RTTIME): when it has not slept for :data:`LONGEST_TURN` seconds
  of the processor's time it falls back into line, and where it cannot even do that, it is killed.
* It runs ahead again once it has been quiet for :data:`QUIET_TIME` seconds.  Whoever can make it spin has one
  processor for ``LONGEST_TURN`` in each ``QUIET_TIME`` at most, and what runs in line in between is the scheduler's to
  share out.
* No capability is needed for that, which the process has given up by then: RLIMIT_RTPRIO lets it take this priority and
  no higher one.
* Children do not inherit the priority.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable
from types import FrameType

import structlog

LONGEST_TURN, DEADLY_TURN = 1, 3
"""Seconds of the processor's time at real-time priority, without a system call that sleeps."""

QUIET_TIME = 60.0
QUIET_SHARE = 0.5
"""Seconds in line, and how much of them the process may have used the processor to be called quiet."""

_log = structlog.get_logger("hsframework.dispatcher")


class Turns:
    """Priority of this process; belongs to its main thread.  ``used``: seconds of the processor's time so far."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        quiet_time: float = QUIET_TIME,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        self._loop = loop
        self._quiet_time = quiet_time
        self._used = used
        self._limits = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    def run_ahead(self) -> None:
        """Take real-time priority, if that is allowed."""
        if _runs_ahead():
            return
        try:
            _take_priority()
        except OSError as error:
            _log.info("no real-time priority", reason=error.strerror)
            return
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_RTPRIO, (_lowest(), _lowest()))

    def bound(self) -> None:
        """Limit the turns of a process that has real-time priority, by :meth:`run_ahead` or from its start."""
        if not _runs_ahead():
            return
        signal.signal(signal.SIGXCPU, self._fall_into_line)
        limits = zip((LONGEST_TURN, DEADLY_TURN), resource.getrlimit(resource.RLIMIT_RTTIME), strict=True)
        soft, hard = (ours * 1_000_000 if now == resource.RLIM_INFINITY else now for ours, now in limits)
        self._limits = (min(soft, hard), hard)
        self._begin()

    def _begin(self) -> None:
        time.sleep(0.001)  # ends the turn that has been, at the start or when the priority was given up
        # The kernel raises the soft limit by a second for each signal.
        resource.setrlimit(resource.RLIMIT_RTTIME, self._limits)

    def _fall_into_line(self, number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            # To take SCHED_RESET_ON_FORK away takes a capability that is gone by now.
            os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
            _log.error("a turn was too long; the process goes on without real-time priority", seconds=LONGEST_TURN)
            self._loop.call_soon_threadsafe(self._watch)

    def _watch(self) -> None:
        self._loop.call_later(self._quiet_time, self._look, self._used())

    def _look(self, used_before: float) -> None:
        if self._used() - used_before > QUIET_SHARE * self._quiet_time:
            self._watch()
            return
        try:
            _take_priority()
        except OSError as error:
            _log.info("no real-time priority until the next start", reason=error.strerror)
            return
        self._begin()
        _log.info("real-time priority again")


def _take_priority() -> None:
    os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(_lowest()))


def _lowest() -> int:
    return os.sched_get_priority_min(os.SCHED_RR)


def _runs_ahead() -> bool:
    with contextlib.suppress(OSError):
        return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK in (os.SCHED_FIFO, os.SCHED_RR)
    return False
