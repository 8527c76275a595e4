"""What the service asks of the kernel for itself, where it is really root."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from hsframework.process import keep_capabilities
from hsframework.protection import bound_turns, run_ahead
from tests.kernel.house import House, house
from tests.kernel.machine import in_a_child
from tests.support.running import status_of, until


def test_memory_is_locked_and_protected() -> None:
    """In every process of the house, also in those that replace others: VmLck, and oom_score_adj."""
    with house(more="[memory]\nlock = true\noom-score-adjust = -900\n") as service:
        _all_protected(service)
        for victim in (service.workers()[0], service.dispatcher, service.keeper()):
            mark = service.log.mark
            os.kill(victim, signal.SIGKILL)
            service.wait_for_agents(since=mark)
            _all_protected(service)


def _all_protected(service: House) -> None:
    until(lambda: len(service.processes()) == 4, "supervisor, dispatcher, keeper and agent are there")
    for pid in service.processes():
        status = status_of(pid)
        # All that it has mapped, but for the kernel's own pages in it.
        assert int(status["VmLck"].split()[0]) > 0.9 * int(status["VmSize"].split()[0])
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "-900\n"


def test_the_dispatcher_runs_ahead() -> None:
    """It has the lowest real-time priority, and none of those that meet a peer; nor has it when that is not wanted."""
    with house() as service:
        assert os.sched_getscheduler(service.dispatcher) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR
        assert os.sched_getparam(service.dispatcher).sched_priority == 1
        for pid in {*service.processes()} - {service.dispatcher}:
            assert os.sched_getscheduler(pid) == os.SCHED_OTHER
    with house(more="[kernel]\nreal-time = false\n") as service:
        assert os.sched_getscheduler(service.dispatcher) == os.SCHED_OTHER


def test_a_turn_that_does_not_end() -> None:
    """The process falls back to the ordinary priority, with no capability left, and goes on."""

    def spin() -> None:
        run_ahead()
        bound_turns()
        keep_capabilities(())
        assert os.sched_getscheduler(0) == os.SCHED_RR | os.SCHED_RESET_ON_FORK
        while os.sched_getscheduler(0) & os.SCHED_RR:
            pass
        assert os.sched_getscheduler(0) == os.SCHED_OTHER | os.SCHED_RESET_ON_FORK

    in_a_child(spin)


def test_a_turn_that_not_even_a_signal_ends() -> None:
    """The process is killed, and the machine has its processor back."""
    pid = os.fork()
    if not pid:
        run_ahead()
        bound_turns()
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGXCPU,))
        while True:
            pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
