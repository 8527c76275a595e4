"""TLS policies with OpenSSL and GnuTLS at the other end: each peer sees the policy of its own request, and no more."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hsframework.client import AsyncClient, HandshakeOptions
from hsframework.errors import HandshakeError
from hsframework.failures import Failure
from hsframework.interface import Role
from hsframework.tls.client_hello import ClientHello, parse_client_hello
from hsframework.tls.messages import check_server_hello
from tests.support import toy_plugin
from tests.support.doors import Door, open_door
from tests.support.meetings import TIMEOUT, Pki, chat, meeting
from tests.support.peer_programs import Kind, Peer, Setup, start_server
from tests.support.service import Service, running_service

pytestmark = pytest.mark.peers

KINDS = pytest.mark.parametrize("kind", ["openssl", "gnutls"])
ROLES = pytest.mark.parametrize("role", list(Role), ids=lambda role: role.name.lower())
CHACHA20_X25519 = "NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305:-GROUP-ALL:+GROUP-X25519"
AES_256_P384 = "NORMAL:-CIPHER-ALL:+AES-256-GCM:-GROUP-ALL:+GROUP-SECP384R1"
POLICIES = {
    "chacha": (CHACHA20_X25519, 0x1303, 0x1D, r"ECDHE-X25519\).*\(CHACHA20-POLY1305"),
    "aes": (AES_256_P384, 0x1302, 0x18, r"ECDHE-SECP384R1\).*\(AES-256-GCM"),
}
"""By profile: the policy, the suite and the group that follow from it, and GnuTLS's words for them."""
TLS_1_3 = "NORMAL:-VERS-ALL:+VERS-TLS1.3"
NEITHER: dict[str, Any] = {
    "openssl": ["-ciphersuites", "TLS_AES_128_GCM_SHA256"],
    "priority": f"{TLS_1_3}:-CIPHER-ALL:+AES-128-GCM",
}
"""A peer without the cipher of either policy."""


@pytest.fixture(scope="module")
def house(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service with a profile for each policy, and a plugin that knows nothing of policies."""
    plugins = tmp_path_factory.mktemp("plugins")
    toy_plugin.install(plugins)
    files = pki.files("good")
    profiles = "".join(
        f"[profiles.{name}]\nidentities = ['own']\ntrust = 'root'\ntls-priorities = '{policy}'\n"
        for name, (policy, *_) in POLICIES.items()
    )
    configuration = (
        f"[identities.own]\ncertificate = '{files.certificate}'\nprivate-key = '{files.private_key}'\n"
        f"[trust.root]\nbundle = ['{pki.ca}']\n{profiles}"
    )
    with running_service(groups=("tls13", toy_plugin.GROUP), plugins=plugins, configuration=configuration) as service:
        yield service


@pytest.fixture(scope="module")
def own_door(house: Service) -> Iterator[Door]:
    with open_door("sync", house.runtime) as client:
        yield client


def profile(name: str, role: Role, **more: Any) -> HandshakeOptions:
    peer_name = "server.example" if role is Role.CLIENT else None
    return HandshakeOptions(role=role, profile=name, peer_name=peer_name, timeout=TIMEOUT, **more)


def setup_of(pki: Pki, role: Role, **more: Any) -> Setup:
    """Set up a peer for our role that takes anything of TLS 1.3."""
    if role is Role.CLIENT:
        return Setup(identity=pki.files("good"), **more)
    return Setup(trust=pki.ca, name="server.example", **more)


def saw_policy(peer: Peer, name: str) -> None:
    """Check that the peer itself has the policy's cipher and group, and that OpenSSL has dumped the hellos."""
    _, suite, group, words = POLICIES[name]
    if peer.kind == "gnutls":
        peer.saw(rf"Description: \(TLS1\.3.*{words}")
        return
    hello = offered(peer)
    sent = check_server_hello(_dumped(peer, "ServerHello"), hello.extensions, hello.session_id)
    assert (sent.cipher_suite, sent.group) == (suite, group)


def _dumped(peer: Peer, message: str) -> bytes:
    """Return the last message of a kind in OpenSSL's log, without its header."""
    found = peer.saw(rf"(?s).*(?:<<<|>>>) [^\n]*, {message}\n((?: +[0-9a-f ]+\n)+)")
    return bytes.fromhex(found[1])[4:]


def offered(peer: Peer) -> ClientHello:
    """Return the ClientHello that OpenSSL has received or sent."""
    return parse_client_hello(_dumped(peer, "ClientHello"))


@KINDS
@ROLES
@pytest.mark.parametrize("name", POLICIES)
def test_a_profiles_policy(name: str, role: Role, kind: Kind, own_door: Door, pki: Pki, tmp_path: Path) -> None:
    """Cipher and group are those of the profile, at both ends; data flows."""
    with meeting(role, kind, setup_of(pki, role), tmp_path) as (peer, sock):
        talk = own_door.handshake(sock, profile(name, role))
        chat(talk, peer)
        saw_policy(peer, name)


@pytest.mark.parametrize("name", POLICIES)
def test_nothing_else_is_offered(name: str, own_door: Door, pki: Pki, tmp_path: Path) -> None:
    """The ClientHello has one cipher, one group and a key share for it."""
    _, suite, group, _ = POLICIES[name]
    with meeting(Role.CLIENT, "openssl", setup_of(pki, Role.CLIENT), tmp_path) as (peer, sock):
        chat(own_door.handshake(sock, profile(name, Role.CLIENT)), peer)
        hello = offered(peer)
    assert [code for code in hello.cipher_suites if code != 0xFF] == [suite]
    assert (hello.supported_groups, hello.key_share_groups) == ((group,), (group,))


@KINDS
def test_two_policies_at_the_same_time(kind: Kind, house: Service, pki: Pki, tmp_path: Path) -> None:
    """One service, one agent: both handshakes are under way at once, and each peer has its own policy."""

    async def together(pairs: dict[str, socket.socket]) -> None:
        async with AsyncClient(house.runtime) as client, asyncio.TaskGroup() as tasks:
            for name, sock in pairs.items():
                tasks.create_task(_hold(client, sock, profile(name, Role.CLIENT), met))

    with contextlib.ExitStack() as opened:
        peers = {name: start_server(kind, setup_of(pki, Role.CLIENT), tmp_path) for name in POLICIES}
        for peer in peers.values():
            opened.callback(peer.end)
        met = asyncio.Barrier(len(peers))
        asyncio.run(together({name: opened.enter_context(peer.connect()) for name, peer in peers.items()}))
        for name, peer in peers.items():
            saw_policy(peer, name)


async def _hold(client: AsyncClient, sock: socket.socket, options: HandshakeOptions, met: asyncio.Barrier) -> None:
    """Submit together with the others, and keep the session until all have theirs."""
    await met.wait()
    await client.handshake(sock, options)
    await met.wait()


@KINDS
@ROLES
def test_a_requests_own_policy(role: Role, kind: Kind, own_door: Door, pki: Pki, tmp_path: Path) -> None:
    """Without a profile, from the options."""
    options = (pki.client if role is Role.CLIENT else pki.server)(tls_priorities=AES_256_P384)
    with meeting(role, kind, setup_of(pki, role), tmp_path) as (peer, sock):
        chat(own_door.handshake(sock, options), peer)
        saw_policy(peer, "aes")


def test_a_policy_beside_the_profiles(own_door: Door, pki: Pki, tmp_path: Path) -> None:
    """Both hold: the request narrows the profile's, and a request that would widen it gets no more than that."""
    for policy in ("NORMAL", "SECURE128:-AES-128-GCM"):
        with meeting(Role.CLIENT, "openssl", setup_of(pki, Role.CLIENT), tmp_path) as (peer, sock):
            chat(own_door.handshake(sock, profile("aes", Role.CLIENT, tls_priorities=policy)), peer)
            saw_policy(peer, "aes")
            assert offered(peer).supported_groups == (0x18,)


@KINDS
@pytest.mark.parametrize("name", POLICIES)
def test_a_server_that_cannot_meet_it(name: str, kind: Kind, own_door: Door, pki: Pki, tmp_path: Path) -> None:
    """It refuses our ClientHello with handshake_failure."""
    with meeting(Role.CLIENT, kind, setup_of(pki, Role.CLIENT, **NEITHER), tmp_path) as (_, sock):
        with pytest.raises(HandshakeError, match=Failure.PEER_REFUSED.meaning) as refused:
            own_door.handshake(sock, profile(name, Role.CLIENT))
        assert refused.value.errno == Failure.PEER_REFUSED.errno
        assert "handshake_failure" in str(refused.value)


@KINDS
@pytest.mark.parametrize("name", POLICIES)
def test_a_client_that_cannot_meet_it(name: str, kind: Kind, own_door: Door, pki: Pki, tmp_path: Path) -> None:
    """It hears handshake_failure, and the consumer that nothing is in common."""
    with meeting(Role.SERVER, kind, setup_of(pki, Role.SERVER, **NEITHER), tmp_path) as (peer, sock):
        with pytest.raises(HandshakeError, match=Failure.NO_COMMON_PARAMETERS.meaning) as refused:
            own_door.handshake(sock, profile(name, Role.SERVER))
        assert refused.value.errno == Failure.NO_COMMON_PARAMETERS.errno
        assert peer.alert() == Failure.NO_COMMON_PARAMETERS.alert


@pytest.mark.parametrize(
    ("policy", "words"),
    [(CHACHA20_X25519, "no cipher in common"), ("NORMAL:-GROUP-ALL:+GROUP-X25519", "no group in common")],
)
def test_a_policy_that_the_profile_forbids(policy: str, words: str, own_door: Door, pki: Pki, tmp_path: Path) -> None:
    """Not offered here, before anything is sent but the alert."""
    with meeting(Role.CLIENT, "openssl", setup_of(pki, Role.CLIENT), tmp_path) as (_, sock):
        with pytest.raises(HandshakeError, match=words) as refused:
            own_door.handshake(sock, profile("aes", Role.CLIENT, tls_priorities=policy))
        assert refused.value.errno == Failure.NOT_OFFERED_HERE.errno == errno.EOPNOTSUPP


def test_a_policy_that_the_settings_forbid(own_door: Door, pki: Pki, tmp_path: Path) -> None:
    """X448 is no group of the default settings."""
    with meeting(Role.CLIENT, "openssl", setup_of(pki, Role.CLIENT), tmp_path) as (_, sock):
        options = pki.client(tls_priorities="NORMAL:-GROUP-ALL:+GROUP-X448")
        with pytest.raises(HandshakeError, match="none of the groups in the settings: X25519MLKEM768") as refused:
            own_door.handshake(sock, options)
        assert refused.value.errno == errno.EOPNOTSUPP


def test_a_plugin_that_knows_nothing_of_policies(own_door: Door) -> None:
    """Its requests with a policy are refused."""
    options = HandshakeOptions(group=toy_plugin.GROUP, tls_priorities=AES_256_P384, timeout=TIMEOUT)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as sock,
        pytest.raises(HandshakeError, match="does not keep to TLS policies") as refused,
    ):
        own_door.handshake(sock, options)
    assert refused.value.errno == errno.EOPNOTSUPP
