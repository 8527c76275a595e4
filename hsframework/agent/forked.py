"""Workers as their keeper has them, and the two ways to end one."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from dataclasses import dataclass, field

from hsframework.agent.worker import REPLACED
from hsframework.process.giving_way import WORKER_SHARE, GivingWay


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


def end_at_once(pid: int) -> None:
    """Kill a worker that was just forked, and reap it."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
