"""End of a child process that was told to stop, also of one that does not."""

from __future__ import annotations

import os
import signal
import time
from typing import Protocol

import structlog

KILL_TIME = 1.0
"""Seconds that a child has to end after SIGKILL."""

_log = structlog.get_logger("hsframework.supervisor")


class Process(Protocol):
    """Child process.  ``pid``: 0 once it has ended, or was left."""

    name: str
    pid: int


def await_end(child: Process, deadline: float) -> None:
    """Wait for a child that was told to stop; kill it when it does not."""
    while child.pid:
        pid, _ = os.waitpid(child.pid, os.WNOHANG)
        if pid:
            child.pid = 0
        elif time.monotonic() > deadline:
            _log.error("does not stop and is killed", child=child.name, process=child.pid)
            os.kill(child.pid, signal.SIGKILL)
            _await_kill(child)
        else:
            time.sleep(0.01)


def _await_kill(child: Process) -> None:
    """Wait for a child that was killed, for a second: one in an uninterruptible wait ends when that is over."""
    end = time.monotonic() + KILL_TIME
    while not os.waitpid(child.pid, os.WNOHANG)[0]:
        if time.monotonic() > end:
            _log.error("cannot be ended and is left", child=child.name, process=child.pid)
            break
        time.sleep(0.01)
    child.pid = 0
