"""The I/O shell, on UDP sockets of this process: how requests end, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import json
import os
import socket
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from hsframework.agent.endpoint import DatagramEndpoint, make_endpoint
from hsframework.agent.readiness import Readiness
from hsframework.errors import HandshakeError, StreamError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import (
    AuthMode,
    CertificateDemand,
    Endpoint,
    EstablishedSession,
    PeerIdentity,
    Request,
    Result,
    Role,
    Secret,
)
from hsframework_quic.aioquic_adapter.handshaking import HandshakeConnection
from hsframework_quic.consumer.attach import attach
from hsframework_quic.plugin import QuicHandshaker
from hsframework_quic.session import QuicSession
from hsframework_quic.settings import Settings
from tests.support.quic_network import authority, identity

Made = TypeVar("Made")


def request(role: Role, **changes: Any) -> Request:
    values: dict[str, Any] = {
        "id": 1,
        "group": "quic",
        "role": role,
        "auth_mode": AuthMode.X509 if role is Role.SERVER else AuthMode.UNAUTHENTICATED,
        "deadline": 0.0,
        "peer_name": "server.example" if role is Role.CLIENT else None,
        "identities": (identity(),) if role is Role.SERVER else (),
        "trust": authority().trust(),
        "alpn": ("test",),
    }
    return Request(**(values | changes))


def run(coroutine: Coroutine[Any, Any, Made]) -> Made:
    async def limited() -> Made:
        async with asyncio.timeout(20):
            return await coroutine

    return asyncio.run(limited())


@contextlib.asynccontextmanager
async def endpoints() -> AsyncIterator[tuple[DatagramEndpoint, DatagramEndpoint]]:
    """Make two ends of a UDP path; afterwards nothing of them is left in the loop."""
    loop = asyncio.get_running_loop()
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for sock in socks:
        sock.bind(("127.0.0.1", 0))
    socks[0].connect(socks[1].getsockname())
    socks[1].connect(socks[0].getsockname())
    readiness = Readiness(loop)
    ends = [make_endpoint(sock, readiness) for sock in socks]
    try:
        assert isinstance(ends[0], DatagramEndpoint)
        assert isinstance(ends[1], DatagramEndpoint)
        yield ends[0], ends[1]
    finally:
        for end in ends:
            end.close()
        readiness.close()


async def meet(client: Request, server: Request, settings: Settings | None = None) -> list[Result | BaseException]:
    """Run both ends, each by a handshaker of its own."""
    ours, theirs = QuicHandshaker(settings or Settings()), QuicHandshaker(settings or Settings())
    try:
        async with endpoints() as (one, two):
            both = ours.handshake(client, one), theirs.handshake(server, two)
            return list(await asyncio.gather(*both, return_exceptions=True))
    finally:
        ours.close()
        theirs.close()


def test_both_ends() -> None:
    """Results with peer, ALPN, tags and sessions that belong together; no secret in any repr; no fd left."""
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    client, server = run(meet(request(Role.CLIENT), request(Role.SERVER)))
    assert isinstance(client, Result)
    assert isinstance(server, Result)
    assert client.peer.certificates[0] == identity().chain[0]
    assert server.peer == PeerIdentity()
    assert client.alpn == server.alpn == "test"
    assert client.tags == {"version": "QUICv1", "cipher": "TLS_AES_128_GCM_SHA256", "group": "X25519"}
    one = QuicSession.from_parameters(Role.CLIENT, "test", client.session)
    two = QuicSession.from_parameters(Role.SERVER, "test", server.session)
    assert (one.client_secret, one.server_secret) == (two.client_secret, two.server_secret)
    assert one.exporter_secret == two.exporter_secret
    assert one.local_transport_parameters == two.peer_transport_parameters
    for shown in (repr(one), repr(client)):
        assert one.client_secret.reveal().hex() not in shown
        assert repr(one.client_secret.reveal())[2:-1] not in shown
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("client", "server", "expected"),
    [
        ({"peer_name": "other.example"}, {}, (errno.EKEYREJECTED, errno.EACCES)),
        ({"trust": None}, {}, (errno.EKEYREJECTED, errno.EACCES)),
        ({"alpn": ("else",)}, {}, (errno.EACCES, errno.EPROTONOSUPPORT)),
        ({}, {"client_certificate": CertificateDemand.REQUIRE}, (errno.EACCES, errno.EACCES)),
    ],
)
def test_failures_reach_both(client: dict[str, Any], server: dict[str, Any], expected: tuple[int, int]) -> None:
    """One side finds fault, the other is told: an errno for each consumer."""
    outcomes = run(meet(request(Role.CLIENT, **client), request(Role.SERVER, **server)))
    assert all(isinstance(outcome, HandshakeError) for outcome in outcomes)
    assert tuple(outcome.errno for outcome in outcomes if isinstance(outcome, HandshakeError)) == expected


def refuse(peer: PeerIdentity) -> None:
    raise HandshakeFailed(Failure.NOT_AUTHORIZED, "not today")


@pytest.mark.parametrize("role", Role)
def test_authorization(role: Role) -> None:
    """Asked before our last word; the peer of one that is refused gets access_denied, whichever side it is."""
    changes: dict[Role, dict[str, Any]] = {Role.CLIENT: {}, Role.SERVER: {}}
    changes[role] = {"authorize": refuse}
    outcomes = run(meet(request(Role.CLIENT, **changes[Role.CLIENT]), request(Role.SERVER, **changes[Role.SERVER])))
    own, other = outcomes if role is Role.CLIENT else outcomes[::-1]
    assert isinstance(own, HandshakeFailed)
    assert isinstance(other, HandshakeFailed)
    assert (own.failure, other.failure, other.peer_alert) == (Failure.NOT_AUTHORIZED, Failure.PEER_REFUSED, 49)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"role": Role.CLIENT, "auth_mode": AuthMode.PSK}, errno.EOPNOTSUPP),
        ({"role": Role.CLIENT, "kernel_consumer": True}, errno.EOPNOTSUPP),
        ({"role": Role.CLIENT, "auth_mode": AuthMode.X509}, errno.ENOKEY),
        ({"role": Role.SERVER, "identities": ()}, errno.ENOKEY),
    ],
)
def test_requests_that_cannot_be_served(changes: dict[str, Any], expected: int) -> None:
    """Refused before a byte is sent."""

    async def ask() -> None:
        async with endpoints() as (one, two):
            with pytest.raises(HandshakeError) as refused:
                await QuicHandshaker(Settings()).handshake(request(**changes), one)
            assert refused.value.errno == expected
            with pytest.raises(BlockingIOError):
                two.socket.recv(100)

    run(ask())


def test_nobody_listens() -> None:
    """ICMP says so: PEER_GONE at once."""

    async def ask() -> None:
        async with endpoints() as (one, two):
            two.close()
            with pytest.raises(HandshakeFailed) as gone:
                await QuicHandshaker(Settings()).handshake(request(Role.CLIENT), one)
            assert gone.value.failure is Failure.PEER_GONE

    run(ask())


@pytest.mark.parametrize("role", Role)
def test_a_cancelled_handshake_says_goodbye(role: Role) -> None:
    """As the host does at the deadline: the peer hears user_canceled, and no state or timer is left."""

    async def ask() -> None:
        handshaker = QuicHandshaker(Settings())
        async with endpoints() as (one, two):
            server = asyncio.create_task(handshaker.handshake(request(Role.SERVER), two))
            # The client has verified the server, and is about to send its Finished.
            changes = {"authorize": lambda peer: server.cancel()} if role is Role.SERVER else {}
            client = asyncio.create_task(handshaker.handshake(request(Role.CLIENT, **changes), one))
            if role is Role.CLIENT:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                client.cancel()
            own, other = (client, server) if role is Role.CLIENT else (server, client)
            with pytest.raises(HandshakeFailed) as told:
                await other
            assert told.value.peer_alert == 90
            with pytest.raises(asyncio.CancelledError):
                await own

    run(ask())


def test_a_fault_within_aioquic_is_told_to_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host hears of it as it is, and the peer need not wait for its deadline."""
    begun: list[HandshakeConnection] = []

    def fail(connection: HandshakeConnection, *_: object) -> None:
        if connection.configuration.is_client:
            begun.append(connection)
            raise ZeroDivisionError
        receive(connection, *_)  # type: ignore[arg-type]

    receive = HandshakeConnection.receive_datagram
    monkeypatch.setattr(HandshakeConnection, "receive_datagram", fail)
    client, server = run(meet(request(Role.CLIENT), request(Role.SERVER)))
    assert isinstance(client, ZeroDivisionError)
    assert isinstance(server, HandshakeFailed)
    assert (server.failure, server.peer_alert) == (Failure.PEER_REFUSED, 80)
    assert len(begun) == 1


class Flood:
    """A socket that always has something, and never an end."""

    socket = None
    taken = 0

    async def receive_datagram(self, max_size: int = 65535, *, until: float | None = None) -> bytes:
        self.taken += 1
        return b"\xc0\0\0\0\1junk"

    async def send(self, data: bytes) -> None:
        pass


@pytest.mark.parametrize("role", Role)
def test_a_flood_does_not_stop_the_others(role: Role) -> None:
    """The loop has its turn, so that the host can end the handshake, and others go on."""

    async def ask() -> None:
        flood = Flood()
        task = asyncio.create_task(QuicHandshaker(Settings()).handshake(request(role), cast(Endpoint, flood)))
        while flood.taken < 1000:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(ask())


def test_key_log_and_qlog(tmp_path: Path) -> None:
    """The secrets of the session in the key log, a qlog of each side's handshake; private to their owner."""
    settings = Settings(keylog_file=tmp_path / "keys", qlog_dir=tmp_path)
    client, server = run(meet(request(Role.CLIENT), request(Role.SERVER), settings))
    assert isinstance(client, Result)
    assert isinstance(server, Result)
    session = QuicSession.from_parameters(Role.CLIENT, "test", client.session)
    lines = (tmp_path / "keys").read_text().splitlines()
    assert f"CLIENT_TRAFFIC_SECRET_0 {session.client_random.hex()} {session.client_secret.reveal().hex()}" in lines
    assert (tmp_path / "keys").stat().st_mode & 0o077 == 0
    token = session.peer_connection_ids[0].reset_token
    assert token is not None
    name = session.original_destination_connection_id.hex()
    for role in ("client", "server"):
        file = tmp_path / f"{name}-{role}-handshake.qlog"
        assert file.stat().st_mode & 0o077 == 0
        assert token.reveal().hex() not in file.read_text()
        (trace,) = json.loads(file.read_text())["traces"]
        assert trace["vantage_point"]["type"] == role
        assert any("packet_received" in str(event["name"]) for event in trace["events"])


def test_a_session_that_cannot_be_attached_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a damaged session nor a wrong socket costs a descriptor, with a qlog folder that was opened before."""
    client, _ = run(meet(request(Role.CLIENT), request(Role.SERVER)))
    assert isinstance(client, Result)
    monkeypatch.setenv("QLOGDIR", str(tmp_path))
    session = EstablishedSession(
        protocol="quic",
        role=Role.CLIENT,
        peer=client.peer,
        alpn=client.alpn,
        in_kernel=False,
        parameters=client.session,
        tags={},
    )
    damaged = replace(session, parameters={**client.session, "local-transport-parameters": Secret(b"\x01\xff")})
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unconnected:
        for given in (session, damaged):
            with pytest.raises(StreamError):
                attach(given, unconnected, asynchronous=False)
    assert len(os.listdir("/proc/self/fd")) == before


def test_resumption_by_the_handshaker() -> None:
    """The second handshake of the same policy is resumed, and says so in its tags."""

    async def ask() -> list[Result]:
        handshaker = QuicHandshaker(Settings())
        outcomes: list[Result] = []
        for _ in range(2):
            async with endpoints() as (one, two):
                outcomes += await asyncio.gather(
                    handshaker.handshake(request(Role.CLIENT, peer_address="x"), one),
                    handshaker.handshake(request(Role.SERVER), two),
                )
        return outcomes

    assert [outcome.tags.get("resumed") for outcome in run(ask())] == [None, None, "yes", "yes"]
