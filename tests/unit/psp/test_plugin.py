"""The plugin on real sockets, with the software device: both roles, the session handed over, every way to fail."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import socket
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from hsframework.agent.endpoint import StreamEndpoint
from hsframework.agent.readiness import Readiness
from hsframework.errors import HandshakeError, StreamError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import (
    AuthMode,
    CertificateDemand,
    EstablishedSession,
    Handshaker,
    PresharedKey,
    Request,
    Result,
    Role,
)
from hsframework.netlink.attributes import attribute_codec
from hsframework.netlink.socket import NetlinkError
from hsframework.testing.network import tcp_pair
from hsframework_psp import hooks
from hsframework_psp.connection import ConnectionChannel
from hsframework_psp.exchange import State
from hsframework_psp.kernel_device import KernelAssociation
from hsframework_psp.keys import Grant, Key
from hsframework_psp.packet_device import PacketAssociation
from hsframework_psp.packets import PacketRefused
from hsframework_psp.plugin import ALPN, PspHandshaker, _Run
from hsframework_psp.protocol import PspProtocol
from hsframework_psp.renewal import RenewalState, TimedRenewal
from hsframework_psp.rotation import RotationRenewal
from hsframework_psp.settings import Settings
from hsframework_psp.streams import AsyncPspStream, PspStream
from hsframework_psp.versions import Version
from hsframework_tls13.events import SessionBroken, SessionTruncated
from hsframework_tls13.protocol import Tls13Protocol
from hsframework_tls13.settings import Settings as TlsSettings
from tests.unit.tls13.support import CLIENT, KEY_256, KEY_384, ROOT, SERVER

T = TypeVar("T")
PSP = PspProtocol().prepare(Settings(device="software"))
TLS = Tls13Protocol().prepare(TlsSettings(kernel_offload=False))
AS_CLIENT = Request(
    id=1,
    group="psp",
    role=Role.CLIENT,
    auth_mode=AuthMode.X509,
    deadline=math.inf,
    peer_name="server.example",
    trust=ROOT.trust(),
    identities=(CLIENT,),
)
AS_SERVER = replace(AS_CLIENT, id=2, role=Role.SERVER, peer_name=None, identities=(SERVER,))
Outcome = Result | BaseException


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += sock.recv(size - len(data))
    return data


async def shake(sock: socket.socket, request: Request, handshaker: Handshaker = PSP) -> Outcome:
    """One end; when it has failed its socket is closed, as the service does."""
    readiness = Readiness(asyncio.get_running_loop())
    endpoint = StreamEndpoint(sock, readiness)
    try:
        return await handshaker.handshake(request, endpoint)
    except Exception as error:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        return error
    finally:
        endpoint.leave()
        readiness.close()


async def both(
    near: socket.socket,
    far: socket.socket,
    client: Request = AS_CLIENT,
    server: Request = AS_SERVER,
    handshakers: tuple[Handshaker, Handshaker] = (PSP, PSP),
) -> tuple[Outcome, Outcome]:
    first, second = handshakers
    return await asyncio.gather(shake(near, client, first), shake(far, server, second))


def outcomes(
    client: Request = AS_CLIENT, server: Request = AS_SERVER, *handshakers: Handshaker
) -> tuple[Outcome, Outcome]:
    near, far = tcp_pair()
    with near, far:
        return run(both(near, far, client, server, handshakers or (PSP, PSP)))  # type: ignore[arg-type]


def results(client: Request = AS_CLIENT, server: Request = AS_SERVER, *handshakers: Handshaker) -> list[Result]:
    found = []
    for outcome in outcomes(client, server, *handshakers):
        assert isinstance(outcome, Result), outcome
        found.append(outcome)
    return found


def established(result: Result, role: Role) -> EstablishedSession:
    """As the consumer gets it: through the specification."""
    codec = attribute_codec(PspProtocol().specification, "session")
    return EstablishedSession(
        protocol="psp",
        role=role,
        peer=result.peer,
        alpn=result.alpn,
        in_kernel=result.in_kernel,
        parameters=codec.decode(codec.encode(result.session)),
        tags=result.tags,
    )


def streams(near: socket.socket, far: socket.socket) -> tuple[PspStream, PspStream]:
    first, second = run(both(near, far))
    made = []
    for outcome, sock, role in ((first, near, Role.CLIENT), (second, far, Role.SERVER)):
        assert isinstance(outcome, Result), outcome
        sock.settimeout(10)
        stream = hooks.hsframework_attach_session(established(outcome, role), sock, False)
        assert isinstance(stream, PspStream)
        made.append(stream)
    return made[0], made[1]


def test_a_session() -> None:
    """Both know each other by certificate; what one sends under is what the other receives under."""
    client, server = results()
    assert client.peer.certificates[0] == SERVER.chain[0]
    assert server.peer.certificates[0] == CLIENT.chain[0]
    assert client.alpn == server.alpn == ALPN
    assert not client.in_kernel
    for one, other in ((client, server), (server, client)):
        assert one.session["tx-spi"] == other.session["rx-spi"]
        assert one.session["tx-key"] == other.session["rx-key"]
    assert client.session["rx-key"] != client.session["tx-key"]
    assert client.tags["version"] == "aes-gcm-256"
    assert client.tags["device"] == "software"


@pytest.mark.parametrize("version", ["aes-gcm-128", "aes-gcm-256", "aes-gmac-128", "aes-gmac-256"])
def test_every_version(version: str) -> None:
    """The server's only version is what both get."""
    offering = PspHandshaker(Settings(versions=("aes-gcm-256", "aes-gmac-256", "aes-gmac-128", "aes-gcm-128")))
    only = PspHandshaker(Settings(versions=(version,), device="software"))
    client, server = results(AS_CLIENT, AS_SERVER, offering, only)
    assert client.tags["version"] == server.tags["version"] == version


@pytest.mark.parametrize("key", [KEY_256, KEY_384], ids=["sha256", "sha384"])
def test_with_a_psk(key: PresharedKey) -> None:
    """An external PSK authenticates both sides as well."""

    async def look_up(identity: bytes) -> PresharedKey | None:
        return key if identity == key.identity else None

    client = replace(AS_CLIENT, auth_mode=AuthMode.PSK, identities=(), psks=(key,), peer_name=None, trust=None)
    server = replace(AS_SERVER, auth_mode=AuthMode.PSK, identities=(), psk_lookup=look_up, trust=None)
    first, second = results(client, server)
    assert first.peer.psk_identity == second.peer.psk_identity == key.identity


def test_the_streams() -> None:
    """Data both ways in any sizes, the end said properly, and nothing readable on the wire."""
    near, far = tcp_pair()
    with near, far:
        client, server = streams(near, far)
        data = bytes(range(256)) * 300
        client.send(data)
        client.send(b"")
        received = b""
        while len(received) < len(data):
            received += server.receive(1000)
        assert received == data
        server.send(b"answer")
        server.send_eof()
        assert client.receive() == b"answer"
        assert client.receive() == b""
        assert client.peer_closed
        client.close()
        assert server.receive() == b""
        server.close()


def test_the_streams_over_asyncio() -> None:
    """The same on a loop."""
    near, far = tcp_pair()

    async def scene() -> None:
        first, second = await both(near, far)
        ends = []
        for outcome, sock, role in ((first, near, Role.CLIENT), (second, far, Role.SERVER)):
            assert isinstance(outcome, Result), outcome
            ends.append(hooks.hsframework_attach_session(established(outcome, role), sock, True))
        client, server = ends
        assert isinstance(client, AsyncPspStream)
        assert isinstance(server, AsyncPspStream)
        async with client, server:
            await client.send(b"question")
            assert await server.receive() == b"question"
            await server.send(b"answer")
            assert await client.receive() == b"answer"
            assert client.renewal.state is RenewalState.FRESH

    with near, far:
        run(scene())


def test_packets_of_the_consumers_own() -> None:
    """Sealed by one end, opened by the other, with any header; not by the one who sealed it."""
    near, far = tcp_pair()
    with near, far:
        client, server = streams(near, far)
        assert client.packets is not None
        assert server.packets is not None
        packet = client.packets.seal(b"a TCP segment", next_header=6, crypt_offset=4, cookie=b"cookie!!")
        opened = server.packets.open(packet)
        assert (opened.payload, opened.cookie, opened.header.next_header) == (b"a TCP segment", b"cookie!!", 6)
        with pytest.raises(PacketRefused):
            client.packets.open(packet)
        client.send(b"and the stream goes on")
        assert server.receive() == b"and the stream goes on"


@pytest.mark.parametrize("what", ["flipped", "repeated", "dropped", "cut off", "oversized"])
def test_a_stream_that_is_tampered_with(what: str) -> None:
    """Each ends with an error, after the good data before it, and again when asked again."""
    near, far = tcp_pair()
    with near, far:
        client, server = streams(near, far)
        for data in (b"first", b"second"):
            client.send(data)
        wire = exactly(far, sum(2 + 16 + 9 + len(data) + 16 for data in (b"first", b"second")))
        size = 2 + int.from_bytes(wire[:2], "big")
        first, second = wire[:size], wire[size:]
        changed = {
            "flipped": first + second[:-1] + bytes([second[-1] ^ 1]),
            "repeated": first + first,
            "dropped": second,
            "cut off": first + second[:-1],
            "oversized": first + b"\xff\xff" + second,
        }[what]
        near.sendall(changed)
        near.shutdown(socket.SHUT_WR)
        if what != "dropped":
            assert server.receive() == b"first"
        for _ in range(2):
            with pytest.raises(SessionTruncated if what == "cut off" else SessionBroken):
                server.receive()


REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any], Failure]] = {
    "a name that is not the server's": ({"peer_name": "other.example"}, {}, Failure.WRONG_NAME),
    "no trust": ({"trust": None}, {}, Failure.UNTRUSTED),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_the_client_refuses(case: str) -> None:
    """By the table of failures; the server hears the alert."""
    client, server, failure = REFUSALS[case]
    first, second = outcomes(replace(AS_CLIENT, **client), replace(AS_SERVER, **server))
    assert isinstance(first, HandshakeFailed)
    assert isinstance(second, HandshakeFailed)
    assert first.failure is failure
    assert (second.failure, second.peer_alert) == (Failure.PEER_REFUSED, failure.alert)


def test_the_server_wants_a_certificate() -> None:
    """Mutual is the default: a client without one is refused, by either side's own setting."""
    anonymous = replace(AS_CLIENT, auth_mode=AuthMode.UNAUTHENTICATED, identities=())
    first, _ = outcomes(anonymous)
    assert isinstance(first, HandshakeFailed)
    assert first.failure is Failure.NO_KEY
    lenient = PspHandshaker(Settings(mutual=False, device="software"))
    first, second = outcomes(anonymous, AS_SERVER, lenient, PSP)
    assert isinstance(second, HandshakeFailed)
    assert second.failure is Failure.NO_PEER_CERTIFICATE
    assert isinstance(first, HandshakeFailed)
    _, server = results(anonymous, AS_SERVER, lenient, lenient)
    assert server.peer.certificates == ()
    demanded = replace(AS_SERVER, client_certificate=CertificateDemand.REQUIRE)
    _, second = outcomes(anonymous, demanded, lenient, lenient)
    assert isinstance(second, HandshakeFailed)


def test_no_version_in_common() -> None:
    """EPROTONOSUPPORT at the server, alert 40 and EACCES at the client."""
    one = PspHandshaker(Settings(versions=("aes-gcm-128",), device="software"))
    other = PspHandshaker(Settings(versions=("aes-gcm-256",), device="software"))
    first, second = outcomes(AS_CLIENT, AS_SERVER, one, other)
    assert isinstance(first, HandshakeFailed)
    assert isinstance(second, HandshakeFailed)
    assert (second.failure, second.errno) == (Failure.NO_COMMON_PARAMETERS, errno.EPROTONOSUPPORT)
    assert (first.failure, first.peer_alert, first.errno) == (Failure.PEER_REFUSED, 40, errno.EACCES)


@pytest.mark.parametrize("psp", list(Role), ids=lambda role: f"psp is the {role.name.lower()}")
@pytest.mark.parametrize("alpn", [(), ("http/1.1",)], ids=["without ALPN", "another ALPN"])
def test_a_peer_without_psp(psp: Role, alpn: tuple[str, ...]) -> None:
    """A TLS 1.3 peer that does not speak PSP: who finds it out has EPROTONOSUPPORT, the other alert 120 and EACCES."""
    plain_client, plain_server = replace(AS_CLIENT, alpn=alpn), replace(AS_SERVER, alpn=alpn)
    if psp is Role.CLIENT:
        first, second = outcomes(AS_CLIENT, plain_server, PSP, TLS)
        ours, theirs = first, second
    else:
        first, second = outcomes(plain_client, AS_SERVER, TLS, PSP)
        ours, theirs = second, first
    assert isinstance(ours, HandshakeFailed)
    assert isinstance(theirs, HandshakeFailed)
    # A server that has protocols of its own is the one to find it out.
    finds, hears = (theirs, ours) if psp is Role.CLIENT and alpn else (ours, theirs)
    assert (finds.failure, finds.errno) == (Failure.NO_COMMON_ALPN, errno.EPROTONOSUPPORT)
    assert (hears.failure, hears.peer_alert, hears.errno) == (Failure.PEER_REFUSED, 120, errno.EACCES)


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"\x16\x03\x01\xff\xff"])
def test_garbage(garbage: bytes) -> None:
    """What is no TLS at all ends it with EPROTO."""
    near, far = tcp_pair()
    with near, far:
        near.sendall(garbage)
        outcome = run(shake(far, AS_SERVER))
    assert isinstance(outcome, HandshakeFailed)
    assert outcome.errno == errno.EPROTO


def test_not_authorized() -> None:
    """Asked when TLS is done; the peer hears alert 49."""

    def refuse(peer: object) -> None:
        raise HandshakeError("not today", errno=errno.EACCES)

    first, second = outcomes(AS_CLIENT, replace(AS_SERVER, authorize=refuse))
    assert isinstance(second, HandshakeError)
    assert str(second) == "not today"
    assert isinstance(first, HandshakeFailed)
    assert first.peer_alert == Failure.NOT_AUTHORIZED.alert


def test_requests_that_make_no_sense() -> None:
    """ALPN of the consumer's own, a device that does not exist: EINVAL, said so."""
    for request in (replace(AS_CLIENT, alpn=("h2",)), replace(AS_CLIENT, attributes={"device": "quantum"})):
        outcome, _ = outcomes(request)
        assert isinstance(outcome, HandshakeError)
        assert outcome.errno == errno.EINVAL


def test_the_kernels_device_where_there_is_none() -> None:
    """EOPNOTSUPP over the loopback interface, with the reason; auto takes the software's."""
    wanted = replace(AS_CLIENT, attributes={"device": "kernel"})
    first, second = outcomes(wanted)
    assert isinstance(first, HandshakeFailed)
    assert first.errno == errno.EOPNOTSUPP
    assert str(first).startswith("no PSP on this connection: ")
    assert isinstance(second, HandshakeFailed)
    auto = PspHandshaker(Settings())
    client, _ = results(AS_CLIENT, AS_SERVER, auto, auto)
    assert client.tags["device"] == "software"
    auto.close()


def test_what_follows_the_exchange_is_the_consumers() -> None:
    """Each side's last message is read to its end and no further, also when the consumer's data is right behind."""
    near, far = tcp_pair()

    async def scene() -> None:
        async def eager(sock: socket.socket, request: Request) -> Outcome:
            outcome = await shake(sock, request)
            await asyncio.get_running_loop().sock_sendall(sock, b"the consumer's first byte")
            return outcome

        await asyncio.gather(eager(near, AS_CLIENT), eager(far, AS_SERVER))

    with near, far:
        run(scene())
        for sock in (near, far):
            sock.settimeout(10)
            assert sock.recv(100) == b"the consumer's first byte"


class _Vanishing(StreamEndpoint):
    """An endpoint whose owner is gone after so many sends; ``after`` of them still leave."""

    def __init__(self, sock: socket.socket, readiness: Readiness, after: int) -> None:
        super().__init__(sock, readiness)
        self._left = after

    async def send(self, data: bytes) -> None:
        if not self._left:
            self.socket.shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError("killed by the test")
        self._left -= 1
        await super().send(data)


@pytest.mark.parametrize("after", range(5))
@pytest.mark.parametrize("who", list(Role), ids=lambda role: role.name)
def test_one_side_vanishes_between_any_two_messages(who: Role, after: int) -> None:
    """The other ends with ECONNRESET, without waiting for its deadline."""
    near, far = tcp_pair()

    async def scene() -> tuple[Outcome, bool]:
        readiness = Readiness(asyncio.get_running_loop())
        gone, stays = (near, far) if who is Role.CLIENT else (far, near)
        requests = (AS_CLIENT, AS_SERVER) if who is Role.CLIENT else (AS_SERVER, AS_CLIENT)
        endpoint = _Vanishing(gone, readiness, after)

        async def vanish() -> bool:
            try:
                await PSP.handshake(requests[0], endpoint)
            except (OSError, HandshakeFailed):
                return True
            finally:
                gone.shutdown(socket.SHUT_RDWR)
            return False

        vanished, outcome = await asyncio.gather(vanish(), shake(stays, requests[1]))
        readiness.close()
        return outcome, vanished

    with near, far:
        outcome, vanished = run(scene())
    if vanished:
        assert isinstance(outcome, HandshakeFailed)
        assert outcome.failure is Failure.PEER_GONE
    else:
        assert isinstance(outcome, Result)


@pytest.mark.parametrize("role", list(Role), ids=lambda role: role.name)
def test_a_silent_peer(role: Role) -> None:
    """Cancelled at the deadline, as the host does it: nothing is left behind."""
    near, far = tcp_pair()
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)

    async def scene() -> None:
        task = asyncio.ensure_future(shake(near, AS_CLIENT if role is Role.CLIENT else AS_SERVER))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with near, far:
        run(scene())
        assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0


def test_a_session_that_makes_no_sense() -> None:
    """Parameters that are missing or contradict each other: StreamError, and no stream."""
    client, _ = results()
    whole = established(client, Role.CLIENT)
    near, far = tcp_pair()
    with near, far:
        changes = ({"rx-key": None}, {"version": 9}, {"tx-spi": 0}, {"carrier": 1}, {"carrier": 3}, {"next-iv": None})
        for change in changes:
            parameters = {**whole.parameters, **change}
            with pytest.raises(StreamError):
                hooks.hsframework_attach_session(replace(whole, parameters=parameters), near, False)
    assert hooks.hsframework_attach_session(replace(whole, protocol="tls13"), near, False) is None


def test_forked_workers_share_no_device() -> None:
    """What a worker gives out, another never does: after a fork the device is another one, with other keys."""
    handshaker = PspHandshaker(Settings(device="software"))
    ours = handshaker._packets.get().associate(Version.AES_GCM_256).grant
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        grant = handshaker._packets.get().associate(Version.AES_GCM_256).grant
        os.write(writing, grant.spi.to_bytes(4, "big") + grant.key.reveal())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 100)
    os.close(reading)
    os.close(writing)
    assert len(theirs) == 36
    assert theirs[4:] != ours.key.reveal()
    assert int.from_bytes(theirs[:4], "big") != ours.spi + 1
    handshaker.close()


@pytest.mark.parametrize(("records", "good"), [(8, True), (9, False)])
def test_records_without_a_message(records: int, good: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few are passed over, as tickets are; a peer that goes on with them is refused, and does not hold the agent."""
    say = _Run._say_inside

    def behind_silence(self: _Run, message: bytes) -> None:
        if self._session.role is Role.CLIENT and self._exchange.state is State.OFFERED:
            sealer = self._tunnel._layer._sealer
            self._output += b"".join(sealer.seal(23, b"") for _ in range(records))
        say(self, message)

    monkeypatch.setattr(_Run, "_say_inside", behind_silence)
    client, server = outcomes()
    if good:
        assert isinstance(client, Result), client
        assert isinstance(server, Result), server
    else:
        assert isinstance(server, HandshakeFailed)
        assert server.failure is Failure.UNEXPECTED_MESSAGE
        assert isinstance(client, HandshakeFailed)
        assert client.peer_alert == 10


@pytest.mark.parametrize("succeeds", [True, False])
def test_the_agent_keeps_no_key(succeeds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a session that it has given to its consumer, and of one that came to nothing behind the switch."""
    kept: list[Key] = []
    switch = PacketAssociation.switch

    def keep(self: PacketAssociation, grant: Grant) -> None:
        switch(self, grant if succeeds else Grant(grant.spi, Key(bytes(len(grant.key)))))
        kept.extend((self.grant.key, grant.key, self._rx_key, self._tx_key))

    monkeypatch.setattr(PacketAssociation, "switch", keep)
    client, server = outcomes()
    assert isinstance(client, Result) is isinstance(server, Result) is succeeds
    assert len(kept) == 8
    assert all(key.wiped for key in kept)


@pytest.mark.parametrize("silent", list(Role), ids=lambda role: role.name)
def test_proof_that_does_not_come(silent: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for it says so, just before its deadline; ETIMEDOUT, and what the device thinks."""
    say = _Run._say_behind

    def nothing(self: _Run, message: bytes) -> None:
        if self._session.role is not silent:
            say(self, message)

    monkeypatch.setattr(_Run, "_say_behind", nothing)
    near, far = tcp_pair()
    ours, request = (far, AS_SERVER) if silent is Role.CLIENT else (near, AS_CLIENT)

    async def scene() -> Outcome:
        deadline = asyncio.get_running_loop().time() + 1
        other = (near, AS_CLIENT) if silent is Role.CLIENT else (far, AS_SERVER)
        quiet = asyncio.ensure_future(shake(*other))
        outcome = await shake(ours, replace(request, deadline=deadline))
        quiet.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await quiet
        return outcome

    with near, far:
        outcome = run(scene())
    assert isinstance(outcome, HandshakeFailed)
    assert (outcome.failure, outcome.errno) == (Failure.SILENCE, errno.ETIMEDOUT)
    assert "PROOF does not come" in str(outcome)
    assert "the device has no complaints" in str(outcome)


def test_the_devices_complaints(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has counted since the association, by the kernel's names; that it is gone is one, too."""
    family: Any = _Counting()
    near, far = tcp_pair()
    with near, far:
        association = KernelAssociation(
            family, 1, Version.AES_GCM_256, Grant(1, Key(bytes(32))), near, {"key-rotations": 5, "rx-auth-fail": 2}
        )
        assert association.complaints() == ""
        monkeypatch.setattr(_Counting, "more", {"rx-auth-fail": 5, "rx-bad": 1, "rx-packets": 9})
        assert association.complaints() == "rx-auth-fail 3, rx-bad 1"

        def gone(_: Any, device: int) -> dict[str, int]:
            raise NetlinkError("no such device", errno=errno.ENODEV)

        monkeypatch.setattr(_Counting, "statistics", gone)
        assert association.complaints() == "no such device"


class _Notices:
    def drain(self) -> None: ...

    def close(self) -> None: ...


class _Counting:
    """The family ``psp`` of a kernel whose device has rotated so often."""

    rotations = 5
    more: Mapping[str, int] = {}

    def rotation_notices(self) -> _Notices:
        return _Notices()

    def statistics(self, device: int) -> dict[str, int]:
        return {"key-rotations": self.rotations, **self.more}

    def close(self) -> None: ...


def test_what_the_counter_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Due after one rotation, stale after two or more; a counter that has gone back is another device's: stale."""
    monkeypatch.setattr("hsframework_psp.rotation.PspFamily", _Counting)
    renewal = RotationRenewal(1, 5)
    states = []
    for rotations in (5, 6, 7, 1000, 4, 0):
        monkeypatch.setattr(_Counting, "rotations", rotations)
        states.append(renewal.state)
    assert states == [RenewalState.FRESH, RenewalState.DUE, *[RenewalState.STALE] * 4]
    renewal.close()


def test_a_watch_ends_with_its_stream() -> None:
    """Also when the goodbye fails in a way that nobody has thought of."""
    closed: list[str] = []

    class Watch(TimedRenewal):
        def close(self) -> None:
            closed.append("watch")

    class Broken(ConnectionChannel):
        def queue_close(self) -> None:
            raise RuntimeError("nobody has thought of it")

    near, far = tcp_pair()
    with near, far:
        with pytest.raises(RuntimeError):
            PspStream(Broken(near), Watch(60), None).close()
        with pytest.raises(RuntimeError):
            run(AsyncPspStream(Broken(far), Watch(60), None).close())
    assert closed == ["watch", "watch"]


def test_rotation_of_the_software_device() -> None:
    """A session is due when its lifetime has passed."""
    handshaker = PspHandshaker(Settings(device="software", rotate_every=1))
    near, far = tcp_pair()
    with near, far:
        first, _ = run(both(near, far, handshakers=(handshaker, PSP)))
        assert isinstance(first, Result)
        stream = hooks.hsframework_attach_session(established(first, Role.CLIENT), near, False)
        assert isinstance(stream, PspStream)
        assert stream.renewal.wait(20) is RenewalState.DUE
        assert run(stream.renewal.wait_async()) is RenewalState.DUE
