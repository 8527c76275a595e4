"""The dispatcher's real-time priority: who has it, how it is given up, and how it comes back."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import Callable
from itertools import count

from hsframework.dispatcher.realtime import LONGEST_TURN, Turns
from hsframework.process.capabilities import keep_capabilities
from tests.kernel.house import house
from tests.kernel.machine import in_a_child

AHEAD = os.SCHED_RR | os.SCHED_RESET_ON_FORK
IN_LINE = os.SCHED_OTHER | os.SCHED_RESET_ON_FORK
SECOND = 1_000_000
"""In the unit of RLIMIT_RTTIME."""


def test_the_dispatcher_runs_ahead() -> None:
    """It has the lowest real-time priority, and none of those that meet a peer; nor has it when that is not wanted."""
    with house() as service:
        assert os.sched_getscheduler(service.dispatcher) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR
        assert os.sched_getparam(service.dispatcher).sched_priority == 1
        for pid in {*service.processes()} - {service.dispatcher}:
            assert os.sched_getscheduler(pid) == os.SCHED_OTHER
    with house(more="[kernel]\nreal-time = false\n") as service:
        assert os.sched_getscheduler(service.dispatcher) == os.SCHED_OTHER


def ahead(loop: asyncio.AbstractEventLoop, *, used: Callable[[], float]) -> None:
    """Let this process run ahead, as the dispatcher does, without capabilities.  ``used`` says when it is quiet."""
    turns = Turns(loop, quiet_time=0.01, used=used)
    turns.run_ahead()
    turns.bound()
    keep_capabilities(())
    assert os.sched_getscheduler(0) == AHEAD


def spin() -> None:
    """Spin until the priority is given up."""
    assert os.sched_getscheduler(0) == AHEAD
    while os.sched_getscheduler(0) & os.SCHED_RR:
        pass
    assert os.sched_getscheduler(0) == IN_LINE


async def come_back() -> None:
    while os.sched_getscheduler(0) == IN_LINE:
        await asyncio.sleep(0.001)
    assert os.sched_getscheduler(0) == AHEAD
    assert os.sched_getparam(0).sched_priority == 1


def test_a_turn_that_does_not_end() -> None:
    """The process falls back to the ordinary priority, with no capability left, and runs ahead again once it has been
    quiet; its turns are as long as ever, and it may not take more."""

    def often() -> None:
        loop = asyncio.new_event_loop()
        ahead(loop, used=lambda: 0.0)
        for _ in range(2):
            spin()
            loop.run_until_complete(come_back())
            assert resource.getrlimit(resource.RLIMIT_RTTIME)[0] == LONGEST_TURN * SECOND
        try:
            os.sched_setscheduler(0, AHEAD, os.sched_param(2))
        except PermissionError:
            return
        raise AssertionError("it can take a higher priority")

    in_a_child(often)


def test_a_process_that_is_not_quiet() -> None:
    """One that has used the processor all along stays in line, and is looked at again."""

    def busy() -> None:
        asked = count()
        # Read when it falls into line and for each look: twice busy, then quiet.
        used = [0.0, 1.0, 1.0, 2.0, 2.0, 2.0]
        loop = asyncio.new_event_loop()
        ahead(loop, used=lambda: used[next(asked)])
        spin()
        loop.run_until_complete(come_back())
        assert next(asked) == len(used)

    in_a_child(busy)


def test_a_priority_that_may_not_be_taken_again() -> None:
    """The process goes on without."""

    def once() -> None:
        loop = asyncio.new_event_loop()
        looked = asyncio.Event()
        reads = count()

        def used() -> float:
            if next(reads) == 1:
                loop.call_soon(looked.set)
            return 0.0

        ahead(loop, used=used)
        resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
        spin()
        loop.run_until_complete(looked.wait())
        assert os.sched_getscheduler(0) == IN_LINE

    in_a_child(once)


def test_a_turn_that_not_even_a_signal_ends() -> None:
    """The process is killed, and the machine has its processor back."""
    pid = os.fork()
    if not pid:
        ahead(asyncio.new_event_loop(), used=lambda: 0.0)
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGXCPU,))
        while True:
            pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
