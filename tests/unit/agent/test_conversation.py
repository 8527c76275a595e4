"""The conversation with the dispatcher: answers go to the messages that await them, nonsense is passed over."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any

import pytest
from structlog.testing import capture_logs

from hsframework.agent.conversation import MOST_ASKED, Conversation
from hsframework.agent.requests import decode_request
from hsframework.dispatcher.messages import codec as requests
from hsframework.interface import Endpoint, PresharedKey, Request, Result, Secret, Trust
from hsframework.local.channel import AsyncChannel
from hsframework.netlink.messages import NLM_F_ACK, Message
from hsframework.netlink.socket import open_netlink
from tests.unit.agent.fakes import WAIT, acknowledged, open_fds, pair, running, succeeds


async def test_messages_that_are_not_understood_are_passed_over() -> None:
    """Garbage, and an operation that agents are not sent, with and without an fd: the agent goes on, no fd is left."""
    with capture_logs() as logs:
        await _not_understood()
    events = [it["event"] for it in logs if it["log_level"] in ("error", "critical")]
    assert events == ["a message of the dispatcher is not understood"] * 2


async def _not_understood() -> None:
    async with running(succeeds) as agent:
        accept = await agent.peer.asked()
        with pair() as (ours, _):
            agent.peer.channel.send(b"garbage", ours.fileno())
            agent.peer.send("result", {"status": 0}, ours.fileno())
            agent.peer.send("ready", {"group": "never joined"}, ours.fileno())
            agent.peer.give(accept, ours.fileno())
            assert (await agent.peer.receive("done")).values["status"] == 0


async def test_psk_lookup_answers_go_to_their_askers() -> None:
    """Two look-ups at once, answered in the other order: each handshake gets its own key; no key is None."""
    found: dict[int, PresharedKey | None] = {}

    async def asks(request: Request, endpoint: Endpoint) -> Result:
        found[request.id] = await request.psk_lookup(b"id-%d" % request.id)
        return Result()

    async with running(asks) as agent:
        peer = agent.peer
        accept = await peer.asked()
        with pair() as (ours, _):
            for number in (1, 2):
                peer.give(accept, ours.fileno(), number)
            first, second = await peer.receive("psk-lookup"), await peer.receive("psk-lookup")
            assert first.values == {"request-id": 1, "identity": b"id-1"}
            peer.send("psk-lookup", {"request-id": 2}, sequence=second.sequence)
            key = {"identity": b"id-1", "key": b"s3cret", "hash": "sha384"}
            peer.send("psk-lookup", {"request-id": 1, "psk": key}, sequence=first.sequence)
            await peer.receive("done")
            await peer.receive("done")
    assert found == {1: PresharedKey(b"id-1", Secret(b"s3cret"), "sha384"), 2: None}


async def test_questions_have_a_window() -> None:
    """No more than a number of questions are without an answer; each answer lets the next one out."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    far = AsyncChannel(theirs, lambda data, _: inbox.put_nowait(requests.decode(data)), lambda _: None)
    conversation = Conversation(asyncio.get_running_loop())
    conversation.open(ours, {}, lambda _: None)
    values = {"request-id": 1, "identity": b"nobody"}
    async with asyncio.timeout(WAIT), asyncio.TaskGroup() as tasks:
        for _ in range(MOST_ASKED + 2):
            tasks.create_task(conversation.request("psk-lookup", values))
        waiting = [await inbox.get() for _ in range(MOST_ASKED)]
        for _ in range(2):
            await asyncio.sleep(0)
            assert inbox.empty()
            far.send(requests.encode("psk-lookup", {"request-id": 1}, sequence=waiting.pop(0).sequence))
            waiting.append(await inbox.get())
        assert inbox.empty()
        for asked in waiting:
            far.send(requests.encode("psk-lookup", {"request-id": 1}, sequence=asked.sequence))
    conversation.close()
    far.close()


async def test_psk_lookup_that_is_refused_fails_the_handshake() -> None:
    """EIO, with the dispatcher's words."""

    async def asks(request: Request, endpoint: Endpoint) -> Result:
        await request.psk_lookup(b"id")
        raise AssertionError

    async with running(asks) as agent:
        with pair() as (ours, _):
            agent.peer.give(await agent.peer.asked(), ours.fileno())
            agent.peer.refuse(await agent.peer.receive("psk-lookup"), errno.EBADF, "not yours")
            done = await agent.peer.receive("done")
            assert done.values["status"] == errno.EIO
            assert "not yours" in done.values["message"]


async def test_lookup_in_flight_when_the_dispatcher_dies() -> None:
    """A handshake that waits for a key does not wait for ever."""
    ended: list[Any] = []

    async def asks(request: Request, endpoint: Endpoint) -> Result:
        try:
            await request.psk_lookup(b"id")
        finally:
            ended.append(request.id)
        raise AssertionError

    async with running(asks) as agent:
        fake, peer = agent.dispatcher, agent.peer
        with pair() as (ours, _):
            peer.give(await peer.asked(), ours.fileno())
            await peer.receive("psk-lookup")
            fake.die()
            fake.start()
            new = await fake.agent()
            message, fd = await new.receive_with_fd("restore")
            assert fd is not None
            os.close(fd)
            new.refuse(message, 0)
            await new.asked()
    assert ended == [1]


async def test_a_netlink_socket_is_handed_over() -> None:
    """A handshaker that asks gets the one that the dispatcher opened; a refusal fails the handshake with its words."""

    async def asks(request: Request, endpoint: Endpoint) -> Result:
        with await request.open_netlink(16) as sock:
            assert sock.family == socket.AF_NETLINK
        return Result(tags={"family": "16"})

    async with running(asks) as agent:
        with pair() as (ours, _), open_netlink(16) as opened:
            accept = await agent.peer.asked()
            agent.peer.give(accept, ours.fileno(), 1)
            asked = await agent.peer.receive("netlink")
            assert asked.values == {"request-id": 1, "family": 16}
            agent.peer.send("netlink", {"request-id": 1}, opened.fileno(), sequence=asked.sequence)
            assert (await agent.peer.receive("done")).values["status"] == 0
            # A second answer, and one without a socket, are dropped and close what they bring.
            before = open_fds()
            agent.peer.send("netlink", {"request-id": 1}, opened.fileno(), sequence=asked.sequence)
            agent.peer.give(accept, ours.fileno(), 2)
            asked = await agent.peer.receive("netlink")
            assert open_fds() <= before + 1
            agent.peer.refuse(asked, errno.EPERM, "name it with --netns")
            done = await agent.peer.receive("done")
            assert done.values["status"] == errno.EIO
            assert "name it with --netns" in done.values["message"]


async def test_messages_of_one_packet_are_handled_in_their_order() -> None:
    """A trust that changes between two requests, a cancel behind one, the end of the round: all in one packet."""
    seen: dict[int, Trust | None] = {}

    async def looks(request: Request, endpoint: Endpoint) -> Result:
        seen[request.id] = request.trust
        return Result()

    one, two = Trust((b"one",)), Trust((b"two",))
    async with running(looks) as agent:
        accept = await agent.peer.asked()
        with pair() as (ours, _), agent.peer.together():
            agent.peer.trust(1, one)
            agent.peer.give(accept, ours.fileno(), 1, trust_id=1)
            agent.peer.give(accept, ours.fileno(), 2, trust_id=1)
            agent.peer.send("cancel", {"request-id": 2, "reason": errno.ECANCELED}, flags=NLM_F_ACK)
            agent.peer.trust(1, two)
            agent.peer.give(accept, ours.fileno(), 3, trust_id=1)
            agent.peer.give(accept, ours.fileno(), 4, trust_id=9)
            agent.peer.refuse(accept, errno.EAGAIN)
        done = await agent.peer.receive("done")
        assert (done.values["request-id"], done.values["status"]) == (4, errno.EIO)
        await acknowledged(agent.peer)
        assert [(await agent.peer.receive("done")).values["request-id"] for _ in range(2)] == [1, 3]
        assert seen == {1: one, 3: two}
        assert (await agent.peer.asked()).values["count"] == 16


async def test_a_fault_costs_its_own_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended with EIO, at once; the others of its packet are served, and what they bring is closed."""

    def faulty(values: Any, *others: Any, **named: Any) -> Request:
        if values["request-id"] == 2:
            raise RecursionError
        return decode_request(values, *others, **named)

    monkeypatch.setattr("hsframework.agent.in_hand.decode_request", faulty)
    async with running(succeeds) as agent:
        accept = await agent.peer.asked()
        with pair() as (ours, _), agent.peer.together():
            for number in (1, 2, 3):
                agent.peer.give(accept, ours.fileno(), number)
        done = [(await agent.peer.receive("done")).values for _ in range(3)]
        assert {item["request-id"]: item["status"] for item in done} == {1: 0, 2: errno.EIO, 3: 0}
        assert agent.host.in_hand == 0
