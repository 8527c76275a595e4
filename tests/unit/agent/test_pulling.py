"""Requests are pulled in rounds of ACCEPT, as many as there is room for."""

from __future__ import annotations

import asyncio
import errno

from hsframework.agent.host import AgentHost
from hsframework.agent.served import prepare
from hsframework.interface import Endpoint, Request, Result
from hsframework.netlink.messages import Message
from tests.unit.agent.fakes import (
    WAIT,
    ToyPlugin,
    ToyProtocol,
    dispatcher,
    forever,
    pair,
    registry_with,
    running,
    settled,
)


async def test_accept_goes_on_until_the_queue_is_empty() -> None:
    """A full batch is followed by another ACCEPT; EAGAIN ends the round; READY begins the next."""
    async with running(forever) as agent:
        peer = agent.peer
        with pair() as (ours, _):
            first = await peer.asked()
            for number in range(1, first.values["count"] + 1):
                peer.give(first, ours.fileno(), number)
            second = await peer.receive("accept")
            peer.give(second, ours.fileno(), 100)
            peer.refuse(second, errno.EAGAIN)
            await settled(peer)
            assert agent.host.in_hand == 17
            assert (await peer.asked()).values["count"] == 16


async def test_no_more_is_taken_than_there_is_room_for() -> None:
    """At the limit nothing is asked for; a request that ends makes room for one."""
    gate: dict[int, asyncio.Event] = {1: asyncio.Event(), 2: asyncio.Event(), 3: asyncio.Event()}

    async def gated(request: Request, endpoint: Endpoint) -> Result:
        await gate[request.id].wait()
        return Result()

    async with running(gated, capacity=2) as agent:
        peer = agent.peer
        with pair() as (ours, _):
            accept = await peer.asked()
            peer.give(accept, ours.fileno(), 1)
            peer.give(accept, ours.fileno(), 2)
            peer.send("ready", {"group": "toy"})
            await settled(peer)
            gate[2].set()
            assert (await peer.receive("done")).values["request-id"] == 2
            third = await peer.receive("accept")
            assert third.values["count"] == 1
            gate[1].set()
            assert (await peer.receive("done")).values["request-id"] == 1


async def test_a_request_that_was_not_asked_for_takes_room() -> None:
    """It is served, and until it has ended no other is asked for where there is room for one."""
    release = asyncio.Event()

    async def gated(request: Request, endpoint: Endpoint) -> Result:
        await release.wait()
        return Result()

    async with running(gated, capacity=1) as agent:
        peer = agent.peer
        with pair() as (ours, _):
            peer.give(Message("accept", {}, sequence=999), ours.fileno())
            peer.send("ready", {"group": "toy"})
            await settled(peer)
            release.set()
            assert (await peer.receive("done")).values["status"] == 0
            assert (await peer.receive("accept")).values["count"] == 1


async def test_room_of_one_protocol_goes_to_another() -> None:
    """Two protocols share the room of their process: one that found none asks once the other has no use for it."""

    class Other(ToyProtocol):
        name = "other"
        groups = ("other",)

    release = asyncio.Event()

    async def gated(request: Request, endpoint: Endpoint) -> Result:
        await release.wait()
        return Result()

    registry = registry_with(ToyPlugin(ToyProtocol(gated), Other()))
    async with dispatcher() as fake:
        host = AgentHost([prepare(registry, name) for name in ("toy", "other")], registry, fake.path, capacity=1)
        task = asyncio.create_task(host.run())
        peers = {}
        for _ in range(2):
            peer = await fake.connection()
            peers[(await peer.joined()).values["protocol"]] = peer
        with pair() as (ours, _):
            peers["toy"].give(await peers["toy"].asked(), ours.fileno())
            await settled(peers["toy"])
            peers["other"].send("ready", {"group": "other"})
            await settled(peers["other"])
            release.set()
            await peers["toy"].receive("done")
            peers["toy"].refuse(await peers["toy"].receive("accept"), errno.EAGAIN)
            assert (await peers["other"].receive("accept")).values == {"group": "other", "count": 1}
        host.stop()
        for peer in peers.values():
            peer.refuse(await peer.receive("leave"), 0)
        await asyncio.wait_for(task, WAIT)
