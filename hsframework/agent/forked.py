"""Workers as their keeper has them, and the ways to end one."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from dataclasses import dataclass, field

import structlog

from hsframework.agent.worker import REPLACED
from hsframework.process.giving_way import WORKER_SHARE, GivingWay

KILL_TIME = 1.0
"""Seconds that a worker has to end after SIGKILL."""

_log = structlog.get_logger("hsframework.agent")


@dataclass(eq=False)
class Forked:
    """A worker: its process, and the keeper's end of its socket pair."""

    pid: int
    pidfd: int
    report: socket.socket
    cell: int | None = None
    """The cell that it serves; None: the dispatcher, whose workers are replaced when they die."""
    joined: bool = False
    retired: bool = False
    renewed: bool = False
    """True if it retires because what it remembers is no longer in force: no fault of its own."""
    _niceness: GivingWay | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.cell is not None:
            self._niceness = GivingWay(self.pid, WORKER_SHARE)

    def turns(self, now: float) -> None:
        """Note that its loop turns: one that serves a cell gives way where it uses much processor time."""
        if self._niceness is not None:
            self._niceness.look(now)


def let_go(retired: Forked) -> None:
    """Tell a worker that retires that it has been replaced."""
    with contextlib.suppress(OSError):
        retired.report.send(REPLACED, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def kill(worker: Forked) -> None:
    """Send SIGKILL."""
    signal.pidfd_send_signal(worker.pidfd, signal.SIGKILL)


def await_end(worker: Forked, deadline: float) -> None:
    """Wait for a worker that was told to stop, and kill it when it does not.  ``deadline``: on time.monotonic()."""
    with selectors.DefaultSelector() as wait:
        wait.register(worker.pidfd, selectors.EVENT_READ)
        if not wait.select(max(0.0, deadline - time.monotonic())):
            _log.error("a worker does not stop and is killed", process=worker.pid)
            kill(worker)
            # One in an uninterruptible wait ends when that is over, without us.
            wait.select(KILL_TIME)
    os.waitpid(worker.pid, os.WNOHANG)


def end_at_once(pid: int) -> None:
    """Kill a worker that was just forked, and reap it."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
