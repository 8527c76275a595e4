"""The agent host against a dispatcher played by hand: one DONE for each request, whatever the plugin does."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
from typing import Any

import pytest

import hsframework
from hsframework.agent.host import AgentHost
from hsframework.agent.served import prepare
from hsframework.errors import ConfigurationError, HandshakeError, HsframeworkError, PluginError, RequestRefused
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import (
    AuthMode,
    CertificateDemand,
    Endpoint,
    PeerIdentity,
    PresharedKey,
    Request,
    Result,
    Role,
    Secret,
    Trust,
)
from hsframework.netlink.attributes import attribute_codec
from hsframework.netlink.messages import NLM_F_ACK, Message
from hsframework.netlink.socket import open_netlink
from hsframework.netlink.spec import Specification
from tests.unit.agent.fakes import (
    TOY_SPECIFICATION,
    WAIT,
    AgentPeer,
    Audit,
    Behaviour,
    Running,
    ToyPlugin,
    ToyProtocol,
    dispatcher,
    greet,
    open_fds,
    pair,
    registry_with,
    running,
)


async def forever(request: Request, endpoint: Endpoint) -> Result:
    """A handshake that never ends by itself."""
    await asyncio.Event().wait()
    raise AssertionError


async def one(behaviour: Behaviour, *plugins: object, **values: Any) -> Message:
    """Serve one request with this behaviour; its DONE."""
    async with running(behaviour, *plugins) as agent:
        with pair() as (ours, _):
            agent.peer.give(await agent.peer.asked(), ours.fileno(), **values)
            done = await agent.peer.receive("done")
            assert done.values["request-id"] == 1
            return done


async def read(sock: socket.socket, size: int) -> bytes:
    """From the peer's end, without blocking the loop."""
    sock.setblocking(False)
    return await asyncio.get_running_loop().sock_recv(sock, size)


# What is right


async def test_join_tells_what_is_served() -> None:
    """JOIN names the groups, the protocol, the kinds of socket and the agent."""
    registry = registry_with(ToyPlugin(ToyProtocol()))
    async with dispatcher() as fake:
        task = asyncio.create_task(AgentHost([prepare(registry, "toy")], registry, fake.path, name="me").run())
        message = await (await fake.connection()).joined()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert message.values == {"group": ["toy"], "protocol": "toy", "socket-protocol": [0, 6], "agent": "me"}


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


async def test_everything_in_a_request_is_decoded() -> None:
    """Each attribute of the wire is where the interface says."""
    seen: list[Request] = []

    async def look(request: Request, endpoint: Endpoint) -> Result:
        seen.append(request)
        raise HandshakeError("enough")

    async with running(look) as agent:
        with pair() as (ours, _):
            accept = await agent.peer.asked()
            agent.peer.trust(3, Trust((b"anchor",), (b"crl",)))
            agent.peer.give(
                accept,
                ours.fileno(),
                number=7,
                message_type=2,
                auth_mode=3,
                timeout=2500,
                peername="peer.example",
                profile="web",
                user=1000,
                local_address="127.0.0.1:1",
                peer_address="[::1]:2",
                identity=[{"certificate": [b"leaf", b"middle"], "private-key": b"secret"}],
                psk=[{"identity": b"id", "key": b"key", "hash": "sha384"}],
                trust_id=3,
                client_certificate=2,
                alpn=["h2", "sunrpc"],
                kernel_consumer=True,
                attributes=attribute_codec(TOY_SPECIFICATION, "request").encode({"colour": "red"}),
                source="kernel",
            )
            before = asyncio.get_running_loop().time()
            await agent.peer.receive("done")
    (request,) = seen
    assert before < request.deadline <= asyncio.get_running_loop().time() + 2.5
    assert (request.id, request.group) == (7, "toy")
    assert (request.role, request.auth_mode) == (Role.SERVER, AuthMode.X509)
    assert (request.peer_name, request.profile, request.user) == ("peer.example", "web", 1000)
    assert (request.local_address, request.peer_address) == ("127.0.0.1:1", "[::1]:2")
    assert request.identities[0].chain == (b"leaf", b"middle")
    assert request.identities[0].private_key == Secret(b"secret")
    assert request.psks == (PresharedKey(b"id", Secret(b"key"), "sha384"),)
    assert request.trust == Trust((b"anchor",), (b"crl",))
    assert request.client_certificate is CertificateDemand.REQUIRE
    assert request.alpn == ("h2", "sunrpc")
    assert request.kernel_consumer
    assert request.attributes == {"colour": "red"}


async def test_trust_objects_are_shared() -> None:
    """Requests that name one trust get one object, and so do two ids with the same content; a new content is new."""
    seen: list[Trust | None] = []

    async def look(request: Request, endpoint: Endpoint) -> Result:
        seen.append(request.trust)
        raise HandshakeError("enough")

    async with running(look) as agent:
        peer = agent.peer
        accept = await peer.asked()
        peer.trust(1, Trust((b"one",)))
        peer.trust(2, Trust((b"one",)))
        with pair() as (ours, _):
            for number, trust in enumerate((1, 1, 2), 1):
                peer.give(accept, ours.fileno(), number, trust_id=trust)
            peer.trust(1, Trust((b"two",)))
            peer.give(accept, ours.fileno(), 4, trust_id=1)
            for _ in range(4):
                await peer.receive("done")
    assert seen[0] is seen[1]
    assert seen[0] is seen[2]
    assert seen[3] == Trust((b"two",))


@pytest.mark.parametrize("broken", ["absent", "unsealed", "no file"])
async def test_trust_that_did_not_come_is_not_guessed(broken: str) -> None:
    """A request that names a trust which did not come ends with EIO, also when the number meant something before."""
    async with running() as agent:
        accept = await agent.peer.asked()
        if broken != "absent":
            agent.peer.trust(9, Trust((b"good",)))
            fd = os.memfd_create("unsealed")
            agent.peer.send("trust", {"trust-id": 9, "size": 0}, fd if broken == "unsealed" else None)
            os.close(fd)
        with pair() as (ours, _):
            agent.peer.give(accept, ours.fileno(), trust_id=9)
            assert (await agent.peer.receive("done")).values["status"] == errno.EIO


# What a plugin may do wrong


class Odd(HandshakeError):
    """An error of a plugin that has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


async def returns_none(request: Request, endpoint: Endpoint) -> Any:
    return None


async def returns_wrong_peer(request: Request, endpoint: Endpoint) -> Any:
    return Result(peer="me")  # type: ignore[arg-type]


async def returns_wrong_tags(request: Request, endpoint: Endpoint) -> Any:
    return Result(tags={"cipher": 1})  # type: ignore[dict-item]


async def returns_tags_that_are_none(request: Request, endpoint: Endpoint) -> Any:
    return Result(tags=None)  # type: ignore[arg-type]


async def returns_unknown_session(request: Request, endpoint: Endpoint) -> Any:
    return Result(session={"no such": 1})


async def returns_too_much(request: Request, endpoint: Endpoint) -> Any:
    return Result(peer=PeerIdentity(certificates=(b"x" * 60000,) * 5))


async def raises_value_error(request: Request, endpoint: Endpoint) -> Any:
    raise ValueError(b"a key that must not be shown")


async def exits(request: Request, endpoint: Endpoint) -> Any:
    sys.exit(3)


async def cancels_itself(request: Request, endpoint: Endpoint) -> Any:
    raise asyncio.CancelledError


async def breaks_a_rule(request: Request, endpoint: Endpoint) -> Any:
    raise PluginError("the plugin broke a rule")


def not_a_coroutine(request: Request, endpoint: Endpoint) -> Any:
    return Result()


@pytest.mark.parametrize(
    "behaviour",
    [
        returns_none,
        returns_wrong_peer,
        returns_wrong_tags,
        returns_tags_that_are_none,
        returns_unknown_session,
        returns_too_much,
        raises_value_error,
        exits,
        cancels_itself,
        breaks_a_rule,
        not_a_coroutine,
    ],
)
def test_nonsense_is_eio_and_is_blamed(behaviour: Behaviour, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever a plugin does against the interface costs its consumer one EIO; the log names the plugin."""
    from hsframework.telemetry.log import configure

    configure("info", "console")
    done = asyncio.run(one(behaviour))
    assert done.values["status"] == errno.EIO
    assert "plugin-0" in done.values["message"]
    shown = capfd.readouterr().err
    assert "plugin=plugin-0" in shown
    assert "must not be shown" not in shown + done.values["message"]


def test_errors_reach_the_consumer_with_their_errno() -> None:
    """A documented failure and an error of the plugin's own: errno and text."""

    async def fails(request: Request, endpoint: Endpoint) -> Result:
        raise HandshakeFailed(Failure.REVOKED, "serial 7")

    async def own(request: Request, endpoint: Endpoint) -> Result:
        raise HandshakeError("not\0today", errno=errno.EHOSTDOWN)

    done = asyncio.run(one(fails))
    assert done.values["status"] == errno.EKEYREVOKED
    assert done.values["message"].endswith("serial 7")
    done = asyncio.run(one(own))
    assert (done.values["status"], done.values["message"]) == (errno.EHOSTDOWN, "nottoday")


def test_an_error_that_is_odd_itself() -> None:
    """An error without a text, or with an errno that is none, still ends the request."""

    async def textless(request: Request, endpoint: Endpoint) -> Result:
        raise Odd("x")

    async def numberless(request: Request, endpoint: Endpoint) -> Result:
        error = HandshakeError("x")
        error.errno = 70000
        raise error

    assert asyncio.run(one(textless)).values["status"] == errno.EIO
    assert asyncio.run(one(numberless)).values["status"] == errno.EIO


def test_deadline_is_silence() -> None:
    """A handshake that does not end by its deadline is cancelled, and the consumer gets ETIMEDOUT."""
    done = asyncio.run(one(forever, timeout=20))
    assert done.values["status"] == errno.ETIMEDOUT


async def test_deadline_lets_the_handshaker_say_goodbye() -> None:
    """A cancelled handshaker can still send an alert."""

    async def polite(request: Request, endpoint: Endpoint) -> Result:
        try:
            return await forever(request, endpoint)
        except asyncio.CancelledError:
            await endpoint.send(b"bye")
            raise

    async with running(polite) as agent:
        with pair() as (ours, theirs):
            agent.peer.give(await agent.peer.asked(), ours.fileno(), timeout=20)
            assert (await agent.peer.receive("done")).values["status"] == errno.ETIMEDOUT
            assert theirs.recv(10) == b"bye"


async def test_swallowed_cancellation_does_not_keep_the_request() -> None:
    """A handshaker that goes on after its deadline, or returns a result then, has timed out all the same."""
    release = asyncio.Event()

    async def stubborn(request: Request, endpoint: Endpoint) -> Result:
        while True:
            try:
                await release.wait()
                return Result()
            except asyncio.CancelledError:
                continue

    async def late(request: Request, endpoint: Endpoint) -> Result:
        try:
            return await forever(request, endpoint)
        except asyncio.CancelledError:
            return Result(in_kernel=True)

    audit = Audit()
    async with running(stubborn, audit) as agent:
        with pair() as (ours, _):
            agent.peer.give(await agent.peer.asked(), ours.fileno(), timeout=20)
            assert (await agent.peer.receive("done")).values["status"] == errno.ETIMEDOUT
            assert agent.host.in_hand == 0
            release.set()
            await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task(), agent.task} - waiting(agent)))
        assert [(number, type(outcome)) for number, outcome in audit.finished] == [(1, HandshakeFailed)]
    assert (await one(late, timeout=20)).values["status"] == errno.ETIMEDOUT


def waiting(agent: Running) -> set[asyncio.Task[Any]]:
    """The host's own tasks."""
    return {task for task in asyncio.all_tasks() if "Link.run" in repr(task) or "Event.wait" in repr(task)}


# Hooks


async def test_hooks_hear_each_handshake_once() -> None:
    """Started and finished once each, with the outcome: success, failure, deadline."""
    audit = Audit()

    async def by_id(request: Request, endpoint: Endpoint) -> Result:
        if request.id == 1:
            return Result(tags={"a": "b"})
        if request.id == 2:
            raise HandshakeError("no")
        return await forever(request, endpoint)

    async with running(by_id, audit) as agent:
        accept = await agent.peer.asked()
        with pair() as (ours, _):
            for number in (1, 2, 3):
                agent.peer.give(accept, ours.fileno(), number, timeout=20)
            for _ in range(3):
                await agent.peer.receive("done")
    assert audit.started == [1, 2, 3]
    assert [number for number, _ in audit.finished] == [1, 2, 3]
    first, second, third = (outcome for _, outcome in audit.finished)
    assert first == Result(tags={"a": "b"})
    assert isinstance(second, HsframeworkError)
    assert third.failure is Failure.SILENCE


class Refuses:
    """Authorizes nobody."""

    @hsframework.hookimpl
    def hsframework_authorize(self, request: Request, peer: PeerIdentity) -> None:
        raise HandshakeFailed(Failure.NOT_AUTHORIZED, "not you")


class Stumbles:
    """Fails in every hook."""

    @hsframework.hookimpl
    def hsframework_handshake_started(self) -> None:
        raise RuntimeError("started")

    @hsframework.hookimpl
    def hsframework_handshake_finished(self) -> None:
        raise SystemExit(1)


class StumblesWhileAuthorizing:
    """Fails to decide."""

    @hsframework.hookimpl
    def hsframework_authorize(self) -> None:
        raise KeyError("policy file")


async def succeeds(request: Request, endpoint: Endpoint) -> Result:
    return Result()


def test_authorize_decides_and_fails_closed() -> None:
    """A refusal reaches the consumer; a hook that fails to decide refuses too."""
    assert asyncio.run(one(succeeds, Refuses())).values["status"] == errno.EACCES
    assert asyncio.run(one(succeeds, StumblesWhileAuthorizing())).values["status"] == errno.EIO
    assert asyncio.run(one(succeeds)).values["status"] == 0


def test_a_stumbling_audit_harms_nothing() -> None:
    """Hooks that only listen cannot spoil a handshake, nor keep other listeners from hearing."""
    audit = Audit()
    assert asyncio.run(one(succeeds, Stumbles(), audit)).values["status"] == 0
    assert (audit.started, len(audit.finished)) == ([1], 1)


# Requests that cannot be served


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"message_type": 9}, errno.EINVAL),
        ({"auth_mode": 0}, errno.EINVAL),
        ({"client_certificate": 5}, errno.EINVAL),
        ({"group": "other"}, errno.EPROTONOSUPPORT),
        ({"identity": [{"certificate": [b"c"]}]}, errno.EINVAL),
        ({"psk": [{"identity": b"i", "key": b"k", "hash": "md5"}]}, errno.EINVAL),
        ({"attributes": b"\xff\xff"}, errno.EINVAL),
    ],
)
async def test_requests_that_make_no_sense(values: dict[str, Any], status: int) -> None:
    """They end at once with an errno, and the agent goes on."""
    async with running(succeeds) as agent:
        accept = await agent.peer.asked()
        with pair() as (ours, _):
            agent.peer.give(accept, ours.fileno(), 1, **values)
            assert (await agent.peer.receive("done")).values["status"] == status
            agent.peer.give(accept, ours.fileno(), 2)
            assert (await agent.peer.receive("done")).values["status"] == 0


async def test_attributes_for_a_protocol_that_has_none() -> None:
    """A protocol without a specification of its own gets none, and a session cannot be told."""

    class Bare(ToyProtocol):
        @property
        def specification(self) -> Specification | None:
            return None

    async with running(protocol=Bare(greet)) as agent:
        with pair() as (ours, theirs):
            accept = await agent.peer.asked()
            agent.peer.give(accept, ours.fileno(), 1, attributes=b"1234")
            assert (await agent.peer.receive("done")).values["status"] == errno.EINVAL
            theirs.send(b"\x00")
            agent.peer.give(accept, ours.fileno(), 2)
            assert (await agent.peer.receive("done")).values["status"] == errno.EIO


async def test_a_request_without_a_socket() -> None:
    """No fd, or an fd that is no socket."""
    async with running() as agent:
        accept = await agent.peer.asked()
        request = {"request-id": 5, "group": "toy", "message-type": 1, "auth-mode": 1}
        agent.peer.send("accept", request, sequence=accept.sequence)
        assert (await agent.peer.receive("done")).values["status"] == errno.EBADF
        reader, writer = os.pipe()
        agent.peer.give(accept, reader, 6)
        assert (await agent.peer.receive("done")).values["status"] == errno.ENOTSOCK
        os.close(reader)
        os.close(writer)


async def test_messages_that_are_not_understood_are_passed_over() -> None:
    """Garbage, and an operation that agents are not sent, with and without an fd: the agent goes on, no fd is left."""
    async with running(succeeds) as agent:
        accept = await agent.peer.asked()
        with pair() as (ours, _):
            agent.peer.channel.send(b"garbage", ours.fileno())
            agent.peer.send("result", {"status": 0}, ours.fileno())
            agent.peer.send("ready", {"group": "never joined"}, ours.fileno())
            agent.peer.give(accept, ours.fileno())
            assert (await agent.peer.receive("done")).values["status"] == 0


# Pulling


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


async def settled(peer: AgentPeer) -> None:
    """The agent has read everything up to here, and has said nothing else."""
    peer.send("cancel", {"request-id": 999, "reason": errno.ECANCELED}, flags=NLM_F_ACK)
    await acknowledged(peer)


async def acknowledged(peer: AgentPeer) -> None:
    """The agent's next message is an acknowledgement."""
    item = await asyncio.wait_for(peer.inbox.get(), WAIT)
    assert item is not None
    assert item[0].error == 0


# PSK look-up and cancel


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


async def test_cancel_lets_go() -> None:
    """The handshake ends, its socket is closed here, the cancel is acknowledged and no DONE follows."""
    audit = Audit()

    async with running(forever, audit) as agent:
        peer = agent.peer
        with pair() as (ours, theirs):
            accept = await peer.asked()
            before = open_fds()
            peer.give(accept, ours.fileno())
            peer.give(accept, ours.fileno(), 2)
            peer.send("cancel", {"request-id": 1, "reason": errno.ECANCELED}, flags=NLM_F_ACK, sequence=77)
            await acknowledged(peer)
            peer.send("cancel", {"request-id": 2, "reason": errno.ETIMEDOUT})
            while agent.host.in_hand:
                await asyncio.sleep(0)
            assert open_fds() == before
            theirs.send(b"x")
            assert ours.recv(1) == b"x"
            peer.send("cancel", {"request-id": 1, "reason": errno.ECANCELED}, flags=NLM_F_ACK)
            await acknowledged(peer)
    assert [outcome.failure for _, outcome in audit.finished] == [Failure.CANCELLED, Failure.SILENCE]


# The dispatcher goes, and comes back


async def test_restore_after_the_dispatcher_died() -> None:
    """The agent connects anew, joins, gives each socket back, and closes it once that is acknowledged."""
    audit = Audit()

    async with running(forever, audit) as agent:
        fake, peer = agent.dispatcher, agent.peer
        with pair() as (ours, theirs):
            accept = await peer.asked()
            peer.give(accept, ours.fileno(), 4, source="kernel", kernel_consumer=True)
            peer.give(accept, ours.fileno(), 5, source="local")
            await settled(peer)
            assert agent.host.in_hand == 2
            fake.die()
            fake.start()
            new = await fake.agent()
            restored = [await new.receive_with_fd("restore") for _ in range(2)]
            values = [message.values for message, _ in restored]
            assert values[0] == {"request-id": 4, "group": "toy", "source": "kernel", "kernel-consumer": True}
            assert values[1] == {"request-id": 5, "group": "toy", "source": "local"}
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


async def test_restore_survives_a_second_death_and_a_refusal() -> None:
    """What was not acknowledged is given back again; what a dispatcher refuses is shut down."""
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


# Stopping


async def test_stop_finishes_what_is_in_hand() -> None:
    """LEAVE goes out, the handshake in hand ends as if nothing were, and then the host does."""
    async with running() as agent:
        with pair() as (ours, theirs):
            agent.peer.give(await agent.peer.asked(), ours.fileno())
            assert await read(theirs, 6) == b"\x05hello"
            agent.host.stop()
            leave = await agent.peer.receive("leave")
            assert leave.values == {"group": ["toy"]}
            agent.peer.refuse(leave, 0)
            agent.peer.send("ready", {"group": "toy"})
            theirs.send(b"\x05world")
            assert (await agent.peer.receive("done")).values["status"] == 0
            await asyncio.wait_for(agent.task, WAIT)
            await agent.peer.closed()


async def test_stop_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not end in time is ended with EIO."""
    monkeypatch.setattr("hsframework.agent.host.STOP_TIME", 0.01)

    async with running(forever) as agent:
        with pair() as (ours, _):
            agent.peer.give(await agent.peer.asked(), ours.fileno())
            agent.host.stop()
            agent.peer.refuse(await agent.peer.receive("leave"), 0)
            assert (await agent.peer.receive("done")).values["status"] == errno.EIO
            await asyncio.wait_for(agent.task, WAIT)


async def test_stop_before_the_dispatcher_has_answered() -> None:
    """Whoever waits in the backlog of a dispatcher that has ended too has nothing to leave, and asks nobody."""
    registry = registry_with(ToyPlugin(ToyProtocol()))
    async with dispatcher() as fake:
        host = AgentHost([prepare(registry, "toy")], registry, fake.path)
        task = asyncio.create_task(host.run())
        peer = await fake.connection()
        await peer.receive("join")
        host.stop()
        assert await peer.inbox.get() is None, "nothing more was said"
        await asyncio.wait_for(task, WAIT)


# Retiring


async def hoards(request: Request, endpoint: Endpoint) -> Result:
    """Memory ends."""
    raise MemoryError


async def opens_too_much(request: Request, endpoint: Endpoint) -> Result:
    """File descriptors end."""
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize(
    ("behaviour", "status", "reason"),
    [(hoards, errno.EIO, "memory runs out"), (opens_too_much, errno.EIO, "file descriptors run out")],
)
def test_exhaustion_retires_the_process(
    behaviour: Behaviour, status: int, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The request has its outcome, the log names plugin and reason, nothing more is taken, and the host ends."""
    asyncio.run(_retired(behaviour, status))
    said = "".join(capfd.readouterr())
    assert reason in said
    assert "plugin-0" in said


def test_leaked_descriptors_retire_the_process(capfd: pytest.CaptureFixture[str]) -> None:
    """A number is open that requests alone do not come to: no handshake fails for it."""
    asyncio.run(_retired(greet, 0, highest_fd=2))
    assert "file descriptors run out" in "".join(capfd.readouterr())


async def _retired(behaviour: Behaviour, status: int, highest_fd: int | None = None) -> None:
    async with running(behaviour) as agent:
        if highest_fd is not None:
            agent.host.highest_fd = highest_fd
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


async def test_two_protocols_for_the_same_requests_are_refused() -> None:
    """One process cannot serve one group on one kind of socket with two protocols."""

    class Other(ToyProtocol):
        name = "other"

    registry = registry_with(ToyPlugin(ToyProtocol(), Other()))

    served = [prepare(registry, name) for name in ("toy", "other")]
    with pytest.raises(ConfigurationError, match="both serve"):
        AgentHost(served, registry, "/nowhere")


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
