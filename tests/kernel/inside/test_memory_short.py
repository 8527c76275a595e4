"""The service in a memory cgroup at its limit: what can be served is served, what cannot be ends at once, none waits.

Of all that cannot be allocated, these tests leave to chance which; :mod:`tests.kernel.inside.test_memory_faults` does
not.
"""

from __future__ import annotations

import collections
import errno
import os
import signal
from collections.abc import Iterator

import pytest

from tests.kernel.house import ROOT, End, House
from tests.kernel.requests import GIVEN_UP, Ask, Device, Pair, make_requests
from tests.kernel.shortage import MIB, MemoryGroup, hog_in, memory_group
from tests.support.running import await_end, until

NAME = "server.test"
LOCK = "[memory]\nlock = true\n"
ENDS = {0, errno.EIO, errno.ETIMEDOUT, errno.ESRCH}
"""Statuses and refusals that a consumer may get: served, the service failed, the peer has hung up, nobody listens."""

QUICK = "[timeouts]\nagent-restart = 1\n"
"""Without an agent the next request is refused, and does not take the time of its consumer."""

locked_or_not = pytest.mark.parametrize("memory", [QUICK, LOCK + QUICK], ids=["swappable", "locked"])


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    with memory_group("service") as made:
        yield made


def both_roles() -> dict[str, End]:
    """Return the profiles for both ends of a request."""
    return {"client": End(), "server": End(ROOT.issue([NAME]))}


def ends(device: Device, number: int, *, also: int = 0) -> collections.Counter[int]:
    """Count how so many pairs of requests end, one after the other.  ``also``: one more way that is allowed."""
    found: collections.Counter[int] = collections.Counter()
    for _ in range(number):
        found.update(Pair(device, NAME).ends())
    assert set(found) <= ENDS | {also}, found
    return found


def await_service(device: Device) -> None:
    """Wait until two requests are served at the first attempt, and their connection carries data."""
    until(lambda: set(Pair(device, NAME).ends()) == {0}, "requests are served again")
    tally = make_requests(device, 8, 4, Ask(NAME))
    assert (tally.served, tally.lost, dict(tally.failed)) == (8, 0, {})


@locked_or_not
def test_at_the_limit(group: MemoryGroup, memory: str) -> None:
    """With no more memory than it uses the service serves on, or fails at once; with more, it serves as before."""
    with group.house(more=memory, **both_roles()) as service, Device() as device:
        make_requests(device, 40, 8, Ask(NAME))
        supervisor, used = service.pid, group.used
        group.limit(used)
        assert ends(device, 20)[0]
        until(lambda: ends(device, 1) and group.met, "the limit was met")
        group.limit(None)
        await_service(device)
        assert service.pid == supervisor


@locked_or_not
def test_below_the_need(group: MemoryGroup, memory: str) -> None:
    """With less than it needs its processes are killed, but for the supervisor, and back once there is memory.

    Each request ends at once, unless the dispatcher is killed that has it and every agent: then no process is left that
    could end it, and its consumer's timer does.
    """
    with group.house(more=memory, **both_roles()) as service, Device() as device:
        make_requests(device, 40, 8, Ask(NAME))
        before = {*service.processes()}
        for part in (0.9, 0.8, 0.7):
            group.limit(int(group.used * part))
            ends(device, 10, also=GIVEN_UP)
        assert group.kills
        assert service.process.poll() is None
        assert {*service.processes()} != before
        group.limit(None)
        await_service(device)
        until(lambda: len(service.processes()) == len(before), "every process is back")


@locked_or_not
@pytest.mark.parametrize("score", [0, -1000], ids=["killable", "unkillable"])
def test_a_hog_beside(group: MemoryGroup, memory: str, score: int) -> None:
    """A process in the same cgroup takes all there is: the service is there once it is gone."""
    with group.house(more=memory, **both_roles()) as service, Device() as device:
        make_requests(device, 40, 8, Ask(NAME))
        group.limit(group.used + 8 * MIB)
        with hog_in(group, score) as hog:
            hog.begin("fill 64")
            until(lambda: ends(device, 2, also=GIVEN_UP) and group.kills, "somebody was killed")
            ends(device, 3, also=GIVEN_UP)
            assert score == 0 or hog.process.poll() is None
        group.limit(None)
        await_service(device)
        assert service.process.poll() is None


@locked_or_not
def test_agents_are_replaced_at_the_limit(group: MemoryGroup, memory: str) -> None:
    """A worker that is killed is replaced within what memory there is, also again and again."""
    with group.house(more=memory, **both_roles()) as service, Device() as device:
        make_requests(device, 40, 8, Ask(NAME))
        group.limit(group.used + 2 * MIB)
        for _ in range(3):
            kill_worker(service)
            await_service(device)
        assert not group.kills


def kill_worker(service: House) -> None:
    """Kill the worker as the kernel does."""
    (worker,) = service.workers()
    os.kill(worker, signal.SIGKILL)
    await_end(worker)
