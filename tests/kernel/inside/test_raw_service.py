"""The raw-netlink form of the service through the whole house: consumers by the module's device, and our agents."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from hsframework.testing.network import udp_pair
from tests.kernel import raw
from tests.kernel.house import ROOT, End, House, house
from tests.kernel.machine import add_key, debian, describe_key, load
from tests.kernel.raw import Outcome, Submission, submitted
from tests.kernel.raw_house import (
    CLIENT,
    PSP,
    QUIC,
    RAW,
    SERVER,
    SOURCE,
    TOY,
    Pair,
    await_joined,
    peer_context,
    talk,
    tls_peer,
    toy_peer,
)
from tests.support.running import tcp_pairs, until

SOL_TLS, TLS_TX = 282, 1
POLICIES = (
    ("NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305:-GROUP-ALL:+GROUP-X25519", "TLS_CHACHA20_POLY1305_SHA256", "X25519", 54),
    ("NORMAL:-CIPHER-ALL:+AES-256-GCM:-GROUP-ALL:+GROUP-SECP384R1", "TLS_AES_256_GCM_SHA384", "secp384r1", 52),
)
"""Priority strings, with the cipher, the group and the kernel's number of the cipher that follow from them."""


@pytest.fixture(scope="module", autouse=True)
def module() -> Iterator[None]:
    with raw.loaded(protocols=4):
        yield


@pytest.fixture(autouse=True)
def left_nothing() -> Iterator[None]:
    """Close after each test what it has left open."""
    with raw.returned():
        yield


@pytest.fixture(scope="module")
def service() -> Iterator[House]:
    """Agents of TLS and of two toys, with certificates for both roles."""
    with house(client=End(CLIENT), server=End(SERVER), more=RAW, plugins={QUIC: TOY, PSP: TOY}) as made:
        for group in ("tlshd", QUIC, PSP):
            await_joined(made, group)
        made.wait_for_agents(protocol=QUIC)
        made.wait_for_agents(protocol=PSP)
        yield made


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A consumer's socket and its peer."""
    with tcp_pairs() as (made,):
        yield made


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


def test_three_protocols_at_once(service: House, pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    """TLS with OpenSSL and two toys, over TCP and UDP, interleaved: each is served by the agent of its own group."""
    mark = service.log.mark
    context = peer_context(tmp_path, server=True)
    with contextlib.ExitStack() as opened:
        tls = opened.enter_context(tcp_pairs(3))
        psp = opened.enter_context(tcp_pairs(3))
        quic = [udp_pair() for _ in range(3)]
        for near, far in quic:
            opened.enter_context(near)
            opened.enter_context(far)
        requests: list[Submission] = []
        peers: list[Future[object]] = []
        for index in range(3):
            numbers = (raw.TLSHD, raw.QUIC, raw.PSP)
            for number, (near, _) in zip(numbers, (tls[index], quic[index], psp[index]), strict=True):
                values = {"protocol": number, "auth": raw.X509, "peername": "server.test"}
                requests.append(opened.enter_context(submitted(near, **values)))
            peers.append(pool.submit(tls_peer, tls[index][1], context))
            assert toy_peer(quic[index][1], QUIC) == f"{QUIC} CLIENT\n".encode()
            assert toy_peer(psp[index][1], PSP) == f"{PSP} CLIENT\n".encode()
        assert [request.outcome().status for request in requests] == [0] * 9
        for near, _ in tls:
            talk(near)
        for peer in peers:
            peer.result(20)
    for group in ("tlshd", QUIC, PSP):
        service.log.wait("handshake", group=group, source=SOURCE, status="OK", since=mark, number=3)
    assert not service.log.events("DONE is refused")


def test_a_group_without_an_agent(service: House, pair: Pair) -> None:
    """A group without an agent is not joined, even while others are served: ESRCH at once."""
    with Submission() as request, pytest.raises(OSError) as refused:
        request.submit(pair[0].fileno(), protocol=4)
    assert refused.value.errno == errno.ESRCH


@pytest.mark.parametrize("form", [raw.RAW, raw.KERNEL_TLS], ids=["raw", "the kernel's own"])
@pytest.mark.parametrize("role", [raw.CLIENT, raw.SERVER], ids=["client", "server"])
def test_certificates(
    service: House, pair: Pair, pool: ThreadPoolExecutor, tmp_path: Path, role: int, form: int
) -> None:
    """Both roles, with OpenSSL as the peer, by the module and by tls_client_hello_x509 and tls_server_hello_x509.

    The consumer is told a key for its peer, which is gone afterwards.
    """
    with submitted(pair[0], role=role, auth=raw.X509, peername="server.test", service=form) as request:
        peer = pool.submit(tls_peer, pair[1], peer_context(tmp_path, server=role == raw.CLIENT))
        outcome = request.outcome()
        assert outcome.status == 0
        assert len(outcome.peers) == 1
        talk(pair[0])
        peer.result(20)
        until(lambda: _is_gone(outcome.peers[0]), "the peer's certificate is a key no more")


def test_drbds_pattern(service: House, pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    """Two sockets at once, both roles, with a keyring that has the certificate and the key, and no protocol by ALPN.

    So DRBD asks, from 9.2.6 on: without a timeout, and with certificates that the service's files do not have.
    """
    ring = int(debian("keyctl", "newring", "drbd", "@u"))
    context = peer_context(tmp_path, server=True)
    context.set_alpn_protocols(["sunrpc"])
    spoken: list[str | None] = []

    def peer(sock: socket.socket) -> None:
        sock.settimeout(20)
        with context.wrap_socket(sock.dup(), server_side=True) as session:
            spoken.append(session.selected_alpn_protocol())

    try:
        own = ROOT.issue(["server.test"])
        certificate = add_key("user", "drbd certificate", own.certificate_pem, ring)
        key = add_key("user", "drbd key", own.private_key_pem, ring)
        asked = {"auth": raw.X509, "service": raw.KERNEL_TLS, "keyring": ring, "peername": "server.test"}
        named = {**asked, "certificate": certificate, "private_key": key}
        with contextlib.ExitStack() as opened:
            pairs = opened.enter_context(tcp_pairs(2))
            requests = [
                opened.enter_context(submitted(sock, role=role, **named))
                for pair in pairs
                for sock, role in zip(pair, (raw.CLIENT, raw.SERVER), strict=True)
            ]
            for request in requests:
                outcome = request.outcome()
                assert (outcome.status, len(outcome.peers)) == (0, 1)
            for near, far in pairs:
                near.send(b"through TLS")
                assert far.recv(100) == b"through TLS"
        with tcp_pairs() as ((near, far),), submitted(near, **named) as request:
            shown = pool.submit(peer, far)
            assert request.outcome().status == 0
            shown.result(20)
        assert spoken == [None]
    finally:
        debian("keyctl", "unlink", str(ring), "@u")


def _is_gone(serial: int) -> bool:
    try:
        describe_key(serial)
    except OSError:
        return True
    return False


def test_the_kernels_own_anonymous_client(service: House, pair: Pair, pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    """tls_client_hello_anon, to a server with a wrong name."""
    with submitted(pair[0], peername="other.test", service=raw.KERNEL_TLS) as request:
        peer = pool.submit(tls_peer, pair[1], peer_context(tmp_path, server=True))
        assert request.outcome().status == errno.EKEYREJECTED
        with pytest.raises((ssl.SSLError, OSError)):
            peer.result(20)


def test_pre_shared_keys(service: House, pair: Pair) -> None:
    """Both ends ours: the client names its key by serial, the server finds it in its keyring, and both report it."""
    load("nvme-tcp")  # with it comes the keys' type
    ring = int(debian("keyctl", "newring", "raw", "@u"))
    name = "NVMe0R01 nqn.host nqn.subsystem"
    key = add_key("psk", name, os.urandom(32), ring)
    before = describe_key(ring)
    with (
        submitted(pair[0], auth=raw.PSK, peers=(key,), keyring=ring, urgency=7) as client,
        submitted(pair[1], auth=raw.PSK, role=raw.SERVER, keyring=ring) as server,
    ):
        assert client.outcome() == Outcome(0, (key,))
        assert server.outcome() == Outcome(0, (key,))
        pair[0].send(b"through TLS")
        assert pair[1].recv(100) == b"through TLS"
    assert describe_key(ring) == before
    debian("keyctl", "unlink", str(ring), "@u")


def test_an_unknown_key(service: House, pair: Pair) -> None:
    """A serial that names nothing is ENOKEY, or EIO for a keyring that ACCEPT cannot link."""
    with submitted(pair[0], auth=raw.PSK, peers=(2_000_000_000,)) as request:
        assert request.outcome() == Outcome(errno.ENOKEY)
    with submitted(pair[0], auth=raw.PSK, keyring=2_000_000_000) as request:
        assert request.outcome() == Outcome(errno.EIO)


def kernel_cipher(sock: socket.socket) -> int:
    """Return the TLS_CIPHER_* of the session in a socket's sending direction."""
    return int.from_bytes(sock.getsockopt(SOL_TLS, TLS_TX, 4)[2:], sys.byteorder)


@pytest.mark.parametrize("role", [raw.CLIENT, raw.SERVER], ids=["client", "server"])
def test_tls_policies(service: House, pool: ThreadPoolExecutor, tmp_path: Path, role: int) -> None:
    """Two requests at once: one peer gets ChaCha20 and another AES-256, as OpenSSL and the sockets say.

    As a server, OpenSSL has the policy's group alone.
    """
    with contextlib.ExitStack() as opened:
        sessions = []
        for (policy, suite, curve, number), (near, far) in zip(
            POLICIES, opened.enter_context(tcp_pairs(len(POLICIES))), strict=True
        ):
            context = peer_context(tmp_path, server=role == raw.CLIENT)
            if role == raw.CLIENT:
                context.set_ecdh_curve(curve)
            values = {"role": role, "auth": raw.X509, "peername": "server.test", "priorities": policy}
            request = opened.enter_context(submitted(near, **values))
            sessions.append((request, near, pool.submit(tls_peer, far, context), suite, number))
        for request, near, peer, suite, number in sessions:
            assert request.outcome().status == 0
            assert kernel_cipher(near) == number
            talk(near)
            assert peer.result(20) == suite


@pytest.mark.parametrize(
    ("policy", "status"),
    [
        ("NORMAL:+ROT13", errno.EOPNOTSUPP),
        ("NORMAL:-VERS-ALL:+VERS-TLS1.2", errno.EOPNOTSUPP),
        ("NORMAL:-GROUP-ALL:+GROUP-X448", errno.EOPNOTSUPP),
        (POLICIES[0][0], errno.EACCES),
    ],
    ids=["nonsense", "TLS 1.2", "a group that the settings do not have", "a cipher that the peer does not have"],
)
def test_a_tls_policy_that_cannot_be_kept(
    service: House, pair: Pair, pool: ThreadPoolExecutor, tmp_path: Path, policy: str, status: int
) -> None:
    """The consumer gets the reason, and there is no session in its socket."""
    context = peer_context(tmp_path, server=True)
    context.set_ecdh_curve("secp384r1")
    with submitted(pair[0], auth=raw.X509, peername="server.test", priorities=policy) as request:
        peer = pool.submit(tls_peer, pair[1], context)
        assert request.outcome() == Outcome(status)
        with pytest.raises((ssl.SSLError, OSError)):
            peer.result(20)


def test_a_tls_policy_for_an_agent_that_keeps_to_none(service: House, pair: Pair) -> None:
    """It never gets the request."""
    with submitted(pair[0], protocol=raw.PSP, priorities="NORMAL") as request:
        assert request.outcome() == Outcome(errno.EOPNOTSUPP)


def test_a_rekey_is_refused(service: House, pair: Pair) -> None:
    """The form has room for it; no agent can, and says so."""
    with submitted(pair[0], handshake_type=1) as request:
        assert request.outcome() == Outcome(errno.EOPNOTSUPP)


def test_an_agent_is_killed(service: House, pair: Pair) -> None:
    """Its consumer gets ETIMEDOUT at once, the others nothing, and the next request is served by its successor."""
    with tcp_pairs() as (other,), submitted(other[0], protocol=raw.PSP) as untouched:
        with submitted(pair[0], protocol=raw.QUIC) as request:
            assert pair[1].recv(100) == f"{QUIC} CLIENT\n".encode()
            mark = service.log.mark
            os.kill(service.workers(QUIC)[0], signal.SIGKILL)
            assert request.outcome() == Outcome(errno.ETIMEDOUT)
            assert untouched.waits
        service.wait_for_agents(protocol=QUIC, since=mark)
        toy_peer(other[1], PSP)
        assert untouched.outcome() == Outcome(0)
    with tcp_pairs() as ((near, far),), submitted(near, protocol=raw.QUIC) as request:
        toy_peer(far, QUIC)
        assert request.outcome() == Outcome(0)


def test_the_dispatcher_is_killed(service: House, pair: Pair) -> None:
    """A handshake in flight goes on: its successor completes it, and serves the next."""
    with submitted(pair[0], protocol=raw.PSP) as request:
        assert pair[1].recv(100) == f"{PSP} CLIENT\n".encode()
        mark = service.log.mark
        os.kill(service.dispatcher, signal.SIGKILL)
        service.log.wait("the dispatcher is gone", protocol=PSP, since=mark)
        pair[1].send(f"{PSP} SERVER\n".encode())
        assert request.outcome() == Outcome(0)
    service.log.wait("a request of an earlier dispatcher is given back", since=mark)
    for protocol in ("tls13", QUIC, PSP):
        service.wait_for_agents(protocol=protocol, since=mark)
    with tcp_pairs() as ((near, far),), submitted(near, protocol=raw.PSP) as request:
        toy_peer(far, PSP)
        assert request.outcome() == Outcome(0)
