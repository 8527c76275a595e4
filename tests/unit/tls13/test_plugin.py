"""The shell around the engine, on real sockets: modes, look-ups, what stays in the socket, what is left behind."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar, cast

import pytest

from hsframework.agent.endpoint import StreamEndpoint
from hsframework.agent.readiness import Readiness
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import (
    AuthMode,
    CertificateDemand,
    Endpoint,
    EstablishedSession,
    PeerIdentity,
    PresharedKey,
    Request,
    Result,
    Role,
    Secret,
    Trust,
)
from hsframework.netlink.attributes import attribute_codec
from hsframework.testing.network import tcp_pair
from hsframework_tls13 import hooks, ktls
from hsframework_tls13.ciphers import AES_128_GCM
from hsframework_tls13.driver import MAX_PSK_LOOKUPS
from hsframework_tls13.engine import ClientEngine, Engine, Established, ServerEngine
from hsframework_tls13.plugin import Tls13Handshaker
from hsframework_tls13.protocol import Tls13Protocol
from hsframework_tls13.records import plaintext_alert
from hsframework_tls13.settings import Settings
from hsframework_tls13.streams import TlsStream
from tests.unit.tls13.support import CLIENT, CONTEXTS, KEY_256, KEY_384, ROOT, SERVER, believe, records

T = TypeVar("T")
HANDSHAKER = Tls13Protocol().prepare(Settings(kernel_offload=False))
AS_CLIENT = Request(
    id=1,
    group="tls13",
    role=Role.CLIENT,
    auth_mode=AuthMode.UNAUTHENTICATED,
    deadline=0,
    peer_name="server.example",
    trust=ROOT.trust(),
)
AS_SERVER = replace(AS_CLIENT, id=2, role=Role.SERVER, auth_mode=AuthMode.X509, peer_name=None, identities=(SERVER,))


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def known(*keys: PresharedKey) -> Any:
    async def look_up(identity: bytes) -> PresharedKey | None:
        return next((key for key in keys if key.identity == identity), None)

    return look_up


async def both(
    client: Request, server: Request, handshaker: Tls13Handshaker = HANDSHAKER
) -> tuple[Result | BaseException, Result | BaseException]:
    """Run both ends of a connection, each by the plugin."""
    near, far = tcp_pair()
    with near, far:
        loop = asyncio.get_running_loop()
        first, second = await asyncio.gather(
            handshaker.handshake(client, StreamEndpoint(near, Readiness(loop))),
            handshaker.handshake(server, StreamEndpoint(far, Readiness(loop))),
            return_exceptions=True,
        )
    return first, second


def results(client: Request, server: Request) -> tuple[Result, Result]:
    first, second = run(both(client, server))
    assert isinstance(first, Result), first
    assert isinstance(second, Result), second
    return first, second


def failures(client: Request, server: Request) -> tuple[HandshakeFailed, HandshakeFailed]:
    first, second = run(both(client, server))
    assert isinstance(first, HandshakeFailed), first
    assert isinstance(second, HandshakeFailed), second
    return first, second


def test_a_plain_handshake() -> None:
    """An anonymous client and a server with a certificate: the same session on both sides, with its facts."""
    client, server = results(AS_CLIENT, AS_SERVER)
    assert client.session == server.session
    assert client.peer.certificates == (*SERVER.chain, ROOT.anchor)
    assert client.tags == {"version": "TLSv1.3", "cipher": "TLS_AES_128_GCM_SHA256", "group": "X25519MLKEM768"}
    assert not client.in_kernel


def test_both_with_certificates() -> None:
    """Mutual authentication; ALPN beside it."""
    client = replace(AS_CLIENT, auth_mode=AuthMode.X509, identities=(CLIENT,), alpn=("sunrpc",))
    server = replace(AS_SERVER, client_certificate=CertificateDemand.REQUIRE, alpn=("sunrpc",))
    first, second = results(client, server)
    assert second.peer.certificates[0] == CLIENT.chain[0]
    assert first.alpn == second.alpn == "sunrpc"


@pytest.mark.parametrize("key", [KEY_256, KEY_384], ids=["sha256", "sha384"])
def test_psk(key: PresharedKey) -> None:
    """The server's key comes from the request's look-up."""
    client = replace(AS_CLIENT, auth_mode=AuthMode.PSK, psks=(key,), peer_name=None, trust=None)
    server = replace(AS_SERVER, auth_mode=AuthMode.PSK, identities=(), psk_lookup=known(KEY_384, KEY_256), trust=None)
    first, second = results(client, server)
    assert first.peer.psk_identity == second.peer.psk_identity == key.identity


def test_the_session_travels() -> None:
    """The session goes through the plugin's own specification and comes back the same, secrets as secrets."""
    result, _ = results(AS_CLIENT, AS_SERVER)
    specification = Tls13Protocol().specification
    codec = attribute_codec(specification, "session")
    decoded = codec.decode(codec.encode(result.session))
    assert decoded == result.session
    assert {name for name, value in decoded.items() if isinstance(value, Secret)} == {
        "client-traffic-secret",
        "server-traffic-secret",
        "exporter-secret",
    }
    assert attribute_codec(specification, "request").decode(b"") == {}


REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any], Failure]] = {
    "name": ({"peer_name": "other.example"}, {}, Failure.WRONG_NAME),
    "trust": ({"trust": Trust(())}, {}, Failure.UNTRUSTED),
    "no trust": ({"trust": None}, {}, Failure.UNTRUSTED),
    "revoked": ({"trust": ROOT.trust(ROOT.crl([]))}, {"identities": (ROOT.issue().identity,)}, Failure.WRONG_NAME),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_client_refuses(case: str) -> None:
    """The client's failure by the table, the server's PEER_REFUSED with the table's alert."""
    client, server, failure = REFUSALS[case]
    first, second = failures(replace(AS_CLIENT, **client), replace(AS_SERVER, **server))
    assert (first.failure, first.errno) == (failure, failure.errno)
    assert (second.failure, second.peer_alert, second.errno) == (Failure.PEER_REFUSED, failure.alert, errno.EACCES)


def test_an_unknown_identity() -> None:
    """ENOKEY here, alert 115 there, which is EKEYREJECTED: NVMe stops reconnecting for this errno alone."""
    client = replace(AS_CLIENT, auth_mode=AuthMode.PSK, psks=(KEY_256,))
    first, second = failures(client, replace(AS_SERVER, auth_mode=AuthMode.PSK, psk_lookup=known(KEY_384)))
    assert (second.failure, second.errno) == (Failure.UNKNOWN_PSK, errno.ENOKEY)
    assert (first.peer_alert, first.errno) == (115, errno.EKEYREJECTED)


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"auth_mode": AuthMode.X509}, Failure.NO_KEY),
        ({"auth_mode": AuthMode.PSK}, Failure.NO_KEY),
        ({"role": Role.SERVER}, Failure.NO_KEY),
        ({"kernel_consumer": True}, Failure.NO_KERNEL_SESSION),
        ({"trust": Trust((), (b"no list",))}, Failure.INTERNAL),
    ],
    ids=["certificate", "psk", "server", "kernel", "crl"],
)
def test_a_request_that_cannot_be_served(changes: dict[str, Any], failure: Failure) -> None:
    """Refused before the handshake begins; the peer gets it and does not wait in vain."""

    async def scene() -> bytes:
        near, far = tcp_pair()
        with near, far:
            with pytest.raises(HandshakeFailed) as caught:
                endpoint = StreamEndpoint(near, Readiness(asyncio.get_running_loop()))
                await HANDSHAKER.handshake(replace(AS_CLIENT, **changes), endpoint)
            assert caught.value.failure is failure
            return far.recv(100)

    assert failure.alert is not None
    assert run(scene()) == plaintext_alert(failure.alert)


def test_a_client_asks_for_few_keys() -> None:
    """A ClientHello may name thousands of identities: the look-ups that it causes are bounded."""
    asked: list[bytes] = []

    async def nobody(identity: bytes) -> PresharedKey | None:
        asked.append(identity)
        return None

    identities = [b"identity %d" % number for number in range(100)]
    names = b"".join(len(name).to_bytes(2, "big") + name + bytes(4) for name in identities)
    binders = (b"\x20" + bytes(32)) * len(identities)
    psk = len(names).to_bytes(2, "big") + names + len(binders).to_bytes(2, "big") + binders
    extensions = b"\x00\x2b\x00\x03\x02\x03\x04" + b"\x00\x29" + len(psk).to_bytes(2, "big") + psk
    body = b"\x03\x03" + bytes(33) + b"\x00\x02\x13\x01\x01\x00" + len(extensions).to_bytes(2, "big") + extensions
    message = b"\x01" + len(body).to_bytes(3, "big") + body

    async def scene() -> None:
        near, far = tcp_pair()
        with near, far:
            near.sendall(b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message)
            request = replace(AS_SERVER, auth_mode=AuthMode.PSK, psk_lookup=nobody)
            with pytest.raises(HandshakeFailed):
                await HANDSHAKER.handshake(request, StreamEndpoint(far, Readiness(asyncio.get_running_loop())))

    run(scene())
    assert asked == identities[:MAX_PSK_LOOKUPS]


@pytest.mark.parametrize(
    ("sent", "failure"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", Failure.GARBAGE),
        (b"\x16\x03\x01\xff\xff" + bytes(100), Failure.RECORD_OVERFLOW),
        (b"\x80\x2e\x01\x03\x01", Failure.GARBAGE),
        (b"\x17\x03\x03\x00\x01x", Failure.UNEXPECTED_MESSAGE),
        (plaintext_alert(40), Failure.PEER_REFUSED),
        (b"", Failure.PEER_GONE),
        (b"\x16\x03", Failure.PEER_GONE),
        (b"\x16\x03\x01\x00\x20abc", Failure.PEER_GONE),
    ],
)
@pytest.mark.parametrize("request_", [AS_CLIENT, AS_SERVER], ids=["client", "server"])
def test_peers_that_do_not_speak_tls(sent: bytes, failure: Failure, request_: Request) -> None:
    """Garbage, records too long, silence that ends: failure, errno, and the alert where one can be said."""

    async def scene() -> bytes:
        near, far = tcp_pair()
        with near, far:
            far.sendall(sent)
            far.shutdown(socket.SHUT_WR)
            with pytest.raises(HandshakeFailed) as caught:
                await HANDSHAKER.handshake(request_, StreamEndpoint(near, Readiness(asyncio.get_running_loop())))
            assert caught.value.failure is failure
            near.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: far.recv(1 << 16), b""))

    said = run(scene())
    own = list(records(said))
    if request_.role is Role.CLIENT:
        assert own.pop(0)[5] == 1
    assert own == ([] if failure.alert is None else [plaintext_alert(failure.alert)])


class Peer:
    """An engine on a blocking socket, which sends what it has to say as the test wants it cut."""

    def __init__(self, engine: Engine, sock: socket.socket) -> None:
        self.engine, self.sock = engine, sock
        self.stream = sock.makefile("rb")

    def next_record(self) -> bytes:
        header = self.stream.read(5)
        return header + self.stream.read(int.from_bytes(header[3:], "big"))

    def read_until_output(self) -> bytes:
        while True:
            output = self.engine.data_to_send()
            if output or self.engine.finished:
                return output
            self.engine.feed(self.next_record())


async def last_flight_with_data(role: Role, cut: int) -> bytes:
    """Return what is left in our socket after a last flight and data of the session, sent together in two pieces."""
    near, far = tcp_pair()
    with near, far:
        loop = asyncio.get_running_loop()
        request = AS_SERVER if role is Role.SERVER else AS_CLIENT
        task = asyncio.ensure_future(HANDSHAKER.handshake(request, StreamEndpoint(near, Readiness(loop))))
        engine: Engine = (
            ClientEngine(CONTEXTS, server_name="server.example", verify=believe)
            if role is Role.SERVER
            else ServerEngine(CONTEXTS, identities=(SERVER,))
        )
        flight = await asyncio.to_thread(peers_flight, engine, far)
        both_parts = flight + b"what follows is the consumer's"
        far.sendall(both_parts[: cut % len(both_parts)])
        await asyncio.sleep(0)
        far.sendall(both_parts[cut % len(both_parts) :])
        await task
        near.setblocking(True)
        near.settimeout(10)
        left = b""
        while len(left) < len(both_parts) - len(flight):
            left += near.recv(1 << 16)
        return left


def peers_flight(engine: Engine, sock: socket.socket) -> bytes:
    peer = Peer(engine, sock)
    if isinstance(engine, ClientEngine):
        sock.sendall(engine.data_to_send())
    flight = peer.read_until_output()
    peer.stream.detach()
    return flight


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("cut", [0, 1, 4, 5, 6, 20, 58, 63, 64, 70, 80, 85, 90, 700, 1200, -1, -5, -29, -30, -31])
def test_what_follows_the_handshake_stays_in_the_socket(role: Role, cut: int) -> None:
    """Data in the same segment as the peer's Finished, or cut anywhere: not a byte of it is read."""
    assert run(last_flight_with_data(role, cut)) == b"what follows is the consumer's"


def test_many_at_once() -> None:
    """Handshakes on one loop do not get into each other's way: each has its own session."""

    async def scene() -> list[Any]:
        return await asyncio.gather(*(both(AS_CLIENT, AS_SERVER) for _ in range(40)))

    secrets = set()
    for client, server in run(scene()):
        assert isinstance(client, Result)
        assert isinstance(server, Result)
        assert client.session == server.session
        secrets.add(client.session["client-traffic-secret"])
    assert len(secrets) == 40


def test_hooks() -> None:
    """The plugin's hooks are registered, and take its own sessions alone."""
    (protocol,) = hooks.hsframework_protocols()
    assert (protocol.name, protocol.groups) == ("tls13", ("tls13", "tlshd"))
    assert protocol.settings_type is Settings
    result, _ = results(AS_CLIENT, AS_SERVER)
    session = EstablishedSession(
        protocol="tls13",
        role=Role.CLIENT,
        peer=result.peer,
        alpn=None,
        in_kernel=False,
        parameters=result.session,
        tags=result.tags,
    )
    near, far = tcp_pair()
    with near, far:
        assert isinstance(hooks.hsframework_attach_session(session, near, False), TlsStream)
        assert hooks.hsframework_attach_session(replace(session, protocol="quic"), near, False) is None


@pytest.mark.parametrize("kernel_consumer", [False, True])
@pytest.mark.parametrize("error", [ktls.HalfInstalled, ktls.KernelRefused])
def test_a_kernel_that_refuses_the_session(
    monkeypatch: pytest.MonkeyPatch, kernel_consumer: bool, error: type[ktls.KernelRefused]
) -> None:
    """With one direction in the kernel nobody has a session; with none, a consumer in user space has it there."""

    def install(*_: object, **__: object) -> None:
        raise error("TLS_RX", OSError(errno.EIO, "no"))

    handshaker = Tls13Protocol().prepare(Settings())
    monkeypatch.setattr(handshaker, "_in_kernel", Settings().suites)
    monkeypatch.setattr(ktls, "install", install)
    client = replace(AS_CLIENT, kernel_consumer=kernel_consumer)
    found, _ = run(both(client, AS_SERVER, handshaker))
    if error is ktls.HalfInstalled or kernel_consumer:
        assert isinstance(found, HandshakeFailed)
        assert found.failure is Failure.NO_KERNEL_SESSION
        assert "TLS_RX" in str(found)
    else:
        assert isinstance(found, Result)
        assert not found.in_kernel
        assert found.session


def test_a_peer_that_goes_in_the_moment_of_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes no session for a connection that is lost: that is the peer's end, and NFS connects again."""

    def install(*_: object, **__: object) -> None:
        raise ktls.KernelRefused("TCP_ULP tls", OSError(errno.ENOTCONN, "no"))

    handshaker = Tls13Protocol().prepare(Settings())
    monkeypatch.setattr(handshaker, "_in_kernel", Settings().suites)
    monkeypatch.setattr(ktls, "install", install)
    found, _ = run(both(replace(AS_CLIENT, kernel_consumer=True), AS_SERVER, handshaker))
    assert isinstance(found, HandshakeFailed)
    assert found.failure is Failure.PEER_GONE


def test_a_limited_handshaker() -> None:
    """Settings count: one cipher, one group."""
    settings = Settings(ciphers=(AES_128_GCM.name,), groups=("P-256",), key_shares=("P-256",), kernel_offload=False)
    client, _ = run(both(AS_CLIENT, AS_SERVER, Tls13Protocol().prepare(settings)))
    assert isinstance(client, Result)
    assert (client.tags["cipher"], client.tags["group"]) == (AES_128_GCM.name, "secp256r1")


@pytest.mark.parametrize("failing", [("TCP_ULP tls",), ("TLS_TX",), ("TLS_RX",), ("TCP_ULP tls", "TLS_TX", "TLS_RX")])
def test_a_shortage_of_memory_delays_the_kernels_session(
    monkeypatch: pytest.MonkeyPatch, failing: tuple[str, ...]
) -> None:
    """The kernel is asked again from the step that it had no memory for; a step that was taken is not repeated."""
    to_fail = list(failing)
    taken: list[str] = []

    class Played:
        def setsockopt(self, level: int, option: int, value: bytes) -> None:
            step = {31: "TCP_ULP tls", 1: "TLS_TX", 2: "TLS_RX"}[option]
            if step in to_fail:
                to_fail.remove(step)
                raise OSError(errno.ENOMEM, "short")
            taken.append(step)

    class PlayedEndpoint:
        socket = Played()

    secret = Secret(bytes(32))
    session = Established(
        role=Role.CLIENT,
        suite=AES_128_GCM,
        client_secret=secret,
        server_secret=secret,
        exporter_secret=secret,
        group="x25519",
        alpn=None,
        peer=PeerIdentity(),
    )
    handshaker = Tls13Handshaker(Settings())
    monkeypatch.setattr(handshaker, "_in_kernel", (AES_128_GCM,))
    request = replace(AS_CLIENT, kernel_consumer=True)
    assert run(handshaker._plant(request, cast("Endpoint", PlayedEndpoint()), session))
    assert (taken, to_fail) == (["TCP_ULP tls", "TLS_TX", "TLS_RX"], [])
