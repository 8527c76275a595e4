"""The life of the connection: join, a dispatcher that goes and comes back, leave."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os

import pytest
from structlog.testing import capture_logs

from hsframework.agent import link
from hsframework.agent.host import AgentHost
from hsframework.agent.served import prepare
from hsframework.errors import RequestRefused
from hsframework.interface import Endpoint, Request, Result
from hsframework.netlink.attributes import attribute_codec
from hsframework.netlink.messages import NLM_F_ACK
from hsframework.netlink.spec import builtin_specification
from tests.unit.agent.fakes import (
    WAIT,
    Audit,
    ToyPlugin,
    ToyProtocol,
    dispatcher,
    forever,
    pair,
    read,
    registry_with,
    running,
    settled,
)


async def test_join_tells_what_is_served() -> None:
    """JOIN names the groups, the protocol, the kinds of socket and the agent."""
    registry = registry_with(ToyPlugin(ToyProtocol()))
    async with dispatcher() as fake:
        task = asyncio.create_task(AgentHost([prepare(registry, "toy")], registry, fake.path, name="me").run())
        message = await (await fake.connection()).joined()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert message.values == {
        "group": ["toy"],
        "protocol": "toy",
        "socket-protocol": [0, 6],
        "agent": "me",
        "auth-mode": [0, 1, 2, 3],
        "understands": ["alpn", "client-certificate", "peer-name", "trust"],
        "renews": True,
    }


async def test_join_that_is_refused_ends_the_host() -> None:
    """An agent that may not join says so, and does not try for ever."""
    registry = registry_with(ToyPlugin(ToyProtocol()))
    async with dispatcher() as fake:
        task = asyncio.create_task(AgentHost([prepare(registry, "toy")], registry, fake.path).run())
        peer = await fake.connection()
        peer.refuse(await peer.receive("join"), errno.EACCES, "not you")
        with pytest.raises(RequestRefused, match="not you"):
            await asyncio.wait_for(task, WAIT)


async def test_dispatcher_that_comes_later() -> None:
    """An agent that is started first waits for the dispatcher."""
    registry = registry_with(ToyPlugin(ToyProtocol()))
    async with dispatcher() as fake:
        fake.die()
        fake.path.unlink()
        joined = asyncio.Event()
        host = AgentHost([prepare(registry, "toy")], registry, fake.path, on_joined=joined.set)
        task = asyncio.create_task(host.run())
        await asyncio.sleep(0)
        fake.start()
        peer = await fake.agent()
        await asyncio.wait_for(joined.wait(), WAIT)
        host.stop()
        peer.refuse(await peer.receive("leave"), 0)
        await asyncio.wait_for(task, WAIT)


async def test_another_user_in_the_dispatchers_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent looks at who listens, and gives a stranger nothing; it tries on until the dispatcher is there."""
    registry = registry_with(ToyPlugin(ToyProtocol()))
    trusted = iter([frozenset({os.geteuid() + 1})])
    monkeypatch.setattr(link, "trusted_users", lambda: next(trusted, frozenset({os.geteuid()})))
    async with dispatcher() as fake:
        task = asyncio.create_task(AgentHost([prepare(registry, "toy")], registry, fake.path).run())
        stranger = await fake.connection()
        assert await asyncio.wait_for(stranger.inbox.get(), WAIT) is None, "a stranger was sent something"
        await (await fake.connection()).joined()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_stop_before_the_dispatcher_has_answered() -> None:
    """An agent in the backlog of a dispatcher that has ended too has nothing to leave, and asks nobody."""
    registry = registry_with(ToyPlugin(ToyProtocol()))
    async with dispatcher() as fake:
        host = AgentHost([prepare(registry, "toy")], registry, fake.path)
        task = asyncio.create_task(host.run())
        peer = await fake.connection()
        await peer.receive("join")
        host.stop()
        assert await peer.inbox.get() is None, "nothing more was said"
        await asyncio.wait_for(task, WAIT)


# The dispatcher goes, and comes back


async def test_restore_after_the_dispatcher_died() -> None:
    """The agent connects anew, joins, gives each socket back, and closes it once that is acknowledged."""
    audit = Audit()
    async with running(forever, audit) as agent:
        fake, peer = agent.dispatcher, agent.peer
        with pair() as (ours, theirs):
            accept = await peer.asked()
            peer.give(accept, ours.fileno(), 4, source="local")
            peer.give(accept, ours.fileno(), 5, source="local")
            await settled(peer)
            assert agent.host.in_hand == 2
            fake.die()
            fake.start()
            new = await fake.agent()
            restored = [await new.receive_with_fd("restore") for _ in range(2)]
            values = [message.values for message, _ in restored]
            assert values == [{"request-id": number, "group": "toy", "source": "local"} for number in (4, 5)]
            for message, fd in restored:
                assert message.flags & NLM_F_ACK
                assert fd is not None
                assert os.fstat(fd).st_ino == os.fstat(ours.fileno()).st_ino
                os.close(fd)
                new.refuse(message, 0)
            second = await new.asked()
            new.give(second, ours.fileno(), 6, timeout=20)
            assert (await new.receive("done")).values["request-id"] == 6
            theirs.send(b"alive")
            assert ours.recv(5) == b"alive"
    assert audit.started == [4, 5, 6]
    assert sorted(number for number, _ in audit.finished) == [4, 5, 6]


@pytest.mark.parametrize("first", ["the handshake ends", "a dispatcher comes"])
async def test_a_kernel_handshake_goes_on_without_a_dispatcher(first: str) -> None:
    """It ends while there is none, or after one has come; the socket is given back with the outcome, once."""
    async with running() as agent:
        fake, peer = agent.dispatcher, agent.peer
        with pair() as (ours, theirs):
            peer.give(await peer.asked(), ours.fileno(), 4, source="kernel", kernel_consumer=True)
            await settled(peer)
            fake.die()
            if first == "the handshake ends":
                theirs.send(b"\x05world")
                assert await read(theirs, 1)
            fake.start()
            new = await fake.agent()
            if first == "a dispatcher comes":
                theirs.send(b"\x05world")
            message, fd = await new.receive_with_fd("restore")
            assert fd is not None
            os.close(fd)
            given = dict(message.values)
            outcome = attribute_codec(builtin_specification("local"), "outcome").decode(given.pop("outcome"))
            assert given == {"request-id": 4, "group": "toy", "source": "kernel", "kernel-consumer": True}
            assert (outcome["status"], outcome["protocol"]) == (0, "toy")
            new.refuse(message, 0)
            assert (await new.asked()).values["count"], "its room is free again"


async def test_a_kernel_handshake_that_fails_without_a_dispatcher() -> None:
    """A silent peer has the deadline's outcome, which the next dispatcher delivers."""
    async with running(forever) as agent:
        fake, peer = agent.dispatcher, agent.peer
        with pair() as (ours, _):
            accept = await peer.asked()
            peer.give(accept, ours.fileno(), 4, source="kernel", kernel_consumer=True, timeout=300)
            await settled(peer)
            fake.die()
            fake.start()
            new = await fake.agent()
            message, fd = await new.receive_with_fd("restore")
            assert fd is not None
            os.close(fd)
            codec = attribute_codec(builtin_specification("local"), "outcome")
            assert codec.decode(message.values["outcome"])["status"] == errno.ETIMEDOUT
            new.refuse(message, 0)


async def test_restore_survives_a_second_death_and_a_refusal() -> None:
    """An unacknowledged request is given back again; one that a dispatcher refuses is shut down."""
    async with running(forever) as agent:
        fake, peer = agent.dispatcher, agent.peer
        with pair() as (ours, theirs):
            peer.give(await peer.asked(), ours.fileno())
            await settled(peer)
            for _ in range(2):
                fake.die()
                fake.start()
                new = await fake.agent()
                message, fd = await new.receive_with_fd("restore")
                assert fd is not None
                os.close(fd)
            new.refuse(message, errno.EACCES, "you are no agent of mine")
            assert await read(theirs, 1) == b""


async def closes(request: Request, endpoint: Endpoint) -> Result:
    """Close the socket, against the rules."""
    endpoint.socket.close()
    await forever(request, endpoint)
    raise AssertionError


@pytest.mark.parametrize("kernels", [False, True])
async def test_a_handshaker_that_has_closed_its_socket(kernels: bool) -> None:
    """It cannot be given back, which is logged; the agent serves the new dispatcher all the same."""
    async with running(closes) as agent:
        with pair() as (ours, _):
            accept = await agent.peer.asked()
            agent.peer.give(accept, ours.fileno(), 4, source="kernel", kernel_consumer=kernels, timeout=300)
            await settled(agent.peer)
            with capture_logs() as logs:
                agent.dispatcher.die()
                agent.dispatcher.start()
                peer = await agent.dispatcher.agent()
                while not any(entry["event"].startswith("a handshaker has closed") for entry in logs):
                    await settled(peer)
            await peer.asked()


async def test_room_comes_back_when_the_dispatcher_dies() -> None:
    """Requests in hand and requests asked for no longer take room: the new dispatcher is asked for all."""
    async with running(forever, capacity=3) as agent:
        fake, peer = agent.dispatcher, agent.peer
        with pair() as (ours, _):
            accept = await peer.asked()
            assert accept.values["count"] == 3
            peer.give(accept, ours.fileno())
            await settled(peer)
            fake.die()
            fake.start()
            new = await fake.agent()
            message, fd = await new.receive_with_fd("restore")
            assert fd is not None
            os.close(fd)
            new.refuse(message, 0)
            assert (await new.asked()).values["count"] == 3


async def test_a_dispatcher_that_dies_while_the_agent_leaves() -> None:
    """The requests in hand are given back to the new dispatcher, without joining; the host ends."""
    async with running(forever) as agent:
        with pair() as (ours, theirs):
            agent.peer.give(await agent.peer.asked(), ours.fileno())
            agent.host.stop()
            agent.peer.refuse(await agent.peer.receive("leave"), 0)
            await settled(agent.peer)
            agent.dispatcher.die()
            agent.dispatcher.start()
            successor = await agent.dispatcher.connection()
            message, fd = await successor.receive_with_fd("restore")
            assert fd is not None
            assert os.fstat(fd).st_ino == os.fstat(ours.fileno()).st_ino
            os.close(fd)
            successor.refuse(message, 0)
            await asyncio.wait_for(agent.task, WAIT)
            theirs.send(b"alive")
            assert ours.recv(5) == b"alive"
