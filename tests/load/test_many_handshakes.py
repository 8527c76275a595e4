"""A thousand handshakes through one dispatcher and one agent leave nothing behind."""

from __future__ import annotations

import asyncio
import signal
import time

from hsframework.client import AsyncClient
from tests.load.traffic import Credentials, handshake_pair
from tests.support.running import (
    Service,
    await_fds,
    proportional_memory,
    running_service,
    settled_fds,
    tcp_pairs,
)

HANDSHAKES = 1000
AT_ONCE = 64
GROWTH = 8 * 1024
"""KiB by which a process may grow: allocators keep some of what they once had."""

CENSUS = '''
"""Counts the agent's tasks at the end of each handshake."""

import asyncio

import structlog

import hsframework


@hsframework.hookimpl
def hsframework_handshake_finished(request, outcome, duration):
    structlog.get_logger("census").info("census", tasks=len(asyncio.all_tasks()), request=request.id)
'''


def test_a_thousand(credentials: Credentials) -> None:
    """1,000 at 64 at a time: all succeed; files, tasks and memory of every process stay as they were."""
    with running_service(plugins={"census": CENSUS}) as service:
        asyncio.run(_many(service, credentials))
        mark = service.log.mark
        assert service.stop(signal.SIGTERM) == 0
        assert service.log.wait("the agent stops", since=mark)["in_hand"] == 0
        assert service.log.wait("the dispatcher stops", since=mark)["pending"] == 0
        assert not [event for event in service.log.events() if event["level"] in ("warning", "error")]


async def _many(service: Service, credentials: Credentials) -> None:
    async with AsyncClient(service.runtime_dir) as client:
        await _round(client, credentials, 2 * AT_ONCE)
        (agent,) = service.workers()
        processes = (service.pid, service.dispatcher, agent)
        tasks = await _tasks(service, client, credentials)
        files = {pid: settled_fds(pid) for pid in processes}
        memory = {pid: proportional_memory(pid) for pid in processes}
        begun = time.monotonic()
        assert await _round(client, credentials, HANDSHAKES) == HANDSHAKES
        rate = HANDSHAKES / (time.monotonic() - begun)
        assert not client.pending
        assert await _tasks(service, client, credentials) == tasks
        for pid in processes:
            await_fds(pid, files[pid])
        growth = {pid: proportional_memory(pid) - memory[pid] for pid in processes}
        print(f"\n{HANDSHAKES} handshakes, {rate:.0f}/s; growth in KiB: ", end="")
        print(f"supervisor {growth[service.pid]}, dispatcher {growth[service.dispatcher]}, agent {growth[agent]}")
        assert all(number < GROWTH for number in growth.values())


async def _round(client: AsyncClient, credentials: Credentials, number: int) -> int:
    """Run so many handshakes, some with certificates and some with a PSK; count those that succeed at both ends."""
    done = 0

    async def several(count: int, psk: bool) -> None:
        nonlocal done
        for _ in range(count):
            with tcp_pairs() as (pair,):
                near, far = await handshake_pair(client, pair, credentials, psk=psk)
                assert near.parameters == far.parameters
                done += 1

    shares = [number // AT_ONCE + (index < number % AT_ONCE) for index in range(AT_ONCE)]
    await asyncio.gather(*(several(share, index % 8 == 0) for index, share in enumerate(shares)))
    return done


async def _tasks(service: Service, client: AsyncClient, credentials: Credentials) -> int:
    """Count the tasks in the agent at the end of a handshake beside which there is no other.

    The least of several: the other end's task may be there still.
    """
    seen = []
    for _ in range(10):
        with tcp_pairs() as (pair,):
            mark = service.log.mark
            await handshake_pair(client, pair, credentials)
            seen.append(int(service.log.wait("census", since=mark, number=2)["tasks"]))
    return min(seen)
