"""Whole handshakes in the published dialect: consumers by the module's device, and our agents, with OpenSSL as peer."""

from __future__ import annotations

import errno
import os
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.kernel import raw
from tests.kernel.house import ROOT, End, House, house
from tests.kernel.machine import add_key, debian, describe_key, load
from tests.kernel.raw import Outcome, submitted
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
    certificate_keys,
    peer_context,
    talk,
    tls_peer,
    toy_peer,
)
from tests.support.running import tcp_pairs, until

CHACHA = "NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305"
PATIENT = "[timeouts]\nclient = 60\nserver = 60\n"
"""So that what ends sooner ends by its request's own timeout."""


@pytest.fixture(scope="module", autouse=True)
def module() -> Iterator[None]:
    """In the published dialect."""
    with raw.published(protocols=4):
        yield


@pytest.fixture(scope="module")
def service() -> Iterator[House]:
    """Agents of TLS and of a toy, with certificates for both roles."""
    with house(client=End(CLIENT), server=End(SERVER), more=PATIENT + RAW, plugins={QUIC: TOY, PSP: TOY}) as made:
        for group in ("tlshd", QUIC, PSP):
            await_joined(made, group)
        yield made


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("role", [raw.CLIENT, raw.SERVER], ids=["client", "server"])
def test_certificates_of_the_profile(pair: Pair, pool: ThreadPoolExecutor, tmp_path: Path, role: int) -> None:
    """A request whose serials are 0: its profile's certificate; the consumer is told one key for its peer."""
    with submitted(pair[0], role=role, auth=raw.X509, peername="server.test") as request:
        peer = pool.submit(tls_peer, pair[1], peer_context(tmp_path, server=role == raw.CLIENT))
        outcome = request.outcome()
        assert (outcome.status, len(outcome.peers)) == (0, 1)
        talk(pair[0])
        peer.result(20)
        until(lambda: _is_gone(outcome.peers[0]), "the peer's certificate is a key no more")


def _is_gone(serial: int) -> bool:
    try:
        describe_key(serial)
    except OSError:
        return True
    return False


@pytest.fixture
def own_keys() -> Iterator[dict[str, int]]:
    """Keys with another client's certificate and private key; their serials."""
    with certificate_keys(ROOT.issue(["other.test"])) as serials:
        yield serials


@pytest.mark.usefixtures("service")
def test_a_certificate_that_the_request_names(
    pair: Pair, pool: ThreadPoolExecutor, tmp_path: Path, own_keys: dict[str, int]
) -> None:
    """X509_CERT and X509_PRIVKEY are two serials, and go before the profile's."""
    context = peer_context(tmp_path, server=True)
    shown: list[object] = []

    def peer() -> None:
        with context.wrap_socket(pair[1].dup(), server_side=True) as session:
            shown.append(session.getpeercert())
            session.sendall(b"from OpenSSL")
            session.recv(100)

    with submitted(pair[0], auth=raw.X509, peername="server.test", **own_keys) as request:
        ended = pool.submit(peer)
        assert request.outcome().status == 0
        talk(pair[0])
        ended.result(20)
    (certificate,) = shown
    assert isinstance(certificate, dict)
    assert certificate["subjectAltName"] == (("DNS", "other.test"),)


@pytest.mark.usefixtures("service")
def test_nobody_in_particular(pair: Pair, pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    """TLS_AUTH 1: an anonymous client, whose server asks for nothing."""
    context = peer_context(tmp_path, server=True)
    context.verify_mode = ssl.CERT_NONE
    with submitted(pair[0], peername="server.test") as request:
        peer = pool.submit(tls_peer, pair[1], context)
        assert request.outcome().status == 0
        talk(pair[0])
        peer.result(20)


@pytest.mark.usefixtures("service")
def test_pre_shared_keys(pair: Pair) -> None:
    """TLS_AUTH 3, both ends ours: the client's key by its serial, the server's by its keyring, each told one peer."""
    load("nvme-tcp")  # with it comes the keys' type
    ring = int(debian("keyctl", "newring", "published", "@u"))
    key = add_key("psk", "NVMe0R01 nqn.host nqn.subsystem", os.urandom(32), ring)
    with (
        submitted(pair[0], auth=raw.PSK, peers=(key,), keyring=ring) as client,
        submitted(pair[1], auth=raw.PSK, role=raw.SERVER, keyring=ring) as server,
    ):
        assert client.outcome() == Outcome(0, (key,))
        assert server.outcome() == Outcome(0, (key,))
        pair[0].send(b"through TLS")
        assert pair[1].recv(100) == b"through TLS"
    debian("keyctl", "unlink", str(ring), "@u")


@pytest.mark.usefixtures("service")
def test_priorities(pair: Pair, pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    """TLS_PRIORITIES is the request's TLS policy, as OpenSSL and the socket say."""
    with submitted(pair[0], auth=raw.X509, peername="server.test", priorities=CHACHA) as request:
        peer = pool.submit(tls_peer, pair[1], peer_context(tmp_path, server=True))
        assert request.outcome().status == 0
        assert int.from_bytes(pair[0].getsockopt(282, 1, 4)[2:], sys.byteorder) == 54
        talk(pair[0])
        assert peer.result(20) == "TLS_CHACHA20_POLY1305_SHA256"


def test_rejected(service: House, pair: Pair, pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    """A peer that refuses us, here because it has none of our groups: EACCES."""
    mark = service.log.mark
    context = peer_context(tmp_path, server=True)
    context.set_ecdh_curve("secp384r1")
    asked = {"auth": raw.X509, "peername": "server.test", "priorities": "NORMAL:-GROUP-ALL:+GROUP-X25519"}
    with submitted(pair[0], **asked) as request:
        peer = pool.submit(tls_peer, pair[1], context)
        assert request.outcome() == Outcome(errno.EACCES)
        service.log.wait("handshake", source=SOURCE, status="EACCES", since=mark)
        with pytest.raises((ssl.SSLError, OSError)):
            peer.result(20)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"auth": raw.X509, "peername": "another.test"}, "EKEYREJECTED"),
        ({"auth": raw.PSK, "peers": (2_000_000_000,)}, "ENOKEY"),
        ({"priorities": "NORMAL:+ROT13"}, "EOPNOTSUPP"),
    ],
    ids=["another name", "no such key", "a policy that cannot be kept"],
)
def test_faults(
    service: House, pair: Pair, pool: ThreadPoolExecutor, tmp_path: Path, asked: dict[str, object], status: str
) -> None:
    """A fault that is no refusal by the peer is EIO to the consumer; the log has the errno, or the reason."""
    mark = service.log.mark
    with submitted(pair[0], **asked) as request:
        peer = pool.submit(tls_peer, pair[1], peer_context(tmp_path, server=True))
        assert request.outcome() == Outcome(errno.EIO)
        pair[0].close()
        with pytest.raises((ssl.SSLError, OSError)):
            peer.result(20)
    if status == "ENOKEY":
        service.log.wait("a request of the kernel's is refused", source=SOURCE, since=mark)
    else:
        service.log.wait("handshake", source=SOURCE, status=status, since=mark)


def test_its_timeout(service: House, pair: Pair) -> None:
    """TIMEOUT is a number of seconds, and a peer that is silent for so long is a fault."""
    mark = service.log.mark
    with submitted(pair[0], peername="server.test", timeout=1000) as request:
        assert pair[1].recv(1) == b"\x16"
        assert request.outcome() == Outcome(errno.EIO)
    service.log.wait("handshake", source=SOURCE, status="ETIMEDOUT", since=mark)


def test_an_agent_is_killed(service: House, pair: Pair) -> None:
    """EIO at once, others get nothing, and the next request is served by its successor."""
    with tcp_pairs() as (other,), submitted(other[0], protocol=raw.PSP) as untouched:
        with submitted(pair[0], protocol=raw.QUIC) as request:
            assert pair[1].recv(100) == f"{QUIC} CLIENT\n".encode()
            mark = service.log.mark
            os.kill(service.workers(QUIC)[0], signal.SIGKILL)
            assert request.outcome() == Outcome(errno.EIO)
            assert untouched.waits
        service.wait_for_agents(protocol=QUIC, since=mark)
        toy_peer(other[1], PSP)
        assert untouched.outcome() == Outcome(0)


def test_the_dispatcher_is_killed_in_mid_handshake(
    service: House, pair: Pair, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    """Handshakes in flight go on, of TLS and of another mechanism: its successor completes them and serves others."""
    asked = submitted(pair[0], peername="server.test")
    with tcp_pairs() as (other,), asked as tls, submitted(other[0], protocol=raw.QUIC) as toy:
        assert pair[1].recv(1, socket.MSG_PEEK) == b"\x16"
        assert other[1].recv(100) == f"{QUIC} CLIENT\n".encode()
        mark = service.log.mark
        os.kill(service.dispatcher, signal.SIGKILL)
        for protocol in ("tls13", QUIC):
            service.log.wait("the dispatcher is gone", protocol=protocol, since=mark)
        context = peer_context(tmp_path, server=True)
        context.verify_mode = ssl.CERT_NONE
        peer = pool.submit(tls_peer, pair[1], context)
        other[1].send(f"{QUIC} SERVER\n".encode())
        assert (tls.outcome().status, toy.outcome()) == (0, Outcome(0))
        talk(pair[0])
        peer.result(20)
    service.log.wait("a request of an earlier dispatcher is given back", since=mark, number=2)
    assert not service.log.events("DONE is refused", since=mark)
    for protocol in ("tls13", QUIC, PSP):
        service.wait_for_agents(protocol=protocol, since=mark)
    await_joined(service, since=mark)
    with tcp_pairs() as ((near, far),), submitted(near, auth=raw.X509, peername="server.test") as request:
        peer = pool.submit(tls_peer, far, peer_context(tmp_path, server=True))
        assert request.outcome().status == 0
        talk(near)
        peer.result(20)
