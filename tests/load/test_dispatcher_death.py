"""A dispatcher that is killed: its clients know at once, its agents live on, and what was under way is wound up."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import time

from hsframework.client import AsyncClient, Client
from hsframework.errors import HsframeworkError
from tests.load.traffic import DEADLINE, Credentials, Ended, check_served, hung_up, outcome, spoken_to
from tests.support.running import Service, await_fds, open_fds, running_service, settled_fds, tcp_pairs, until

IN_FLIGHT = 48


def test_killed_with_requests_in_flight(credentials: Credentials) -> None:
    """kill -9: ECONNRESET at once; the same agents give the sockets back, connections are ended, service goes on."""
    with running_service("[agents.tls13]\nprocesses = 2\n", agents=2) as service:
        asyncio.run(_killed(service, credentials))


async def _killed(service: Service, credentials: Credentials) -> None:
    async with AsyncClient(service.runtime_dir) as client:
        await check_served(client, credentials)
        victim, agents = service.dispatcher, service.workers()
        before = {pid: settled_fds(pid) for pid in (service.pid, service.keeper(), *agents)}
        dispatcher_fds = settled_fds(victim)
        with tcp_pairs(IN_FLIGHT + 1) as pairs, Client(service.runtime_dir) as blocking:
            waiting = [
                asyncio.ensure_future(asyncio.to_thread(_blocking_outcome, blocking, pairs[0][0], credentials)),
                *(asyncio.ensure_future(outcome(client, near, credentials.client())) for near, _ in pairs[1:]),
            ]
            await spoken_to([far for _, far in pairs])
            mark, killed = service.log.mark, time.monotonic()
            os.kill(victim, signal.SIGKILL)
            ended = await asyncio.gather(*waiting)
            assert {item.errno for item in ended} == {errno.ECONNRESET}
            slowest = max(item.at for item in ended) - killed
            assert slowest < DEADLINE
            wound_up = await hung_up([far for _, far in pairs]) - killed
            assert wound_up < DEADLINE

            service.log.wait("started", child="dispatcher", since=mark)
            service.log.wait("joined", since=mark, number=2)
            await check_served(client, credentials)
            served = time.monotonic() - killed
            print(
                f"\nkill -9 of the dispatcher: {len(pairs)} calls had ECONNRESET within {slowest * 1000:.1f} ms, ",
                end="",
            )
            print(f"the peers' connections were ended after {wound_up * 1000:.0f} ms, ", end="")
            print(f"a new handshake was over after {served * 1000:.0f} ms")

        assert service.workers() == agents
        assert service.dispatcher != victim
        returned = service.log.events("a request of an earlier dispatcher is given back", since=mark)
        assert len(returned) == len(pairs)
        for pid, number in before.items():
            await_fds(pid, number)
        until(
            lambda: open_fds(service.dispatcher) <= dispatcher_fds, "the new dispatcher holds no more than the old one"
        )


def _blocking_outcome(client: Client, sock: socket.socket, credentials: Credentials) -> Ended:
    try:
        client.handshake(sock, credentials.client())
    except HsframeworkError as error:
        return Ended(error.errno, time.monotonic(), str(error))
    return Ended(0, time.monotonic())
