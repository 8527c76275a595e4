"""DONE of the kernel's requests, until the dispatcher acknowledges it: socket and outcome outlive the dispatcher."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any

import pytest
from structlog.testing import capture_logs

from hsframework.netlink.attributes import attribute_codec
from hsframework.netlink.messages import NLM_F_ACK, Message
from hsframework.netlink.spec import builtin_specification
from tests.unit.agent.fakes import (
    WAIT,
    AgentPeer,
    Behaviour,
    Running,
    forever,
    open_fds,
    pair,
    running,
    settled,
    succeeds,
)

ROUND_TRIPS = 20
KERNELS = {"source": "kernel", "kernel_consumer": True}
_outcomes = attribute_codec(builtin_specification("local"), "outcome")


async def done_of(peer: AgentPeer, sock: socket.socket, number: int = 4, **values: Any) -> Message:
    """Give the agent a request of the kernel's, and return its DONE, which is to be acknowledged."""
    peer.give(await peer.asked(), sock.fileno(), number, **KERNELS, **values)
    message = await peer.receive("done")
    assert message.values["request-id"] == number
    assert message.flags & NLM_F_ACK
    return message


async def replaced(agent: Running) -> AgentPeer:
    """Have the dispatcher die, and return its successor's link with the agent."""
    agent.dispatcher.die()
    agent.dispatcher.start()
    return await agent.dispatcher.agent()


async def restored(peer: AgentPeer, sock: socket.socket) -> int:
    """Return the status of the outcome that the agent gives back with this socket."""
    message, fd = await peer.receive_with_fd("restore")
    assert fd is not None
    assert os.fstat(fd).st_ino == os.fstat(sock.fileno()).st_ino
    os.close(fd)
    peer.refuse(message, 0)
    status: int = _outcomes.decode(message.values["outcome"])["status"]
    return status


async def nothing_restored(peer: AgentPeer) -> None:
    """Check that a dispatcher whose agent has joined is given nothing back, within many turns of the loop."""
    for _ in range(ROUND_TRIPS):
        await settled(peer)


@pytest.mark.parametrize(
    ("values", "status"), [({}, 0), ({"auth_mode": 9}, errno.EINVAL)], ids=["a success", "a request that never began"]
)
async def test_a_done_that_a_dispatcher_has_not_acknowledged(values: dict[str, Any], status: int) -> None:
    """The next dispatcher gets outcome and socket, through a second death too, until one has acknowledged them."""
    async with running(succeeds) as agent:
        with pair() as (ours, theirs):
            await done_of(agent.peer, ours, **values)
            peer = await replaced(agent)
            _, fd = await peer.receive_with_fd("restore")
            assert fd is not None
            os.close(fd)
            peer = await replaced(agent)
            assert await restored(peer, ours) == status
            await nothing_restored(await replaced(agent))
            theirs.send(b"alive")
            assert ours.recv(5) == b"alive"


async def test_an_acknowledgement_closes_the_socket() -> None:
    """No copy is left then, and the next dispatcher is given nothing back."""
    async with running(succeeds) as agent:
        with pair() as (ours, _):
            await settled(agent.peer)
            before = open_fds()
            done = await done_of(agent.peer, ours)
            assert open_fds() == before + 1
            assert agent.host.in_hand == 1
            agent.peer.refuse(done, 0)
            await settled(agent.peer)
            assert open_fds() == before
            assert agent.host.in_hand == 0
            await nothing_restored(await replaced(agent))


async def test_the_outcome_for_a_program_is_not_kept() -> None:
    """Its own link is lost with the dispatcher: the agent lets go of the socket before DONE, and asks for no answer."""
    async with running(succeeds) as agent:
        with pair() as (ours, _):
            accept = await agent.peer.asked()
            before = open_fds()
            agent.peer.give(accept, ours.fileno(), 4, source="local")
            assert not (await agent.peer.receive("done")).flags & NLM_F_ACK
            assert open_fds() == before
            await nothing_restored(await replaced(agent))


async def test_a_request_that_is_withdrawn_after_its_done() -> None:
    """CANCEL crosses it: the request was completed without it, and is not given back; its answer changes nothing."""
    async with running(succeeds) as agent:
        with pair() as (ours, _):
            done = await done_of(agent.peer, ours)
            agent.peer.send("cancel", {"request-id": 4, "reason": errno.ETIMEDOUT})
            await settled(agent.peer)
            assert agent.host.in_hand == 0
            agent.peer.refuse(done, 0)
            await nothing_restored(await replaced(agent))


async def test_an_outcome_that_is_refused() -> None:
    """It is logged; the request is the dispatcher's to complete, and no longer in hand here."""
    async with running(succeeds) as agent:
        with pair() as (ours, _), capture_logs() as logs:
            done = await done_of(agent.peer, ours)
            agent.peer.refuse(done, errno.EBADF, "another agent's")
            await settled(agent.peer)
            assert agent.host.in_hand == 0
        refused = [entry for entry in logs if entry["event"] == "the dispatcher refuses an outcome"]
        assert [(entry["request"], entry["reason"]) for entry in refused] == [(4, "another agent's")]


async def test_room_is_taken_until_the_acknowledgement() -> None:
    """The socket is open until then: the limit of open files holds for it too."""
    async with running(succeeds, capacity=1) as agent:
        with pair() as (ours, _):
            done = await done_of(agent.peer, ours)
            await settled(agent.peer)
            agent.peer.refuse(done, 0)
            assert (await agent.peer.receive("accept")).values["count"] == 1


async def test_an_agent_that_stops_waits_for_the_acknowledgement() -> None:
    """The next dispatcher gets the outcome if this one dies instead; the agent does not join it."""
    async with running(succeeds) as agent:
        with pair() as (ours, _):
            await done_of(agent.peer, ours)
            agent.host.stop()
            agent.peer.refuse(await agent.peer.receive("leave"), 0)
            await settled(agent.peer)
            agent.dispatcher.die()
            agent.dispatcher.start()
            assert await restored(await agent.dispatcher.connection(), ours) == 0
            await asyncio.wait_for(agent.task, WAIT)


@pytest.mark.parametrize("behaviour", [succeeds, forever], ids=["before the stop", "by the stop"])
async def test_a_stop_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour) -> None:
    """A dispatcher that stands still acknowledges nothing: the agent ends after its time, with DONE on the way."""
    monkeypatch.setattr("hsframework.agent.host.STOP_TIME", 0.01)
    async with running(behaviour) as agent:
        with pair() as (ours, _):
            agent.peer.give(await agent.peer.asked(), ours.fileno(), 4, **KERNELS)
            if behaviour is succeeds:
                await agent.peer.receive("done")
            agent.host.stop()
            agent.peer.refuse(await agent.peer.receive("leave"), 0)
            if behaviour is forever:
                await agent.peer.receive("done")
            await asyncio.wait_for(agent.task, WAIT)


async def test_the_end_of_an_agent_leaves_the_connection_alone() -> None:
    """Its DONE is on the way to a dispatcher that lives: the socket is closed, and not shut down."""
    with pair() as (ours, theirs):
        async with running(succeeds) as agent:
            await done_of(agent.peer, ours)
        theirs.send(b"alive")
        assert ours.recv(5) == b"alive"


async def test_a_request_that_is_withdrawn_before_its_dispatcher_dies() -> None:
    """It was completed, so nothing is given back, although its handshake ends after the link."""
    async with running(forever) as agent:
        with pair() as (ours, _):
            agent.peer.give(await agent.peer.asked(), ours.fileno(), 4, **KERNELS)
            await settled(agent.peer)
            agent.peer.send("cancel", {"request-id": 4, "reason": errno.ETIMEDOUT})
            await nothing_restored(await replaced(agent))
