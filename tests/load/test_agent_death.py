"""An agent that dies or hangs costs its own consumers one error, nobody else anything, and is replaced."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import time

from hsframework.client import AsyncClient
from tests.load.traffic import (
    DEADLINE,
    Credentials,
    check_served,
    hung_up,
    outcome,
    served_again,
    spoken_to,
)
from tests.support.running import (
    Service,
    await_end,
    await_fds,
    holds,
    running_service,
    settled_fds,
    tcp_pairs,
)

IN_FLIGHT = 48
"""More than agents ask for at once, so that both get some."""


def test_killed_in_mid_handshake(credentials: Credentials) -> None:
    """kill -9: EIO at once for the agent's own consumers, nothing for the others, a new agent, no fd left behind."""
    with running_service("[agents.tls13]\nprocesses = 2\n", agents=2) as service:
        asyncio.run(_killed(service, credentials))


async def _killed(service: Service, credentials: Credentials) -> None:
    async with AsyncClient(service.runtime_dir) as client:
        await check_served(client, credentials)
        dispatcher, (victim, survivor) = service.dispatcher, service.workers()
        processes = (service.pid, service.keeper(), dispatcher, survivor)
        before = {pid: settled_fds(pid) for pid in processes}
        agent_fds = settled_fds(victim)
        with tcp_pairs(IN_FLIGHT) as pairs:
            waiting = [asyncio.create_task(outcome(client, near, credentials.client())) for near, _ in pairs]
            await spoken_to([far for _, far in pairs])
            hit = [index for index, (near, _) in enumerate(pairs) if holds(victim, near)]
            spared = [index for index, (near, _) in enumerate(pairs) if holds(survivor, near)]
            assert hit
            assert spared
            assert sorted(hit + spared) == list(range(IN_FLIGHT))

            mark, killed = service.log.mark, time.monotonic()
            os.kill(victim, signal.SIGKILL)
            ended = [await waiting[index] for index in hit]
            assert {item.errno for item in ended} == {errno.EIO}
            slowest = max(item.at for item in ended) - killed
            assert slowest < DEADLINE
            await hung_up([pairs[index][1] for index in hit])
            service.log.wait("joined", protocol="tls13", since=mark)
            replaced = time.monotonic() - killed
            print(f"\nkill -9 of an agent: {len(hit)} consumers had EIO within {slowest * 1000:.1f} ms, ", end="")
            print(f"its replacement had joined after {replaced * 1000:.0f} ms")

            assert not any(waiting[index].done() for index in spared)
            others = [outcome(client, pairs[index][1], credentials.server()) for index in spared]
            assert {item.errno for item in await asyncio.gather(*others)} == {0}
            assert {(await waiting[index]).errno for index in spared} == {0}

        (replacement,) = set(service.workers()) - {survivor}
        assert replacement != victim
        await check_served(client, credentials)
        for pid in processes:
            await_fds(pid, before[pid])
        await_fds(replacement, agent_fds)


def test_stopped(credentials: Credentials) -> None:
    """SIGSTOP: within a second, long before the deadline, the agent is killed: EIO for what it had, nothing else."""
    with running_service("[agents.tls13]\nprocesses = 2\n", agents=2) as service:
        asyncio.run(_stopped(service, credentials))


async def _stopped(service: Service, credentials: Credentials) -> None:
    async with AsyncClient(service.runtime_dir) as client:
        await check_served(client, credentials)
        dispatcher, (victim, other) = service.dispatcher, service.workers()
        before = settled_fds(dispatcher)
        options = credentials.client(timeout=30.0)
        with tcp_pairs(IN_FLIGHT) as pairs:
            waiting = [asyncio.create_task(outcome(client, near, options)) for near, _ in pairs]
            await spoken_to([far for _, far in pairs])
            hit = [index for index, (near, _) in enumerate(pairs) if holds(victim, near)]
            assert hit
            mark = service.log.mark
            os.kill(victim, signal.SIGSTOP)
            ended = await asyncio.gather(*(waiting[index] for index in hit))
            assert {item.errno for item in ended} == {errno.EIO}
            await hung_up([pairs[index][1] for index in hit])
            spared = [task for index, task in enumerate(waiting) if index not in hit]
            assert not any(task.done() for task in spared)
            for task in spared:
                task.cancel()
            await asyncio.gather(*spared, return_exceptions=True)
        service.log.wait("a worker is stopped and is killed", process=victim, since=mark)
        await_end(victim)
        service.log.wait("joined", protocol="tls13", since=mark)
        assert other in service.workers()
        assert victim not in service.workers()
        await check_served(client, credentials)
        await_fds(dispatcher, before)


def test_a_stopped_agent_leaves_the_work_to_another(credentials: Credentials) -> None:
    """Handshakes that begin after an agent was stopped are served by the other agent of the group; it is replaced."""
    with running_service("[agents.tls13]\nprocesses = 2\n", agents=2) as service:
        asyncio.run(_left_to_another(service, credentials))


async def _left_to_another(service: Service, credentials: Credentials) -> None:
    async with AsyncClient(service.runtime_dir) as client:
        await check_served(client, credentials)
        victim, _ = service.workers()
        mark = service.log.mark
        os.kill(victim, signal.SIGSTOP)
        for _ in range(20):
            await check_served(client, credentials)
        service.log.wait("a worker is stopped and is killed", process=victim, since=mark)
        service.wait_for_agents(since=mark)
        await check_served(client, credentials)


def test_the_only_agent_is_killed_again_and_again(credentials: Credentials) -> None:
    """More deaths than a keeper bears: the supervisor starts the keeper anew, and the service comes back."""
    with running_service() as service:
        asyncio.run(_killed_often(service, credentials))


async def _killed_often(service: Service, credentials: Credentials) -> None:
    keeper = service.keeper()
    async with AsyncClient(service.runtime_dir) as client:
        while service.keeper() == keeper:
            await served_again(client, credentials)
            mark = service.log.mark
            for worker in service.workers():
                os.kill(worker, signal.SIGKILL)
            service.log.wait("joined", protocol="tls13", since=mark)
        assert service.log.events("the agent gives up")
        await served_again(client, credentials)
