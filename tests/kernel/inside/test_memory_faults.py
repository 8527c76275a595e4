"""Allocations of the kernel's that fail, in the service's own system calls: one at a time, and some of all.

No request waits for its consumer's timer: each is served or ends with a status.  Once memory is there again every
request is served.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.kernel.house import House, house
from tests.kernel.inside.test_memory_short import NAME, QUICK, await_service, both_roles, ends
from tests.kernel.requests import GIVEN_UP, Device, Pair
from tests.kernel.shortage import FailingOnce, failing, prepare_injection
from tests.support.running import await_end, until

Choice = Callable[[House], int]
"""Return the pid of one process of the service, as it is now."""


@pytest.fixture
def service() -> Iterator[House]:
    prepare_injection()
    with house(more=QUICK, **both_roles()) as running:
        yield running


@pytest.fixture
def device() -> Iterator[Device]:
    with Device() as opened:
        yield opened


def supervisor(service: House) -> int:
    return service.pid


def dispatcher(service: House) -> int:
    return service.dispatcher


def keeper(service: House) -> int:
    return service.keeper()


def worker(service: House) -> int:
    return until(lambda: service.workers(), "there is a worker")[0]


def a_worker(service: House) -> int:
    """Return a worker that is there now.  Raises LookupError."""
    return service.workers()[0]


def is_served(device: Device) -> bool:
    """True if one more pair of requests is served."""
    return set(Pair(device, NAME).ends()) == {0}


def another(service: House, choice: Choice, before: int) -> int:
    """Return the pid of a chosen process, 0 if it is still the one before."""
    pid = choice(service)
    return 0 if pid == before else pid


@pytest.mark.parametrize(("process", "least"), [(dispatcher, 50), (worker, 20)])
def test_each_of_a_request(service: House, device: Device, process: Choice, least: int) -> None:
    """Each allocation while one pair of requests is served fails once: no process ends, nearly all are served.

    A request is lost only in the kernel's own ACCEPT, for which it has three allocations, and ends at once.
    """
    await_service(device)
    pid, unserved = process(service), 0
    for number in itertools.count(1):
        failure = FailingOnce(pid, number)
        served = ends(device, 1)[0] == 2
        if not failure.end():
            break
        unserved += not served
        assert is_served(device)
    assert number > least
    assert unserved < 10
    assert process(service) == pid


FEW = (1, 2, 4, 7, 11, 60)
"""For a process whose restarts have growing pauses."""
MANY = (*range(1, 31), 400)
"""A fork has more than a thousand."""


@pytest.mark.parametrize(
    ("killed", "process", "numbers"),
    [
        (worker, dispatcher, MANY),
        (worker, keeper, MANY),
        (keeper, supervisor, FEW),
        (keeper, dispatcher, FEW),
        (dispatcher, supervisor, FEW),
        (dispatcher, keeper, FEW),
        (dispatcher, worker, MANY),
    ],
)
def test_one_while_a_process_is_replaced(
    service: House, device: Device, killed: Choice, process: Choice, numbers: tuple[int, ...]
) -> None:
    """A process is killed, and one allocation fails in another one that takes part: requests are served again."""
    failed, victim = 0, 0
    for number in numbers:
        # The log, by which processes are known, may be late.
        victim = until(lambda: another(service, killed, victim), "the process is replaced")  # noqa: B023
        failure = FailingOnce(process(service), number)
        os.kill(victim, signal.SIGKILL)
        await_end(victim)
        until(lambda: is_served(device), "requests are served again")
        failed += failure.end()
    assert failed
    await_service(device)


@pytest.mark.parametrize("percent", [1, 10])
def test_some_of_all(service: House, device: Device, percent: int) -> None:
    """So many of a hundred fail in every process, also in those that replace others: the service is back afterwards.

    While its agents are away, each request may take the time of its consumer.
    """
    await_service(device)
    before = service.processes()
    with failing(before, percent):
        for killed in (a_worker, keeper, dispatcher):
            ends(device, 5, also=GIVEN_UP)
            # One that a fault has ended, and that is not back yet, needs no killing.
            with contextlib.suppress(LookupError, ProcessLookupError):
                os.kill(killed(service), signal.SIGKILL)
        ends(device, 5, also=GIVEN_UP)
    await_service(device)
    until(lambda: len(service.processes()) == len(before), "every process is back")
