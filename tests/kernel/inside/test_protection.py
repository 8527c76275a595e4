"""The service's requests to the kernel for itself, where it is really root."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.kernel.house import House, house
from tests.support.running import status_of, until


def test_memory_is_locked_and_protected() -> None:
    """In every process of the house, also in those that replace others: VmLck, and oom_score_adj.

    The supervisor, by which all others come back, is never killed for want of memory; the dispatcher after its agents.
    The reader of files is in nobody's way: it can wait for swap, and be killed with the agents.
    """
    with house(more="[memory]\nlock = true\noom-score-adjust = -900\n") as service:
        _all_protected(service)
        for victim in (service.workers()[0], service.dispatcher, service.keeper()):
            mark = service.log.mark
            os.kill(victim, signal.SIGKILL)
            service.wait_for_agents(since=mark)
            _all_protected(service)


def _all_protected(service: House) -> None:
    until(lambda: len(service.processes()) == 5, "supervisor, reader, dispatcher, keeper and agent are there")
    reader = service.reader
    for pid in service.processes():
        status = status_of(pid)
        # All that it has mapped, but for the kernel's own pages in it.
        locked = int(status["VmLck"].split()[0]) > 0.9 * int(status["VmSize"].split()[0])
        assert locked is (pid != reader)
        score = {service.pid: -1000, service.dispatcher: -999}.get(pid, -900)
        assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == score
