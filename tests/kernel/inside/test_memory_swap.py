"""Swap on a device whose connection the service makes: NVMe over TCP with TLS, which breaks while the memory is there.

Host and target are the same kernel, and both ends' handshakes are ours.  A hog fills memory, which goes to swap with
all that is not locked; then the connection breaks, and the cgroup of both has little more than what is in memory.
Whatever the handshakes need by then must be in memory: swap comes back after them.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kernel.consumers import nvme_connection, nvme_drop, nvme_key, nvme_target
from tests.kernel.house import End, House
from tests.kernel.machine import debian
from tests.kernel.shortage import MIB, Hog, MemoryGroup, hog_in, memory_group
from tests.support.running import await_end, status_of, until

SUBSYSTEM = "nqn.2014-08.org.example:swap"
ADDRESS = "127.0.0.1"
DISK = Path("/tmp/swap.disk")
DISK_SIZE = 256 * MIB
ROOM = 48 * MIB
"""Memory for a process that is replaced, and a little more."""

HELD = 160
"""MiB of the hog's."""


@dataclass(frozen=True)
class Swapped:
    """The service, the hog and their cgroup, once most of the memory is in swap."""

    service: House
    group: MemoryGroup
    hog: Hog
    controller: Path

    @property
    def state(self) -> str:
        """The controller's, of the connection's host."""
        with contextlib.suppress(OSError):
            return (self.controller / "state").read_text().strip()
        return "gone"


@contextlib.contextmanager
def swap(device: Path) -> Iterator[None]:
    """Swap on the device.  One that is gone by the end needs no swapoff."""
    debian("mkswap", str(device))
    debian("swapon", str(device))
    try:
        yield
    finally:
        debian("swapoff", str(device), check=False)


@contextlib.contextmanager
def swapped(memory: str, *options: str) -> Iterator[Swapped]:
    """Start everything, and move most memory to swap.  ``options``: of the connection."""
    DISK.touch()
    os.truncate(DISK, DISK_SIZE)
    nvme_key(SUBSYSTEM, 1)
    with (
        memory_group("service") as group,
        group.house(client=End(), server=End(), more=memory) as service,
        nvme_target(SUBSYSTEM, ADDRESS, backing=str(DISK)),
        nvme_connection(SUBSYSTEM, ADDRESS, "--reconnect-delay=1", *options) as device,
        swap(device),
        hog_in(group) as hog,
    ):
        hog.ask(f"fill {HELD}")

        def is_swapped() -> bool:
            if group.swapped < (HELD - 20) * MIB:
                group.reclaim(16 * MIB)
                return False
            # Pages on their way are in memory until they have arrived.
            return not group.on_the_way

        until(is_swapped, "memory is in swap")
        group.limit(group.used + ROOM)
        yield Swapped(service, group, hog, Path("/sys/class/nvme", device.name.removesuffix("n1")))
        group.limit(None)


def dropped_by_the_target() -> None:
    """Let the target end every connection."""
    nvme_drop(SUBSYSTEM)


def destroyed() -> None:
    """End the host's sockets with a reset, as an administrator's ``ss -K`` does."""
    debian("ss", "-K", "dport", "=", "4420")


def nobody(service: House) -> None:
    """Replace no process."""


def worker(service: House) -> None:
    """Kill the worker, which is replaced."""
    (victim,) = service.workers()
    os.kill(victim, signal.SIGKILL)
    await_end(victim)


def dispatcher(service: House) -> None:
    """Kill the dispatcher, which is replaced."""
    victim = service.dispatcher
    os.kill(victim, signal.SIGKILL)
    await_end(victim)


@pytest.mark.parametrize("break_it", [dropped_by_the_target, destroyed])
@pytest.mark.parametrize("replaced", [nobody, worker, dispatcher])
def test_the_connection_comes_back(break_it: Callable[[], None], replaced: Callable[[House], None]) -> None:
    """With locked memory: by new handshakes, also of a process that was replaced, and every page has its contents."""
    with swapped("[memory]\nlock = true\n") as there:
        mark = there.service.log.mark
        break_it()
        # From now on it waits for the swap.
        there.hog.begin("check")
        replaced(there.service)
        there.service.log.wait("handshake", status="OK", since=mark, number=4)
        assert there.hog.answer() == "0"
        assert there.state == "live"
        assert not there.group.kills


@pytest.mark.kernel(memory="4G")
def test_memory_that_is_not_locked() -> None:
    """The service waits for the swap that waits for the service, until the host gives the device up.

    The contents of swap are lost then, and the processes that need them are killed.
    """
    with swapped("", "--ctrl-loss-tmo=1") as there:
        processes, mark = there.service.processes(), there.service.log.mark
        nvme_drop(SUBSYSTEM)
        # Before that the hog might read all that it needs.
        until(lambda: there.state != "live", "the host has lost the connection")
        there.hog.begin("check")
        waits = [there.service.dispatcher, *there.service.workers()]
        until(lambda: any(status_of(pid)["State"].startswith("D") for pid in waits), "a process waits for its memory")
        until(lambda: there.state not in ("live", "connecting"), "the host gives the device up")
        assert not there.service.log.events("handshake", status="OK", since=mark)
        assert there.hog.answer() == ""
        for pid in processes:
            await_end(pid)
