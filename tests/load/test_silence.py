"""Thousands of connections that never speak cost memory within bounds, and nobody else their handshake."""

from __future__ import annotations

import asyncio
import errno

from hsframework.client import AsyncClient
from tests.load.traffic import Credentials, check_served, outcome
from tests.support.running import (
    Service,
    await_fds,
    open_fds,
    proportional_memory,
    running_service,
    settled_fds,
    tcp_pairs,
    until,
)

SILENT = 2000
DEADLINE = 8.0
MOST_MEMORY = 64
"""KiB for each stalled handshake, in all processes of the service together."""

LIMITS = f"""
[limits]
groups = 2
per-consumer = {2 * SILENT}
per-address = {2 * SILENT}
"""


def test_two_thousand_silent_connections(credentials: Credentials) -> None:
    """All end with ETIMEDOUT at their deadline; fresh handshakes go through meanwhile; memory and files are bounded."""
    with running_service(LIMITS) as service:
        asyncio.run(_silence(service, credentials))


async def _silence(service: Service, credentials: Credentials) -> None:
    async with AsyncClient(service.runtime_dir) as client, AsyncClient(service.runtime_dir) as lively:
        await check_served(lively, credentials)
        processes = (service.pid, service.dispatcher, service.keeper(), *service.workers())
        agent = processes[-1]
        files = {pid: settled_fds(pid) for pid in processes}
        memory = sum(map(proportional_memory, processes))
        with tcp_pairs(SILENT) as pairs:
            options = credentials.server(timeout=DEADLINE)
            waiting = [asyncio.create_task(outcome(client, near, options)) for near, _ in pairs]
            await asyncio.sleep(0)
            await asyncio.to_thread(
                until, lambda: open_fds(agent) >= files[agent] + SILENT, "the agent has all of them in hand"
            )
            for _ in range(10):
                await check_served(lively, credentials)
            each = (sum(map(proportional_memory, processes)) - memory) / SILENT
            assert not any(task.done() for task in waiting), "the machine is too slow for this deadline"
            print(f"\n{SILENT} stalled handshakes take {each:.1f} KiB each, in all processes together")
            assert each < MOST_MEMORY
            assert {item.errno for item in await asyncio.gather(*waiting)} == {errno.ETIMEDOUT}
            await check_served(lively, credentials)
        for pid in processes:
            await_fds(pid, files[pid])
        assert set(service.workers()) == {agent}
