"""Requests through a dispatcher: one completion each, whatever agents and consumers do."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import gc
import os
import socket
from typing import Any

import pytest

from hsframework.configuration.settings import Configuration, Limits, Profile, Timeouts
from hsframework.dispatcher.keys import vault as vault_module
from hsframework.dispatcher.sources.consumers import REMEMBERED, REMEMBERED_SIZE, ConsumerConnection
from hsframework.errors import MessageError
from hsframework.interface import AuthMode, Role, Secret
from hsframework.local.channel import AsyncChannel
from hsframework.local.packets import MAX_PACKET, receive_packet, send_packet, taken_apart
from hsframework.netlink.messages import NLM_F_ACK, Message
from hsframework.netlink.socket import open_netlink
from tests.support.house import REQUEST, House, Peer, codec, connected_pair, house

SESSION = {"session": b"exported"}


async def submitted(home: House, sock: socket.socket, **values: Any) -> Peer:
    """Connect a consumer that has submitted ``sock``."""
    consumer = await home.consumer()
    consumer.send("submit", {**REQUEST, **values}, sock.fileno())
    return consumer


@pytest.mark.parametrize(
    ("profiles", "asked", "given"),
    [
        ((), {}, None),
        (("web",), {}, None),
        (("web",), {"profile": "web"}, "web"),
        (("default", "web"), {}, "default"),
        (("default", "web"), {"profile": "web"}, "web"),
    ],
)
async def test_the_agent_hears_the_profile(profiles: tuple[str, ...], asked: dict[str, str], given: str | None) -> None:
    """The one that policy has allowed, whether it was asked for or is the default."""
    configuration = Configuration(profiles={name: Profile() for name in profiles})
    with connected_pair() as (ours, _):
        async with house(configuration) as home:
            agent = await home.agent("toy")
            await submitted(home, ours, **asked)
            request = await agent.take_message()
            assert request.values.get("profile") == given


async def test_a_handshake_from_submit_to_result() -> None:
    """The agent gets the same socket with the request's parameters; the consumer gets what the agent reported."""
    with connected_pair() as (ours, theirs):
        async with house() as home:
            agent = await home.agent("toy")
            consumer = await submitted(home, ours, peername="server.example", alpn=["sunrpc"])
            request, fd = await agent.take()
            assert request.values["peername"] == "server.example"
            assert request.values["alpn"] == ["sunrpc"]
            assert 8000 < request.values["timeout"] <= 9000
            assert request.values["peer-address"] == f"127.0.0.1:{theirs.getsockname()[1]}"
            os.write(fd, b"from the agent")
            assert theirs.recv(100) == b"from the agent"
            os.close(fd)
            agent.send("done", {"request-id": request.values["request-id"], "status": 0, "alpn": "sunrpc", **SESSION})
            result = await consumer.expect("result")
            assert result.values["status"] == 0
            assert result.values["alpn"] == "sunrpc"
            assert result.values["session"].reveal() == b"exported"
            ours.send(b"still mine")
            assert theirs.recv(100) == b"still mine"


async def test_nobody_listens() -> None:
    """Without an agent in the group a request is refused with ESRCH at once, and the socket is as it was."""
    with connected_pair() as (ours, theirs):
        async with house() as home:
            await home.agent("other")
            consumer = await submitted(home, ours)
            refusal = await consumer.expect("error")
            assert refusal.error == errno.ESRCH
            assert "toy" in refusal.values["message"]
            ours.send(b"untouched")
            assert theirs.recv(100) == b"untouched"


async def test_an_agent_that_dies_costs_one_error_at_once() -> None:
    """EIO for what the agent had in hand, with the connection shut down; what only waited goes to the next agent."""
    with connected_pair() as (ours, theirs), connected_pair() as (second, _):
        async with house() as home:
            agent = await home.agent("toy")
            consumer = await submitted(home, ours)
            _, fd = await agent.take()
            waiting = await submitted(home, second)
            await home.queued(1)
            agent.close()
            result = await consumer.expect("result")
            assert result.values["status"] == errno.EIO
            assert theirs.recv(1) == b""
            os.close(fd)
            successor = await home.agent("toy")
            request = await successor.take_message()
            successor.send("done", {"request-id": request.values["request-id"], "status": 0, **SESSION})
            assert (await waiting.expect("result")).values["status"] == 0


async def test_no_agent_comes_back() -> None:
    """The end of the grace period gives waiting requests EIO and new ones ESRCH."""
    configuration = Configuration(timeouts=Timeouts(agent_restart=0.05))
    with connected_pair() as (ours, _):
        async with house(configuration) as home:
            agent = await home.agent("toy")
            consumer = await submitted(home, ours)
            await agent.expect("ready")
            agent.close()
            assert (await consumer.expect("result")).values["status"] == errno.EIO
            consumer.send("submit", REQUEST, ours.fileno())
            assert (await consumer.expect("error")).error == errno.ESRCH


async def test_an_agent_that_leaves_is_expected_back() -> None:
    """A request of the time between LEAVE and the next JOIN is served; what the agent had in hand it still finishes."""
    with connected_pair() as (ours, _), connected_pair() as (second, _):
        async with house() as home:
            agent = await home.agent("toy")
            consumer = await submitted(home, ours)
            request = await agent.take_message()
            await agent.ask("leave", {"group": ["toy"], "expected-back": True})
            consumer.send("submit", REQUEST, second.fileno())
            agent.send("done", {"request-id": request.values["request-id"], "status": 0, **SESSION})
            assert (await consumer.expect("result")).values["status"] == 0
            successor = await home.agent("toy")
            later = await successor.take_message()
            successor.send("done", {"request-id": later.values["request-id"], "status": 0, **SESSION})
            assert (await consumer.expect("result")).values["status"] == 0


async def test_an_agent_that_does_not_come_back() -> None:
    """The group is closed after the grace period: from then on nobody waits for an agent."""
    with connected_pair() as (ours, _):
        async with house(Configuration(timeouts=Timeouts(agent_restart=0.001))) as home:
            agent = await home.agent("toy")
            await agent.ask("leave", {"group": ["toy"], "expected-back": True})
            async with asyncio.timeout(5):
                while home.dispatcher.groups["toy"].open:
                    await asyncio.sleep(0)
            consumer = await home.consumer()
            consumer.send("submit", REQUEST, ours.fileno())
            assert (await consumer.expect("error")).error == errno.ESRCH


async def test_an_agent_that_leaves_to_come_back_is_waited_for() -> None:
    """A restart in good order refuses no more than a crash: requests wait for the agent that takes its place."""
    with connected_pair() as (ours, _), connected_pair() as (second, _):
        async with house() as home:
            agent = await home.agent("toy")
            consumer = await submitted(home, ours)
            await home.queued(1)
            await agent.ask("leave", {"group": ["toy"], "expected-back": True})
            waiting = await submitted(home, second)
            await home.queued(2)
            successor = await home.agent("toy")
            for who in (consumer, waiting):
                request = await successor.take_message()
                successor.send("done", {"request-id": request.values["request-id"], "status": 0, **SESSION})
                assert (await who.expect("result")).values["status"] == 0


@pytest.mark.parametrize("group", ["tls13", "psp"])
async def test_a_session_in_the_kernel_is_checked_for_everybody(group: str) -> None:
    """A consumer in user space would go on in plain text, too, whatever else an agent gives it."""
    with connected_pair() as (ours, _):
        async with house() as home:
            agent = await home.agent(group)
            consumer = await home.consumer()
            consumer.send("submit", {**REQUEST, "group": group}, ours.fileno())
            request = await agent.take_message(group)
            claim = {"request-id": request.values["request-id"], "status": 0, "in-kernel": True, **SESSION}
            agent.send("done", claim)
            result = await consumer.expect("result")
            assert result.values["status"] == errno.EIO
            assert "the socket has none" in result.values["message"]


@pytest.mark.parametrize(
    ("claim", "text"),
    [({}, "without a session"), ({"in-kernel": True}, "the socket has none"), ({"session": b""}, "without a session")],
)
async def test_success_is_checked_not_believed(claim: dict[str, Any], text: str) -> None:
    """An agent that reports success without a session costs its consumer EIO."""
    with connected_pair() as (ours, _):
        async with house() as home:
            agent = await home.agent("toy")
            consumer = await submitted(home, ours)
            request = await agent.take_message()
            agent.send("done", {"request-id": request.values["request-id"], "status": 0, **claim})
            result = await consumer.expect("result")
            assert result.values["status"] == errno.EIO
            assert text in result.values["message"]


async def test_an_error_is_passed_on_without_secrets() -> None:
    """A failure's errno and text reach the consumer; a session that came with it does not."""
    with connected_pair() as (ours, _):
        async with house() as home:
            agent = await home.agent("toy")
            consumer = await submitted(home, ours)
            request = await agent.take_message()
            values = {"request-id": request.values["request-id"], "status": errno.EKEYREVOKED, "message": "revoked"}
            agent.send("done", {**values, **SESSION})
            result = await consumer.expect("result")
            assert result.values == {"status": errno.EKEYREVOKED, "message": "revoked"}


async def test_done_twice_and_done_for_another() -> None:
    """The second DONE changes nothing; a DONE for another agent's request is refused and completes nothing."""
    with connected_pair() as (ours, _):
        async with house() as home:
            agent, thief = await home.agent("toy"), await home.agent("toy")
            consumer = await submitted(home, ours)
            request = await agent.take_message()
            number = request.values["request-id"]
            thief.send("done", {"request-id": number, "status": 0, **SESSION})
            assert (await thief.expect("error")).error == errno.EBADF
            agent.send("done", {"request-id": number, "status": 0, "session": b"first"})
            assert (await agent.ask("done", {"request-id": number, "status": errno.EIO})).error in (0, None)
            result = await consumer.expect("result")
            assert result.values["session"].reveal() == b"first"
            assert consumer.inbox.empty()


async def test_a_done_without_status_is_an_error() -> None:
    """As in the kernel: no status is EIO."""
    with connected_pair() as (ours, _):
        async with house() as home:
            agent = await home.agent("toy")
            consumer = await submitted(home, ours)
            request = await agent.take_message()
            agent.send("done", {"request-id": request.values["request-id"]})
            assert (await consumer.expect("result")).values["status"] == errno.EIO


async def test_a_missed_deadline() -> None:
    """ETIMEDOUT with the connection shut down; the agent is told to let go, and lives because it answers."""
    with connected_pair() as (ours, theirs):
        async with house() as home:
            agent = await home.agent("toy")
            consumer = await submitted(home, ours, timeout=50)
            request, fd = await agent.take()
            result = await consumer.expect("result")
            assert result.values["status"] == errno.ETIMEDOUT
            assert theirs.recv(1) == b""
            told = await agent.expect("cancel")
            assert told.values == {"request-id": request.values["request-id"], "reason": errno.ETIMEDOUT}
            assert (await agent.ask("done", {"request-id": request.values["request-id"], "status": 0})).error == 0
            os.close(fd)


async def test_a_deadline_in_the_queue() -> None:
    """A request that no agent took ends with ETIMEDOUT, and its socket is left alone."""
    with connected_pair() as (ours, theirs):
        async with house() as home:
            await home.agent("toy")
            consumer = await submitted(home, ours, timeout=30)
            assert (await consumer.expect("result")).values["status"] == errno.ETIMEDOUT
            ours.send(b"alive")
            assert theirs.recv(10) == b"alive"


async def test_cancel_while_waiting_and_in_flight() -> None:
    """ECANCELED once; in flight the agent is told and the connection is shut down."""
    with connected_pair() as (ours, _), connected_pair() as (second, peer):
        async with house() as home:
            agent = await home.agent("toy")
            consumer = await home.consumer()
            first = consumer.send("submit", REQUEST, ours.fileno())
            consumer.send("cancel", {"request-id": first})
            result = await consumer.expect("result")
            assert (result.sequence, result.values["status"]) == (first, errno.ECANCELED)
            taken = consumer.send("submit", REQUEST, second.fileno())
            request, fd = await agent.take()
            consumer.send("cancel", {"request-id": taken})
            result = await consumer.expect("result")
            assert (result.sequence, result.values["status"]) == (taken, errno.ECANCELED)
            assert (await agent.expect("cancel")).values["request-id"] == request.values["request-id"]
            assert peer.recv(1) == b""
            os.close(fd)
            consumer.send("cancel", {"request-id": 4711}, flags=4)
            assert (await consumer.expect("error")).error == 0


async def test_a_consumer_that_goes_away() -> None:
    """Its requests end with it: the agent is told, the connection is shut down, nothing is held."""
    with connected_pair() as (ours, theirs), connected_pair() as (second, _):
        async with house() as home:
            agent = await home.agent("toy")
            consumer = await submitted(home, ours)
            _, fd = await agent.take()
            consumer.send("submit", REQUEST, second.fileno())
            await home.queued(1)
            consumer.close()
            await agent.expect("cancel")
            assert theirs.recv(1) == b""
            assert not home.dispatcher.requests
            os.close(fd)


async def test_one_socket_twice() -> None:
    """EBUSY for the second request on a socket, also through another fd of it, until the first has ended."""
    with connected_pair() as (ours, _):
        async with house() as home:
            agent = await home.agent("toy")
            consumer = await submitted(home, ours)
            twin = ours.dup()
            consumer.send("submit", REQUEST, twin.fileno())
            assert (await consumer.expect("error")).error == errno.EBUSY
            request = await agent.take_message()
            agent.send("done", {"request-id": request.values["request-id"], "status": errno.EACCES})
            assert (await consumer.expect("result")).values["status"] == errno.EACCES
            consumer.send("submit", REQUEST, twin.fileno())
            request = await agent.take_message()
            agent.send("done", {"request-id": request.values["request-id"], "status": 0, **SESSION})
            assert (await consumer.expect("result")).values["status"] == 0
            twin.close()


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(per_source=2), "of this source"),
        (Limits(per_consumer=2), "of this consumer"),
        (Limits(per_address=2), "with 127.0.0.1"),
    ],
)
async def test_limits(limits: Limits, text: str) -> None:
    """Past a limit a request is refused with EAGAIN that names it; a completed one makes room."""
    with connected_pair() as (one, _), connected_pair() as (two, _), connected_pair() as (three, _):
        async with house(Configuration(limits=limits)) as home:
            await home.agent("toy")
            consumer = await home.consumer()
            first = consumer.send("submit", REQUEST, one.fileno())
            consumer.send("submit", REQUEST, two.fileno())
            consumer.send("submit", REQUEST, three.fileno())
            refusal = await consumer.expect("error")
            assert refusal.error == errno.EAGAIN
            assert text in refusal.values["message"]
            consumer.send("cancel", {"request-id": first})
            await consumer.expect("result")
            last = consumer.send("submit", REQUEST, three.fileno())
            consumer.send("cancel", {"request-id": last})
            assert (await consumer.expect("result")).values["status"] == errno.ECANCELED


@pytest.mark.parametrize(("nodelay", "lowat"), [(0, 1), (1, 1000)])
@pytest.mark.parametrize("status", [0, errno.EACCES])
async def test_flags_of_the_socket_are_put_back(nodelay: int, lowat: int, status: int) -> None:
    """Nagle is off for the handshake, and a byte is enough; O_NONBLOCK, TCP_NODELAY and SO_RCVLOWAT are the
    owner's again before it hears the outcome."""
    with connected_pair() as (ours, _):
        ours.setblocking(True)
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, lowat)
        before = fcntl.fcntl(ours, fcntl.F_GETFL)
        async with house() as home:
            agent = await home.agent("toy")
            consumer = await submitted(home, ours)
            request, fd = await agent.take()
            os.set_blocking(fd, False)
            with socket.socket(fileno=fd) as theirs:
                assert theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1 - nodelay)
                assert theirs.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
            assert fcntl.fcntl(ours, fcntl.F_GETFL) != before
            agent.send("done", {"request-id": request.values["request-id"], "status": status, **SESSION})
            await consumer.expect("result")
            assert fcntl.fcntl(ours, fcntl.F_GETFL) == before
            assert bool(ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) == bool(nodelay)
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == lowat


async def test_agents_share_a_group_by_pulling() -> None:
    """Two agents with one slot each get one request each; the more urgent goes first."""
    with connected_pair() as (one, _), connected_pair() as (two, _), connected_pair() as (three, _):
        async with house() as home:
            left, right = await home.agent("toy"), await home.agent("toy")
            consumer = await home.consumer()
            consumer.send("submit", {**REQUEST, "peername": "first"}, one.fileno())
            consumer.send("submit", {**REQUEST, "peername": "second"}, two.fileno())
            consumer.send("submit", {**REQUEST, "peername": "urgent", "urgency": 7}, three.fileno())
            await home.queued(3)
            names = []
            for agent in (left, right, left):
                request = await agent.take_message()
                names.append(request.values["peername"])
            assert names == ["urgent", "first", "second"]


async def test_a_round_of_accepts() -> None:
    """ACCEPT with a count brings so many requests, then EAGAIN, then READY when the queue fills again."""
    with connected_pair() as (one, _), connected_pair() as (two, _), connected_pair() as (three, _):
        async with house() as home:
            agent = await home.agent("toy")
            consumer = await home.consumer()
            consumer.send("submit", REQUEST, one.fileno())
            consumer.send("submit", REQUEST, two.fileno())
            await home.queued(2)
            await agent.expect("ready")
            sequence = agent.send("accept", {"group": "toy", "count": 8})
            for _ in range(2):
                message, fd = await agent.receive()
                assert (message.operation, message.sequence) == ("accept", sequence)
                assert fd is not None
                os.close(fd)
            message, _ = await agent.receive()
            assert (message.error, message.sequence) == (errno.EAGAIN, sequence)
            consumer.send("submit", REQUEST, three.fileno())
            assert (await agent.receive())[0].operation == "ready"


async def test_sockets_are_told_apart_by_protocol() -> None:
    """An agent that serves another SO_PROTOCOL does not get the request; one that serves it does."""
    with connected_pair() as (ours, _):
        async with house() as home:
            quic = await home.agent("toy", **{"socket-protocol": [261]})
            tcp = await home.agent("toy", **{"socket-protocol": [socket.IPPROTO_TCP]})
            await submitted(home, ours)
            await quic.expect("ready")
            quic.send("accept", {"group": "toy"})
            assert (await quic.expect("error")).error == errno.EAGAIN
            await tcp.take_message()


async def test_psk_lookup() -> None:
    """A server's agent finds the keys of its own request by whole identity, and no others."""
    with connected_pair() as (ours, _):
        async with house() as home:
            agent, other = await home.agent("toy"), await home.agent("toy")
            keys = [{"identity": b"alice", "key": b"k" * 32, "hash": "sha384"}]
            await submitted(home, ours, **{"message-type": 2, "auth-mode": 2, "psk": keys})
            request = await agent.take_message()
            assert "psk" not in request.values
            number = request.values["request-id"]
            agent.send("psk-lookup", {"request-id": number, "identity": b"ali"})
            assert "psk" not in (await agent.expect("psk-lookup")).values
            agent.send("psk-lookup", {"request-id": number, "identity": b"alice"})
            found = (await agent.expect("psk-lookup")).values["psk"]
            assert (found["identity"], found["key"].reveal(), found["hash"]) == (b"alice", b"k" * 32, "sha384")
            other.send("psk-lookup", {"request-id": number, "identity": b"alice"})
            assert (await other.expect("error")).error == errno.EBADF


async def test_a_netlink_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the socket of a request in hand, of the two families that are handed out, and to nobody else."""
    asked: list[tuple[int, int]] = []

    def beside(fd: int, family: int, served: object) -> socket.socket:
        asked.append((os.fstat(fd).st_ino, family))
        return open_netlink(family)

    monkeypatch.setattr("hsframework.dispatcher.agents.in_hand.netlink_beside", beside)

    with connected_pair() as (ours, _):
        async with house() as home:
            agent, other = await home.agent("toy"), await home.agent("toy")
            await submitted(home, ours)
            request = await agent.take_message()
            number = request.values["request-id"]
            for family in (0, 16):
                agent.send("netlink", {"request-id": number, "family": family})
                message, handed = await agent.receive()
                assert message.operation == "netlink"
                assert handed is not None
                with socket.socket(fileno=handed) as sock:
                    assert (sock.family, sock.proto) == (socket.AF_NETLINK, family)
            assert asked == [(os.fstat(ours.fileno()).st_ino, family) for family in (0, 16)]
            agent.send("netlink", {"request-id": number, "family": 9})
            assert (await agent.expect("error")).error == errno.EINVAL
            other.send("netlink", {"request-id": number, "family": 16})
            assert (await other.expect("error")).error == errno.EBADF


async def test_a_request_is_given_back_to_a_new_dispatcher() -> None:
    """RESTORE of a local request ends its connection, and is acknowledged."""
    with connected_pair() as (ours, theirs):
        async with house() as home:
            agent = await home.agent("toy")
            values = {"request-id": 7, "group": "toy", "source": "local"}
            assert (await agent.ask("restore", values, ours.fileno())).error == 0
            assert theirs.recv(1) == b""


async def test_the_dispatcher_stops() -> None:
    """Everything pending is completed with EIO before the connections end."""
    with connected_pair() as (ours, _), connected_pair() as (second, _):
        async with house() as home:
            agent = await home.agent("toy")
            consumer = await submitted(home, ours)
            await agent.take_message()
            other = await submitted(home, second)
            await home.queued(1)
            home.dispatcher.stop()
            for waiting in (consumer, other):
                assert (await waiting.expect("result")).values["status"] == errno.EIO


async def test_a_request_that_cannot_be_handed_over_leaves_no_gap() -> None:
    """One too large for the agent's message costs its consumer EIO; the agent's ACCEPT is answered by the next one."""
    with connected_pair() as (one, _), connected_pair() as (two, _), connected_pair() as (three, _):
        async with house() as home:
            agent, consumer = await home.agent("toy"), await home.consumer()
            rest = {"attributes": b"x" * 60_000}
            bare = len(codec.encode("submit", {**REQUEST, **rest, "alpn": ["x" * 60_000] * 2, "peername": ""}))
            large = {**REQUEST, **rest, "alpn": ["x" * 60_000] * 2, "peername": "x" * ((MAX_PACKET - bare) & ~3)}
            first = consumer.send("submit", large, one.fileno())
            consumer.send("submit", REQUEST, two.fileno())
            await home.queued(2)
            sequence = agent.send("accept", {"group": "toy"})
            message, fd = await agent.receive()
            while message.operation == "ready":
                message, fd = await agent.receive()
            assert (message.operation, message.sequence) == ("accept", sequence)
            assert fd is not None
            os.close(fd)
            result = await consumer.expect("result")
            assert (result.sequence, result.values["status"]) == (first, errno.EIO)
            consumer.send("submit", large, one.fileno())
            await home.queued(1)
            agent.send("accept", {"group": "toy"})
            assert (await agent.expect("error")).error == errno.EAGAIN
            consumer.send("submit", REQUEST, three.fileno())
            await agent.expect("ready")


async def test_a_message_too_long_is_refused_behind_others_too() -> None:
    """It does not enter the queue of a peer that is slow to read, where it could never be sent."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        channel = AsyncChannel(ours, lambda data, fd: None, lambda error: None)
        for _ in range(10):
            channel.send(b"x" * MAX_PACKET)
        with pytest.raises(MessageError):
            channel.send(b"x" * (MAX_PACKET + 1))
        channel.close()


async def test_a_sequence_number_twice() -> None:
    """The second submit under a number is refused; the first can be cancelled still, and ends with its consumer."""
    with connected_pair() as (one, _), connected_pair() as (two, _):
        async with house() as home:
            await home.agent("toy")
            consumer = await home.consumer()
            submit = codec.encode("submit", {**REQUEST, "timeout": 100_000}, sequence=5)
            consumer.send_bytes(submit, one.fileno())
            for _ in range(2):
                consumer.send_bytes(submit, two.fileno())
                refusal = await consumer.expect("error")
                assert (refusal.sequence, refusal.error) == (5, errno.EINVAL)
            consumer.close()
            await home.queued(0)
            assert not home.dispatcher.requests


async def test_an_agent_that_comes_back_hears_ready() -> None:
    """A READY that was sent before an agent left does not count after it has joined again."""
    with connected_pair() as (one, _), connected_pair() as (two, _):
        async with house() as home:
            agent, other = await home.agent("toy"), await home.agent("toy")
            consumer = await submitted(home, one)
            await agent.expect("ready")
            assert (await agent.ask("leave", {"group": ["toy"]})).error == 0
            await other.take_message()
            assert (await agent.ask("join", {"group": ["toy"], "protocol": "toy"})).error == 0
            consumer.send("submit", REQUEST, two.fileno())
            await agent.expect("ready")


@pytest.mark.parametrize("number", [0, 1025])
async def test_a_count_that_cannot_be_kept_is_refused(number: int) -> None:
    """An agent never waits for more requests than it will be given."""
    async with house() as home:
        agent = await home.agent("toy")
        agent.send("accept", {"group": "toy", "count": number})
        assert (await agent.expect("error")).error == errno.EINVAL


async def test_sockets_that_no_agent_of_the_group_serves() -> None:
    """ESRCH at once; what an agent has served before may be served again soon, so it waits."""
    with connected_pair() as (ours, _):
        async with house() as home:
            await home.agent("toy", **{"socket-protocol": [261]})
            consumer = await submitted(home, ours)
            refusal = await consumer.expect("error")
            assert refusal.error == errno.ESRCH
            assert "serves TCP sockets" in refusal.values["message"]
            tcp = await home.agent("toy", **{"socket-protocol": [socket.IPPROTO_TCP]})
            tcp.close()
            while len(home.dispatcher.groups["toy"].members) == 2:
                await asyncio.sleep(0)
            consumer.send("submit", REQUEST, ours.fileno())
            await home.queued(1)


async def test_revocation_lists_come_with_their_anchors() -> None:
    """Lists alone are refused, not passed over: nobody would ask them."""
    with connected_pair() as (ours, _):
        async with house() as home:
            await home.agent("toy")
            consumer = await submitted(home, ours, crl=[b"list"])
            assert (await consumer.expect("error")).error == errno.EINVAL


@pytest.mark.parametrize("order", [("request-id", "status"), ("status", "request-id")])
async def test_the_outcome_reaches_the_consumer_whatever_its_order(order: tuple[str, str]) -> None:
    """The consumer is told everything that the agent said, once, and the dispatcher's number for the request never."""
    with connected_pair() as (ours, _):
        async with house() as home:
            agent = await home.agent("toy")
            consumer = await submitted(home, ours)
            request = await agent.take_message()
            said = {"alpn": "sunrpc", "tag": [{"name": "a", "value": "b"}], "remote-certificate": [b"leaf", b"ca"]}
            first = {"request-id": request.values["request-id"], "status": 0}
            agent.send("done", {**{name: first[name] for name in order}, **said, **SESSION})
            values = (await consumer.expect("result")).values
            assert values.pop("session").reveal() == b"exported"
            assert values == {"status": 0, **said}


@pytest.mark.parametrize(("asked", "error"), [(0, errno.EINVAL), (1, 0), (300, 0), (301, errno.EINVAL)])
async def test_the_bounds_of_a_timeout(asked: int, error: int) -> None:
    """From a millisecond to the configured maximum, with both."""
    with connected_pair() as (ours, _):
        async with house(Configuration(timeouts=Timeouts(maximum=0.3))) as home:
            await home.agent("toy")
            consumer = await home.consumer()
            consumer.send("submit", {**REQUEST, "timeout": asked}, ours.fileno())
            if error:
                assert (await consumer.receive())[0].error == error
            else:
                await home.queued(1)


async def test_a_submit_that_leaves_its_auth_mode_to_its_profile() -> None:
    """A client with a profile without keys is anonymous; without a profile a submit says its auth mode."""
    left_open = {name: value for name, value in REQUEST.items() if name != "auth-mode"}
    with connected_pair() as (ours, _):
        async with house(Configuration(profiles={"web": Profile()})) as home:
            agent, consumer = await home.agent("toy"), await home.consumer()
            assert (await consumer.ask("submit", left_open, ours.fileno())).error == errno.EINVAL
            consumer.send("submit", {**left_open, "profile": "web"}, ours.fileno())
            request = await agent.take_message()
            assert request.values["auth-mode"] == 1
            agent.send("done", {"request-id": request.values["request-id"], "status": 0, **SESSION})
            assert (await consumer.expect("result")).values["status"] == 0


async def test_the_same_submit_again_and_again() -> None:
    """Terms that are remembered are those of the same words alone; a refusal is not remembered."""
    configuration = Configuration(profiles={"web": Profile(alpn=("h2",))})
    async with house(configuration) as home:
        agent = await home.agent("toy")
        consumer = await home.consumer()

        async def asked(**values: Any) -> dict[str, Any]:
            with connected_pair() as (ours, theirs):
                consumer.send("submit", {**REQUEST, **values}, ours.fileno())
                request = await agent.take_message()
                assert request.values["peer-address"] == f"127.0.0.1:{theirs.getsockname()[1]}"
                agent.send("done", {"request-id": request.values["request-id"], "status": 0, **SESSION})
                await consumer.expect("result")
                return request.values

        for name in ("one.example", "one.example", "two.example", "one.example"):
            values = await asked(peername=name)
            assert values["peername"] == name
            assert "alpn" not in values
        assert (await asked(profile="web"))["alpn"] == ["h2"]
        assert (await asked(profile="web", alpn=["h3"]))["alpn"] == ["h3"]
        assert (await asked(profile="web", timeout=5))["timeout"] <= 5
        for _ in range(2):
            with connected_pair() as (ours, _):
                consumer.send("submit", {**REQUEST, "profile": "none"}, ours.fileno())
                assert (await consumer.expect("error")).error == errno.ENOENT


async def test_what_a_consumer_brings_is_not_remembered() -> None:
    """Remembered is what leaves everything to its profile and was taken: nothing with keys or lists of its own, nothing
    long, nothing refused; and no more of it than is said."""
    own = (
        {"psk": [{"identity": b"who", "key": b"k" * 32, "hash": "sha256"}], "auth-mode": 2},
        {"alpn": ["h2"]},
        {"client-certificate": 1},
        {"attributes": bytes(REMEMBERED_SIZE)},
    )
    async with house(Configuration(profiles={"web": Profile()})) as home:
        agent = await home.agent("toy")
        consumer = await home.consumer()

        async def taken(**values: Any) -> ConsumerConnection:
            with connected_pair() as (ours, _):
                consumer.send("submit", {**REQUEST, **values}, ours.fileno())
                request = await agent.take_message()
                agent.send("done", {"request-id": request.values["request-id"], "status": 0, **SESSION})
                await consumer.expect("result")
            (connection,) = home.local.listener.connections
            assert isinstance(connection, ConsumerConnection)
            return connection

        for values in own:
            assert not (await taken(**values))._agreed
        for refused, number in (({"profile": "none"}, errno.ENOENT), ({"profile": "web"}, errno.EBADF)):
            consumer.send("submit", {**REQUEST, **refused})
            assert (await consumer.expect("error")).error == number
        for count in range(REMEMBERED + 5):
            connection = await taken(profile="web", peername=f"{count}.example")
            assert len(connection._agreed) == min(count + 1, REMEMBERED)
        assert len({id(terms.parameters.given) for terms in connection._agreed.values()}) == 1


async def test_a_long_submit_is_decoded_once_while_it_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handshakes that bring the same thousand keys at a time share their decoding, and one that differs in a byte does
    not; nothing is left of it afterwards."""
    keys = [{"identity": b"client %d" % number, "key": b"k" * 32, "hash": "sha256"} for number in range(1000)]
    others = [{**keys[0], "key": b"x" * 32}, *keys[1:]]
    decoded: list[int] = []
    brought = vault_module.brought_psks

    def brought_psks(values: Any) -> Any:
        decoded.append(len(values.get("psk", ())))
        return brought(values)

    monkeypatch.setattr(vault_module, "brought_psks", brought_psks)
    async with house() as home:
        agent, consumer = await home.agent("toy"), await home.consumer()

        async def submit(psks: Any) -> Any:
            with connected_pair() as (ours, _):
                values = {**REQUEST, "message-type": Role.SERVER, "auth-mode": AuthMode.PSK, "psk": psks}
                consumer.send("submit", values, ours.fileno())
                return (await agent.take_message()).values

        requests = [await submit(keys), await submit(keys), await submit(others)]
        assert decoded == [1000, 1000]
        for request, key in zip(requests, (b"k", b"k", b"x"), strict=True):
            values = {"request-id": request["request-id"], "identity": b"client 0"}
            answer = await agent.ask("psk-lookup", values)
            assert answer.values["psk"]["key"] == Secret(key * 32)
        (connection,) = home.local.listener.connections
        assert isinstance(connection, ConsumerConnection)
        assert len(connection._under_way) == 1
        for request in requests:
            agent.send("done", {"request-id": request["request-id"], "status": errno.EACCES})
            await consumer.expect("result")
        gc.collect()
        assert not len(connection._under_way)
        with connected_pair() as (ours, _):
            values = {**REQUEST, "message-type": Role.SERVER, "auth-mode": AuthMode.PSK, "psk": keys}
            consumer.send("submit", values, ours.fileno())
            await home.queued(1)
        assert decoded == [1000, 1000, 1000]


async def test_nothing_of_a_requests_keys_is_shown() -> None:
    """A request may come into a log by its repr."""
    key = {"identity": b"who", "key": b"k" * 32, "hash": "sha256"}
    with connected_pair() as (ours, _):
        async with house() as home:
            await home.agent("toy")
            await submitted(home, ours, **{"auth-mode": 2, "psk": [key]})
            await home.queued(1)
            (request,) = home.dispatcher.requests.values()
            assert b"k" * 32 in request.submission.parameters.given
            assert "kkk" not in repr(request)


async def packet(sock: socket.socket) -> list[tuple[Message, int | None]]:
    """Return the messages of the next packet."""
    async with asyncio.timeout(10):
        while True:
            try:
                data, fds = receive_packet(sock)
            except BlockingIOError:
                await asyncio.sleep(0)
                continue
            return [(codec.decode(data), fd) for data, fd in taken_apart(data, fds)]


@pytest.mark.parametrize("count", [None, 1, 3, 8])
async def test_sockets_share_a_packet_where_several_were_asked_for(count: int | None) -> None:
    """An agent that asks for one at a time gets one in each packet, as is promised to agents in other languages."""
    asked = {"group": "toy"} if count is None else {"group": "toy", "count": count}
    with contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(connected_pair()) for _ in range(5)]
        agent = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        async with house() as home:
            consumer = await home.consumer()
            agent.connect(str(home.folder / "agent.sock"))
            agent.setblocking(False)
            send_packet(agent, codec.encode("join", {"group": ["toy"]}, sequence=1, flags=NLM_F_ACK))
            assert [message.error for message, _ in await packet(agent)] == [0]
            for ours, _ in pairs:
                consumer.send("submit", REQUEST, ours.fileno())
            await home.queued(len(pairs))
            assert [message.operation for message, _ in await packet(agent)] == ["ready"]
            send_packet(agent, codec.encode("accept", asked, sequence=2))
            heard = await packet(agent)
            number = min(count or 1, len(pairs))
            assert [message.operation for message, _ in heard] == ["accept"] * number + ["error"] * ((count or 1) > 5)
            assert {message.sequence for message, _ in heard} == {2}
            peers = [f"127.0.0.1:{theirs.getsockname()[1]}" for _, theirs in pairs[:number]]
            assert [message.values["peer-address"] for message, _ in heard[:number]] == peers
            for (_, fd), (ours, _) in zip(heard, pairs, strict=False):
                assert fd is not None
                assert os.fstat(fd).st_ino == os.fstat(ours.fileno()).st_ino
                os.close(fd)


async def test_requests_are_handed_over_where_no_fd_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dispatcher that can open nothing more still serves what it has taken."""

    def none_left(fd: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with connected_pair() as (one, _), connected_pair() as (two, _):
        async with house() as home:
            agent = await home.agent("toy")
            consumer = await home.consumer()
            for sock in (one, two):
                consumer.send("submit", REQUEST, sock.fileno())
            await home.queued(2)
            await agent.expect("ready")
            with monkeypatch.context() as patch:
                patch.setattr(os, "dup", none_left)
                agent.send("accept", {"group": "toy", "count": 4})
                for _ in range(2):
                    message, fd = await agent.receive()
                    assert message.operation == "accept"
                    assert fd is not None
                    os.close(fd)


async def test_a_dispatcher_that_stops_lets_handshakes_end() -> None:
    """A request in an agent's hands may end well while the dispatcher drains; the queue is not waited for."""
    with connected_pair() as (ours, _), connected_pair() as (second, _):
        async with house() as home:
            agent = await home.agent("toy")
            consumer = await submitted(home, ours)
            request = await agent.take_message()
            consumer.send("submit", REQUEST, second.fileno())
            draining = asyncio.create_task(home.dispatcher.drain(30))
            await asyncio.sleep(0)
            assert not draining.done()
            agent.send("done", {"request-id": request.values["request-id"], "status": 0, **SESSION})
            await asyncio.wait_for(draining, 5)
            assert (await consumer.expect("result")).values["status"] == 0


async def test_a_drain_has_an_end() -> None:
    """An agent that takes its time is not waited for any longer than that."""
    with connected_pair() as (ours, _):
        async with house() as home:
            agent = await home.agent("toy")
            await submitted(home, ours)
            await agent.take_message()
            await asyncio.wait_for(home.dispatcher.drain(0.01), 5)
            assert len(home.dispatcher.requests) == 1


async def test_a_connection_that_was_given_up_does_not_join() -> None:
    """An agent that closed while its JOIN waited in the backlog is no member, and no request waits for it."""
    async with house() as home:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as early:
            early.connect(str(home.folder / "agent.sock"))
            early.send(codec.encode("join", {"group": ["toy"], "protocol": "toy", "agent": "early"}, sequence=1))
        agent = await home.agent("well")
        async with asyncio.timeout(5):
            while len(home.agents.listener.connections) > 1:
                await asyncio.sleep(0)
        assert "toy" not in home.dispatcher.groups
        agent.close()
