"""Certificates through the whole path: our client with their server, their client with our server."""

from __future__ import annotations

from pathlib import Path

import pytest

from hsframework.interface import CertificateDemand, Role, Trust
from tests.support.doors import Door
from tests.support.meetings import Pki, chat, meeting
from tests.support.peer_programs import Kind, Setup

pytestmark = pytest.mark.peers
KINDS = pytest.mark.parametrize("kind", ["openssl", "gnutls"])
ONLY_P384 = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-SECP384R1"


@KINDS
def test_anonymous_client(kind: Kind, door: Door, pki: Pki, tmp_path: Path) -> None:
    """We show nothing and verify the server's chain, with its intermediate; what we learn is what was verified."""
    with meeting(Role.CLIENT, kind, Setup(identity=pki.files("good")), tmp_path) as (peer, sock):
        talk = door.handshake(sock, pki.client())
        chat(talk, peer)
        session = talk.session
        assert session.protocol == "tls13"
        assert session.peer.certificates[:2] == pki.leaf("good").chain
        assert not session.in_kernel
        assert session.tags["version"] == "TLSv1.3"


@KINDS
def test_server_for_an_anonymous_client(kind: Kind, door: Door, pki: Pki, tmp_path: Path) -> None:
    """The peer verifies our chain, with its intermediate, and our name; it shows nothing."""
    with meeting(Role.SERVER, kind, Setup(trust=pki.ca, name="server.example"), tmp_path) as (peer, sock):
        talk = door.handshake(sock, pki.server())
        chat(talk, peer)
        assert talk.session.peer.certificates == ()
        talk.close()
        peer.saw(r"Verification: OK|Status: The certificate is trusted")


@KINDS
@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("key_type", ["rsa-2048", "ecdsa-p256", "ecdsa-p384", "ed25519"])
def test_key_types(kind: Kind, role: Role, key_type: str, sync_door: Door, pki: Pki, tmp_path: Path) -> None:
    """A server's certificate of each type, theirs and ours."""
    if role is Role.CLIENT:
        setup, options = Setup(identity=pki.files(key_type)), pki.client()
    else:
        setup = Setup(trust=pki.ca, name="server.example")
        options = pki.server(identities=(pki.leaf(key_type).identity,))
    with meeting(role, kind, setup, tmp_path) as (peer, sock):
        talk = sync_door.handshake(sock, options)
        chat(talk, peer)
        if role is Role.CLIENT:
            assert talk.session.peer.certificates[0] == pki.leaf(key_type).certificate


@KINDS
@pytest.mark.parametrize("role", list(Role))
def test_mutual(kind: Kind, role: Role, door: Door, pki: Pki, tmp_path: Path) -> None:
    """Both sides show a certificate, both demand one."""
    theirs, ours = pki.leaf("rsa-2048"), pki.leaf("good")
    setup = Setup(identity=pki.files(theirs), trust=pki.ca, name="server.example")
    if role is Role.CLIENT:
        options = pki.client(identities=(ours.identity,))
    else:
        options = pki.server(trust=pki.trust, client_certificate=CertificateDemand.REQUIRE)
    with meeting(role, kind, setup, tmp_path) as (peer, sock):
        talk = door.handshake(sock, options)
        chat(talk, peer)
        assert talk.session.peer.certificates[:2] == theirs.chain


@KINDS
def test_certificate_asked_for_and_not_shown(kind: Kind, sync_door: Door, pki: Pki, tmp_path: Path) -> None:
    """A server that asks and does not require serves an anonymous client."""
    options = pki.server(trust=pki.trust, client_certificate=CertificateDemand.REQUEST)
    with meeting(Role.SERVER, kind, Setup(), tmp_path) as (peer, sock):
        talk = sync_door.handshake(sock, options)
        chat(talk, peer)
        assert talk.session.peer.certificates == ()


@KINDS
def test_ip_address(kind: Kind, sync_door: Door, pki: Pki, tmp_path: Path) -> None:
    """A peer that is known by its address alone proves it by an IP SAN."""
    with meeting(Role.CLIENT, kind, Setup(identity=pki.files("good")), tmp_path) as (peer, sock):
        chat(sync_door.handshake(sock, pki.client(peer_name="127.0.0.1")), peer)


def test_name_reaches_openssl(sync_door: Door, pki: Pki, tmp_path: Path) -> None:
    """A server with two certificates chooses by the name that we ask for (SNI)."""
    other = pki.issuing.issue(["other.example"])
    files = pki.files(other)
    words: list[str | Path] = ["-servername", "other.example", "-cert2", files.certificate, "-key2", files.private_key]
    setup = Setup(identity=pki.files("good"), openssl=words)
    # For its second certificate s_server sends no chain.
    trust = Trust((*pki.trust.anchors, pki.issuing.certificate))
    for name, shown in (("other.example", other), ("server.example", pki.leaf("good"))):
        with meeting(Role.CLIENT, "openssl", setup, tmp_path) as (peer, sock):
            talk = sync_door.handshake(sock, pki.client(peer_name=name, trust=trust))
            assert talk.session.peer.certificates[0] == shown.certificate
            chat(talk, peer)


def test_name_reaches_gnutls(sync_door: Door, pki: Pki, tmp_path: Path) -> None:
    """A server that insists on its name (SNI) lets us in."""
    setup = Setup(identity=pki.files("good"), gnutls=["--sni-hostname", "server.example", "--sni-hostname-fatal"])
    with meeting(Role.CLIENT, "gnutls", setup, tmp_path) as (peer, sock):
        chat(sync_door.handshake(sock, pki.client()), peer)
        peer.saw(r"Given server name\[1\]: server\.example")


@KINDS
@pytest.mark.parametrize("name", ["one.example", "two.example"])
def test_name_chooses_our_certificate(kind: Kind, name: str, sync_door: Door, pki: Pki, tmp_path: Path) -> None:
    """Of two certificates of ours the one with the name that the peer asks for (SNI) is shown."""
    identities = tuple(pki.issuing.issue([each]).identity for each in ("one.example", "two.example"))
    with meeting(Role.SERVER, kind, Setup(trust=pki.ca, name=name), tmp_path) as (peer, sock):
        talk = sync_door.handshake(sock, pki.server(identities=identities))
        chat(talk, peer)
        talk.close()
        peer.saw(rf"Verified peername: {name}|Status: The certificate is trusted")


@KINDS
@pytest.mark.parametrize("role", list(Role))
def test_alpn(kind: Kind, role: Role, door: Door, pki: Pki, tmp_path: Path) -> None:
    """sunrpc, which NFS uses, is agreed on although others are offered."""
    setup = Setup(identity=pki.files("good") if role is Role.CLIENT else None, alpn=("sunrpc",))
    alpn = ("h2", "sunrpc")
    options = pki.client(alpn=alpn) if role is Role.CLIENT else pki.server(alpn=alpn)
    with meeting(role, kind, setup, tmp_path) as (peer, sock):
        talk = door.handshake(sock, options)
        assert talk.session.alpn == "sunrpc"
        chat(talk, peer)


@pytest.mark.parametrize(("signatures", "shown"), [("RSA-PSS+SHA256", "rsa-2048"), ("ECDSA+SHA256", "ecdsa-p256")])
def test_signature_algorithms_choose_our_certificate(
    signatures: str, shown: str, sync_door: Door, pki: Pki, tmp_path: Path
) -> None:
    """A server of ours with an RSA and an ECDSA identity shows the one that the client can verify."""
    identities = tuple(pki.leaf(each).identity for each in ("rsa-2048", "ecdsa-p256"))
    setup = Setup(trust=pki.ca, name="server.example", openssl=["-sigalgs", signatures])
    with meeting(Role.SERVER, "openssl", setup, tmp_path) as (peer, sock):
        chat(sync_door.handshake(sock, pki.server(identities=identities)), peer)
        peer.saw("(?i)Signature type: " + ("RSA.PSS" if shown == "rsa-2048" else "ECDSA"))


@pytest.mark.parametrize(("signatures", "shown"), [("RSA-PSS+SHA256", "rsa"), ("ECDSA+SHA256", "ecdsa")])
def test_signature_algorithms_choose_our_client_certificate(
    signatures: str, shown: str, sync_door: Door, pki: Pki, tmp_path: Path
) -> None:
    """A client of ours with two identities shows the one that the server can verify."""
    ours = [pki.issuing.issue([], key, subject=name) for name, key in (("rsa", "rsa-2048"), ("ecdsa", "ecdsa-p256"))]
    setup = Setup(identity=pki.files("good"), trust=pki.ca, openssl=["-client_sigalgs", signatures])
    with meeting(Role.CLIENT, "openssl", setup, tmp_path) as (peer, sock):
        chat(sync_door.handshake(sock, pki.client(identities=tuple(each.identity for each in ours))), peer)
        peer.saw(rf"depth=0 CN ?= ?{shown}$")


@KINDS
def test_hello_retry_request_from_the_peer(kind: Kind, sync_door: Door, pki: Pki, tmp_path: Path) -> None:
    """A server that knows only P-384, for which we send no key share at first, asks for one and gets it."""
    setup = Setup(identity=pki.files("good"), openssl=["-groups", "P-384"], priority=ONLY_P384)
    with meeting(Role.CLIENT, kind, setup, tmp_path) as (peer, sock):
        talk = sync_door.handshake(sock, pki.client())
        assert talk.session.tags["group"] == "secp384r1"
        chat(talk, peer)
        hello = r"<<< .*, ClientHello" if kind == "openssl" else r"CLIENT HELLO \(1\) was received"
        peer.saw(rf"{hello}[\s\S]*{hello}")


def test_hello_retry_request_from_us(sync_door: Door, pki: Pki, tmp_path: Path) -> None:
    """A client whose only key share is for a group that we do not take is asked for another."""
    setup = Setup(trust=pki.ca, name="server.example", openssl=["-groups", "X448:P-384"])
    with meeting(Role.SERVER, "openssl", setup, tmp_path) as (peer, sock):
        talk = sync_door.handshake(sock, pki.server())
        assert talk.session.tags["group"] == "secp384r1"
        chat(talk, peer)
        peer.saw(r">>> .*, ClientHello[\s\S]*>>> .*, ClientHello")


def test_hello_retry_request_from_us_to_gnutls(sync_door: Door, pki: Pki, tmp_path: Path) -> None:
    """The same with GnuTLS."""
    setup = Setup(
        trust=pki.ca,
        name="server.example",
        priority="NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-X448:+GROUP-SECP384R1",
        gnutls=["--single-key-share"],
    )
    with meeting(Role.SERVER, "gnutls", setup, tmp_path) as (peer, sock):
        talk = sync_door.handshake(sock, pki.server())
        assert talk.session.tags["group"] == "secp384r1"
        chat(talk, peer)
