"""Requests in hand: decoded from the reply to ACCEPT, refused where they make no sense, withdrawn by CANCEL."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Any

import pytest

from hsframework.agent.requests import decode_request
from hsframework.errors import HandshakeError
from hsframework.failures import Failure
from hsframework.interface import (
    AuthMode,
    CertificateDemand,
    Endpoint,
    PresharedKey,
    Request,
    Result,
    Role,
    Secret,
    Trust,
)
from hsframework.local.trustfile import read_trust_file
from hsframework.netlink.attributes import attribute_codec
from hsframework.netlink.messages import NLM_F_ACK
from hsframework.netlink.spec import Specification
from tests.unit.agent.fakes import (
    TOY_SPECIFICATION,
    Audit,
    ToyProtocol,
    acknowledged,
    forever,
    greet,
    open_fds,
    pair,
    running,
    succeeds,
)


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


@pytest.mark.parametrize("shortage", [OSError(errno.ENOMEM, "no memory"), MemoryError()])
async def test_trust_that_cannot_be_read_now(monkeypatch: pytest.MonkeyPatch, shortage: Exception) -> None:
    """Memory is short when the file comes and for one request: that one ends with ENOMEM; the next has its trust."""
    attempts = 0

    def read(fd: int, size: int) -> Trust:
        nonlocal attempts
        attempts += 1
        if attempts <= 2:
            raise shortage
        return read_trust_file(fd, size)

    async def look(request: Request, endpoint: Endpoint) -> Result:
        assert request.trust == Trust((b"anchor",))
        return await succeeds(request, endpoint)

    monkeypatch.setattr("hsframework.agent.trusts.read_trust_file", read)
    before = open_fds()
    async with running(look) as agent:
        with pair() as (ours, _):
            accept = await agent.peer.asked()
            agent.peer.trust(1, Trust((b"anchor",)))
            for number, status in ((1, errno.ENOMEM), (2, 0), (3, 0)):
                agent.peer.give(accept, ours.fileno(), number, trust_id=1)
                done = await agent.peer.receive("done")
                assert (done.values["request-id"], done.values["status"]) == (number, status)
    assert attempts == 3
    assert open_fds() == before


async def test_a_shortage_at_the_begin_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends that request with ENOMEM, at once, and the next one is served."""
    shortages = [OSError(errno.ENOMEM, "no memory")]

    def decode(*values: Any, **named: Any) -> Request:
        if shortages:
            raise shortages.pop()
        return decode_request(*values, **named)

    monkeypatch.setattr("hsframework.agent.in_hand.decode_request", decode)
    async with running(succeeds) as agent:
        with pair() as (ours, _):
            accept = await agent.peer.asked()
            for number, status in ((1, errno.ENOMEM), (2, 0)):
                agent.peer.give(accept, ours.fileno(), number)
                done = await agent.peer.receive("done")
                assert (done.values["request-id"], done.values["status"]) == (number, status)


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


# Requests that cannot be served


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"message_type": 9}, errno.EINVAL),
        ({"auth_mode": 4}, errno.EINVAL),
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


async def test_a_fault_of_the_agent_costs_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that a fault of the agent's ends is completed with EIO at once; the next request is asked for."""
    async with running(succeeds, capacity=1) as agent:
        with pair() as (ours, _):
            accept = await agent.peer.asked()
            with monkeypatch.context() as patch:
                patch.setattr("hsframework.agent.in_hand.decode_request", faulty)
                agent.peer.give(accept, ours.fileno(), 1)
                done = await agent.peer.receive("done")
                accept = await agent.peer.receive("accept")
            assert (done.values["request-id"], done.values["status"]) == (1, errno.EIO)
            assert accept.values["count"] == 1
            agent.peer.give(accept, ours.fileno(), 2)
            assert (await agent.peer.receive("done")).values["request-id"] == 2


def faulty(*values: object, **named: object) -> Request:
    """Raise an error that nobody foresees."""
    raise RecursionError


# Cancel


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


async def test_a_cache_that_is_too_small_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The misses of past windows go to the dispatcher after the next DONE, and once."""
    found = [{"verdicts on peers": 70}, {}]
    monkeypatch.setattr("hsframework.agent.in_hand.misses_for_want_of_room", found.pop)
    found.reverse()
    async with running(succeeds) as agent:
        with pair() as (ours, _):
            accept = await agent.peer.asked()
            agent.peer.give(accept, ours.fileno(), 1)
            await agent.peer.receive("done")
            crowded = await agent.peer.receive("crowded")
            assert crowded.values == {"name": "verdicts on peers", "missed": 70}
            agent.peer.give(accept, ours.fileno(), 2)
            await agent.peer.receive("done")
    assert found == []
