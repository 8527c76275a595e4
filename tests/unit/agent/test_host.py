"""The agent host against a dispatcher played by hand: from READY to DONE, stopping, retiring, several protocols."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from hsframework.agent.host import AgentHost
from hsframework.agent.served import prepare
from hsframework.errors import ConfigurationError
from hsframework.interface import Endpoint, Request, Result
from hsframework.netlink.attributes import attribute_codec
from hsframework.netlink.messages import NLM_F_ACK, Message
from tests.unit.agent.fakes import (
    TOY_SPECIFICATION,
    WAIT,
    Behaviour,
    ToyPlugin,
    ToyProtocol,
    dispatcher,
    forever,
    greet,
    pair,
    read,
    registry_with,
    running,
    succeeds,
)


async def test_a_handshake_from_ready_to_done() -> None:
    """The request is pulled, the handshake runs on the socket, what follows it stays there, DONE tells the result."""
    async with running() as agent:
        with pair() as (ours, theirs):
            accept = await agent.peer.asked()
            assert accept.values == {"group": "toy", "count": 16}
            agent.peer.give(accept, ours.fileno())
            assert await read(theirs, 6) == b"\x05hello"
            theirs.send(b"\x05worlddata for the consumer")
            done = await agent.peer.receive("done")
            assert ours.recv(100, socket.MSG_DONTWAIT) == b"data for the consumer"
        session = attribute_codec(TOY_SPECIFICATION, "session").encode({"key": b"k" * 16})
        assert done.values.pop("session").reveal() == session
        assert done.values == {
            "request-id": 1,
            "status": 0,
            "tag": [{"name": "answer", "value": "world"}],
            "protocol": "toy",
        }


async def test_many_requests_leave_nothing_behind() -> None:
    """500 handshakes in batches: each has one DONE; no fd and no task is left (the harness counts them)."""
    async with running(succeeds) as agent:
        peer = agent.peer
        accept: Message | None = await peer.asked()
        number = 0
        done: set[int] = set()
        with pair() as (ours, _):
            while len(done) < 500:
                if accept is not None:
                    for _ in range(accept.values["count"]):
                        number += 1
                        peer.give(accept, ours.fileno(), number)
                    accept = None
                item = await asyncio.wait_for(peer.inbox.get(), WAIT)
                assert item is not None
                if item[0].operation == "accept":
                    accept = item[0]
                else:
                    assert item[0].values["request-id"] not in done
                    done.add(item[0].values["request-id"])


# Stopping


async def test_stop_finishes_what_is_in_hand() -> None:
    """LEAVE goes out, the handshake in hand ends as if nothing were, and then the host does."""
    async with running() as agent:
        with pair() as (ours, theirs):
            agent.peer.give(await agent.peer.asked(), ours.fileno())
            assert await read(theirs, 6) == b"\x05hello"
            agent.host.stop()
            leave = await agent.peer.receive("leave")
            assert leave.values == {"group": ["toy"], "expected-back": True}
            agent.peer.refuse(leave, 0)
            agent.peer.send("ready", {"group": "toy"})
            theirs.send(b"\x05world")
            assert (await agent.peer.receive("done")).values["status"] == 0
            await asyncio.wait_for(agent.task, WAIT)
            await agent.peer.closed()


async def test_stop_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handshake that does not end in time is ended with EIO."""
    monkeypatch.setattr("hsframework.agent.host.STOP_TIME", 0.01)
    async with running(forever) as agent:
        with pair() as (ours, _):
            agent.peer.give(await agent.peer.asked(), ours.fileno())
            agent.host.stop()
            agent.peer.refuse(await agent.peer.receive("leave"), 0)
            assert (await agent.peer.receive("done")).values["status"] == errno.EIO
            await asyncio.wait_for(agent.task, WAIT)


async def cleans_up(request: Request, endpoint: Endpoint) -> Result:
    """Wait without end, and take some turns of the loop to stop."""
    try:
        await asyncio.Event().wait()
    finally:
        for _ in range(50):
            await asyncio.sleep(0)
    raise AssertionError


async def test_stop_waits_for_handshakes_that_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cleans up first has its DONE all the same, before the connection ends."""
    monkeypatch.setattr("hsframework.agent.host.STOP_TIME", 0.01)
    async with running(cleans_up) as agent:
        with pair() as (ours, _):
            agent.peer.give(await agent.peer.asked(), ours.fileno())
            agent.host.stop()
            agent.peer.refuse(await agent.peer.receive("leave"), 0)
            done = await agent.peer.receive("done")
            assert done.values["status"] == errno.EIO
            assert done.values["message"].endswith("the agent stops")
            await asyncio.wait_for(agent.task, WAIT)


# Retiring


async def hoards(request: Request, endpoint: Endpoint) -> Result:
    """Run out of memory."""
    raise MemoryError


async def opens_too_much(request: Request, endpoint: Endpoint) -> Result:
    """Run out of file descriptors."""
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize(
    ("behaviour", "status", "reason"),
    [(hoards, errno.EIO, "memory runs out"), (opens_too_much, errno.EIO, "file descriptors run out")],
)
async def test_exhaustion_retires_the_process(
    behaviour: Behaviour, status: int, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The request has its outcome, the log names plugin and reason, nothing more is taken, and the host ends."""
    await _retired(behaviour, status)
    said = "".join(capfd.readouterr())
    assert reason in said
    assert "plugin-0" in said


async def test_leaked_descriptors_retire_the_process(capfd: pytest.CaptureFixture[str]) -> None:
    """A number is open that requests alone do not come to: no handshake fails for it."""
    await _retired(greet, 0, highest_fd=2)
    assert "file descriptors run out" in "".join(capfd.readouterr())


async def test_a_process_that_retires_stays_a_member_until_it_is_replaced() -> None:
    """It takes nothing more, and does not leave before it is told that another one has joined."""
    async with running(hoards, on_retired=lambda: None) as agent:
        with pair() as (ours, _):
            agent.peer.give(await agent.peer.asked(), ours.fileno())
            assert (await agent.peer.receive("done")).values["status"] == errno.EIO
            agent.peer.send("ready", {"group": "toy"})
            agent.peer.send("cancel", {"request-id": 1}, sequence=7, flags=NLM_F_ACK)
            assert (await agent.peer.receive("error")).sequence == 7
            agent.host.stop()
            agent.peer.refuse(await agent.peer.receive("leave"), 0)
            await asyncio.wait_for(agent.task, WAIT)


async def _retired(behaviour: Behaviour, status: int, highest_fd: int | None = None) -> None:
    async with running(behaviour) as agent:
        if highest_fd is not None:
            agent.host.room.highest_fd = highest_fd
        with pair() as (ours, theirs):
            theirs.send(b"\x05world")
            agent.peer.give(await agent.peer.asked(), ours.fileno())
            heard = {}
            for _ in range(2):
                item = await asyncio.wait_for(agent.peer.inbox.get(), WAIT)
                assert item is not None
                heard[item[0].operation] = item[0]
                if item[0].operation == "leave":
                    agent.peer.refuse(item[0], 0)
            assert heard["done"].values["status"] == status
            await asyncio.wait_for(agent.task, WAIT)


# Several protocols


async def test_two_protocols_in_one_process() -> None:
    """Each joins by itself and gets its own requests; a group that both share is told apart by the kind of socket."""

    class Other(ToyProtocol):
        name = "other"
        groups = ("toy", "other")
        socket_protocols = frozenset({socket.IPPROTO_UDP})

    async def toy(request: Request, endpoint: Endpoint) -> Result:
        return Result(tags={"who": "toy"})

    async def other(request: Request, endpoint: Endpoint) -> Result:
        return Result(tags={"who": "other"})

    registry = registry_with(ToyPlugin(ToyProtocol(toy), Other(other)))
    async with dispatcher() as fake:
        host = AgentHost([prepare(registry, name) for name in ("toy", "other")], registry, fake.path)
        task = asyncio.create_task(host.run())
        peers = {}
        for _ in range(2):
            peer = await fake.connection()
            peers[(await peer.joined()).values["protocol"]] = peer
        datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with pair() as (ours, _), datagram:
            for name, sock in (("toy", ours), ("other", datagram)):
                peers[name].give(await peers[name].asked(), sock.fileno())
                done = await peers[name].receive("done")
                assert done.values["tag"] == [{"name": "who", "value": name}]
        host.stop()
        for peer in peers.values():
            peer.refuse(await peer.receive("leave"), 0)
        await asyncio.wait_for(task, WAIT)


def test_two_protocols_for_the_same_requests_are_refused() -> None:
    """One process cannot serve one group on one kind of socket with two protocols."""

    class Other(ToyProtocol):
        name = "other"

    registry = registry_with(ToyPlugin(ToyProtocol(), Other()))
    served = [prepare(registry, name) for name in ("toy", "other")]
    with pytest.raises(ConfigurationError, match="both serve"):
        AgentHost(served, registry, "/nowhere")
