"""End of child processes, also of those that do not stop when they are told to."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from typing import Protocol

import structlog

KILL_TIME = 1.0
"""Seconds that children have to end after SIGKILL."""

_log = structlog.get_logger("hsframework.supervisor")


class Process(Protocol):
    """Child process.  ``pid``: 0 once it has ended, or was left."""

    name: str
    pid: int


def end_all(children: Sequence[Process], timeout: float) -> None:
    """Tell children to stop, wait for them together, and kill those that have not ended after so many seconds."""
    for child in children:
        os.kill(child.pid, signal.SIGTERM)
    for child in _left_after(children, timeout):
        _log.error("does not stop and is killed", child=child.name, process=child.pid)
        os.kill(child.pid, signal.SIGKILL)
    for child in _left_after(children, KILL_TIME):
        # In an uninterruptible wait: it ends when that is over.
        _log.error("cannot be ended and is left", child=child.name, process=child.pid)
        child.pid = 0


def _left_after(children: Sequence[Process], timeout: float) -> list[Process]:
    """Wait until all children have ended, or for so many seconds.  Return those that have not."""
    deadline = time.monotonic() + timeout
    while running := [child for child in children if child.pid]:
        late = time.monotonic() > deadline
        for child in running:
            if os.waitpid(child.pid, os.WNOHANG)[0]:
                child.pid = 0
        if late:
            break
        time.sleep(0.01)
    return [child for child in children if child.pid]
