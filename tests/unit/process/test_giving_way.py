"""Niceness of processes that serve one user."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator

import pytest

from hsframework.process.capabilities import capable
from hsframework.process.giving_way import CELL_SHARE, MORE, QUIET_TIME, GivingWay, allow_going_back

CAP_SYS_NICE = 23
MUCH = CELL_SHARE * len(os.sched_getaffinity(0))
LONG = 100.0


@pytest.fixture
def process() -> Iterator[int]:
    """A process that waits, and may go back if that can be allowed."""
    pid = os.fork()
    if not pid:
        allow_going_back()
        signal.pause()
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def added(pid: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, pid) - os.getpriority(os.PRIO_PROCESS, 0)


class Used:
    """Processor time that a process has used, by the share since the last look."""

    def __init__(self, pid: int) -> None:
        self.now = self.used = 0.0
        self._niceness = GivingWay(pid, CELL_SHARE, lambda: self.used)
        self._niceness.look(0)

    def go_on(self, seconds: float, share: float) -> None:
        self.now += seconds
        self.used += seconds * share
        self._niceness.look(self.now)


def test_one_that_uses_little_stays_as_it_is(process: int) -> None:
    """Less than the share, and a burst that is shorter than a measurement, change nothing."""
    used = Used(process)
    for _ in range(20):
        used.go_on(1, MUCH * 0.9)
    used.go_on(0.2, MUCH * 2)
    used.go_on(0.8, MUCH * 0.5)
    assert added(process) == 0


def test_one_that_uses_much_gives_way(process: int) -> None:
    """It does after a second, once, and for as long as it goes on."""
    used = Used(process)
    for _ in range(20):
        used.go_on(1, MUCH * 1.1)
        assert added(process) == min(MORE, 19 - os.getpriority(os.PRIO_PROCESS, 0))


@pytest.mark.skipif(not capable(CAP_SYS_NICE), reason="to lower a niceness takes CAP_SYS_NICE")
def test_it_goes_back(process: int) -> None:
    """It does after some seconds with little, each counted from the last with much."""
    used = Used(process)
    used.go_on(1, MUCH * 2)
    used.go_on(QUIET_TIME - 1, 0)
    used.go_on(1, MUCH * 2)
    used.go_on(QUIET_TIME - 1, 0)
    assert added(process) > 0
    used.go_on(1, 0)
    assert added(process) == 0


def test_without_the_limit_it_stays_nice() -> None:
    """One that may not go back raises nothing, and gives way on."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
            if os.geteuid() == 0:
                os.setresuid(1, 1, 1)
            used = Used(os.getpid())
            used.go_on(1, MUCH * 2)
            raised = os.getpriority(os.PRIO_PROCESS, 0)
            used.go_on(LONG, 0)
            status = 0 if os.getpriority(os.PRIO_PROCESS, 0) == raised else 2
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def test_one_that_has_ended_is_left_alone() -> None:
    """A look at a process that is gone raises nothing; what is measured is that process's own time."""
    pid = os.fork()
    if not pid:
        signal.pause()
    niceness = GivingWay(pid, CELL_SHARE)
    niceness.look(0)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    niceness.look(1)
    niceness.look(2)
