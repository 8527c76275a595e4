"""Niceness of a user's processes, where root may raise the limit."""

from __future__ import annotations

import os

from hsframework.process.giving_way import allow_going_back
from tests.unit.process.test_giving_way import LONG, MUCH, Used


def test_the_limit_lets_a_process_without_privileges_go_back() -> None:
    """With RLIMIT_NICE as root sets it for all, one that has given up everything still goes back."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            allow_going_back()
            os.setresuid(1, 1, 1)
            used = Used(os.getpid())
            before = os.getpriority(os.PRIO_PROCESS, 0)
            used.go_on(1, MUCH * 2)
            raised = os.getpriority(os.PRIO_PROCESS, 0)
            used.go_on(LONG, 0)
            status = 0 if raised > before == os.getpriority(os.PRIO_PROCESS, 0) else 2
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
