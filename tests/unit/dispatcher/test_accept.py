"""ACCEPT for several requests at once: those that cannot be sent, and those whose sockets the agent does not serve."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest

from hsframework.dispatcher.messages import Parameters, accept_reply
from tests.support.house import REQUEST, connected_pair, house


@pytest.mark.parametrize("waiting", [2, 3])
async def test_a_request_that_cannot_be_sent_is_replaced(waiting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is completed with EIO; the agent gets as many as it asked for, or EAGAIN behind the last that waits."""

    def reply(shared: Parameters, *, request_id: int, **values: Any) -> bytes:
        if request_id == 1:
            raise RecursionError
        return accept_reply(shared, request_id=request_id, **values)

    monkeypatch.setattr("hsframework.dispatcher.agents.operations.accept_reply", reply)
    pairs = [socket.socketpair() for _ in range(waiting)]
    async with house() as home:
        agent, consumer = await home.agent("toy"), await home.consumer()
        first, *_ = [consumer.send("submit", REQUEST, ours.fileno()) for ours, _ in pairs]
        await home.queued(waiting)
        await agent.expect("ready")
        agent.send("accept", {"group": "toy", "count": 2})
        message, _ = await consumer.receive()
        assert (message.sequence, message.values["status"]) == (first, errno.EIO)
        for number in range(2, waiting + 1):
            message, fd = await agent.receive()
            assert message.values["request-id"] == number
            assert fd is not None
            os.close(fd)
        if waiting == 2:
            assert (await agent.receive())[0].error == errno.EAGAIN
        assert len(home.dispatcher.groups["toy"]) == 0
        assert (await agent.ask("leave", {"group": ["toy"]})).error == 0
    for pair in pairs:
        for sock in pair:
            sock.close()


async def test_an_agent_gets_the_sockets_that_it_serves() -> None:
    """Those of another protocol keep their place in the queue, before and behind the ones that are pulled."""
    near, far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with connected_pair() as (one, _), connected_pair() as (two, _), near, far:
        far.bind(("127.0.0.1", 0))
        near.connect(far.getsockname())
        async with house() as home:
            tcp = await home.agent("toy", **{"socket-protocol": [socket.IPPROTO_TCP]})
            any_socket = await home.agent("toy")
            consumer = await home.consumer()
            for name, sock in (("tcp one", one), ("udp", near), ("tcp two", two)):
                consumer.send("submit", {**REQUEST, "peername": name}, sock.fileno())
            await home.queued(3)
            await tcp.expect("ready")
            tcp.send("accept", {"group": "toy", "count": 1})
            message, fd = await tcp.receive()
            assert message.values["peername"] == "tcp one"
            names = [(await any_socket.take_message()).values["peername"] for _ in range(2)]
            assert names == ["udp", "tcp two"]
            assert fd is not None
            os.close(fd)
