"""Chaos: whatever happens to the processes, each request ends once, and afterwards all is as it was."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from hsframework.client import AsyncClient, HandshakeOptions
from hsframework.client.groups import served_groups
from tests.load.chaos import Disturber, Ends, alone, by_hand, in_processes, pairs
from tests.load.traffic import Credentials, served_again
from tests.support.running import (
    Service,
    await_fds,
    proportional_memory,
    running_service,
    settled_fds,
    tcp_pairs,
    until,
)

TOY = Path(__file__).with_name("toy_plugin.py").read_text()
USER, ANOTHER = 1000, 1001
CONFIGURATION = f"""
[timeouts]
watchdog = 2
[[allow]]
users = ["{USER}", "{ANOTHER}"]
"""
GROWTH = 16 << 10
"""KiB that a process may have more afterwards: allocators keep what they had."""

QUIET = 45.0
"""Seconds in which cells end that nobody uses, and more."""


@pytest.mark.timeout(420)
@pytest.mark.parametrize("seconds", [20, pytest.param(180, marks=pytest.mark.long)])
def test_whatever_happens(seconds: int, credentials: Credentials) -> None:
    """Five kinds of consumers, five kinds of disturbance: one end for each request, then fds and memory as before."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    with running_service(CONFIGURATION, plugins={"toy": TOY}) as service:
        service.wait_for_agents(protocol="toy")
        asyncio.run(_served(service, credentials))
        before = _state(service)
        ended, disturbed = _disturbed(service, credentials, seconds, seed)
        print(f"disturbances: {dict(disturbed)}", *ended, sep="\n")
        asyncio.run(_served(service, credentials))
        assert all(each.total() for each in ended), "each consumer had ends to count"
        assert sum((each["ok"] for each in ended), 0) > seconds, "and was served now and then"
        assert disturbed.total() > seconds / 2
        _as_before(service, before)


def _disturbed(service: Service, credentials: Credentials, seconds: int, seed: int) -> tuple[list[Ends], Counter[str]]:
    end = time.monotonic() + seconds
    folder = service.runtime_dir
    works = [(uid, work, folder, end, seed + uid) for uid in (0, USER, ANOTHER) for work in (alone, by_hand)]
    with in_processes(*works) as ends, Disturber(service, seed) as disturber:
        own = asyncio.run(asyncio.wait_for(pairs(folder, credentials, end), seconds + 90))
        others = ends()
    return [own, *others], disturber.done


async def _served(service: Service, credentials: Credentials) -> None:
    """Wait until both plugins serve."""
    async with AsyncClient(service.runtime_dir) as client:
        await served_again(client, credentials)
    await asyncio.to_thread(
        until,
        lambda: {group.group for group in served_groups(service.runtime_dir) if group.agents} >= {"toy", "tls13"},
        "all",
    )
    async with AsyncClient(service.runtime_dir) as client:
        for _ in range(3):
            with tcp_pairs() as ((near, _),):
                await client.handshake(near, HandshakeOptions(group="toy", timeout=10))


def _state(service: Service) -> dict[str, tuple[int, int]]:
    """Return open files and memory in KiB of each process, by its title."""
    return {
        Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0 "): (settled_fds(pid), proportional_memory(pid))
        for pid in service.processes()
    }


def _as_before(service: Service, before: dict[str, tuple[int, int]]) -> None:
    """Wait until the same processes are there, each with as many files; none has grown."""
    until(lambda: len(service.processes()) == len(before), "cells have ended", QUIET)
    after = {Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0 "): pid for pid in service.processes()}
    assert after.keys() == before.keys()
    for title, pid in after.items():
        fds, memory = before[title]
        await_fds(pid, fds)
        assert proportional_memory(pid) < memory + GROWTH, title
