"""Admission lists: each kind of entry, near misses, and peers that have shown nothing."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from ipaddress import ip_address

import pytest
from cryptography import x509

from hsframework.credentials.admission import AdmissionList, check_admitted
from hsframework.credentials.chain import verifier_for
from hsframework.credentials.judgement import judge_for
from hsframework.errors import ConfigurationError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AuthMode, PeerIdentity, Request, Role, Trust
from hsframework.testing.certificates import Authority

ROOT = Authority("Root of admission")
OTHER = Authority("Another root")
SUBJECT = x509.Name.from_rfc4514_string("CN=nfs1,OU=Storage,O=Example GmbH,C=DE")
NAMES = x509.SubjectAlternativeName(
    [
        x509.DNSName("NFS1.storage.example"),
        x509.DNSName("*.wild.example"),
        x509.IPAddress(ip_address("192.0.2.7")),
        x509.UniformResourceIdentifier("spiffe://fleet.example/storage/nfs1"),
        x509.RFC822Name("Admin@Example.org"),
    ]
)
PEER = ROOT.issue([], subject=SUBJECT, extensions=[(NAMES, False)])
PATH = (*PEER.chain, ROOT.credential.certificate)
LEAF = hashlib.sha256(PATH[0]).hexdigest()
AUTHORITY = hashlib.sha256(PATH[-1]).hexdigest()

ADMITTING = [
    "dns:nfs1.storage.example",
    "dns:NFS1.Storage.Example.",
    "dns:*.storage.example",
    "dns:**.example",
    "dns:nfs*.storage.example",
    "dns:*.wild.example",
    "ip:192.0.2.7",
    "ip:192.0.2.0/24",
    "uri:spiffe://fleet.example/storage/nfs1",
    "uri:spiffe://fleet.example/storage/*",
    "uri:spiffe://fleet.example/**",
    "email:Admin@example.org",
    "email:*@example.org",
    "subject:O=Example GmbH",
    "subject:O=example  gmbh, OU=storage",
    "subject:2.5.4.6=DE",
    "issuer:CN=Root of admission",
    f"sha256:{LEAF}",
    "sha256:" + ":".join(LEAF[i : i + 2].upper() for i in range(0, 64, 2)),
    f"issuer-sha256:{AUTHORITY}",
]
REFUSING = [
    "dns:storage.example",
    "dns:*.example",
    "dns:*.*.storage.example",
    "dns:a.wild.example",
    "dns:192.0.2.7",
    "dns:nfs1",
    "ip:192.0.2.8",
    "ip:::ffff:192.0.2.7",
    "uri:spiffe://fleet.example/*",
    "uri:spiffe://fleet.example/storage/nfs1/x",
    "uri:spiffe://Fleet.example/storage/nfs1",
    "email:admin@example.org",
    "subject:CN=Root of admission",
    "subject:O=Example GmbH,OU=Backup",
    "subject:CN=nfs",
    "issuer:CN=nfs1",
    "issuer:CN=Another root",
    f"sha256:{AUTHORITY}",
    f"issuer-sha256:{LEAF}",
    "psk:nfs1",
]


@pytest.mark.parametrize("entry", ADMITTING)
def test_entries_for_the_peer(entry: str) -> None:
    """Each admits the peer alone, and after others that are for somebody else."""
    for entries in ((entry,), (*REFUSING, entry)):
        check_admitted(entries, PeerIdentity(certificates=PATH))


@pytest.mark.parametrize("entry", REFUSING)
def test_near_misses(entry: str) -> None:
    """NOT_AUTHORIZED, with the peer's subject."""
    with pytest.raises(HandshakeFailed, match="CN=nfs1") as caught:
        check_admitted((entry,), PeerIdentity(certificates=PATH))
    assert caught.value.failure is Failure.NOT_AUTHORIZED


@pytest.mark.parametrize("entries", [(), ("dns:**",), tuple(ADMITTING)], ids=["empty", "any name", "all"])
@pytest.mark.parametrize(
    "peer", [PeerIdentity(), PeerIdentity(public_key=b"key"), PeerIdentity(psk_identity=b"nqn")], ids=str
)
def test_a_peer_without_a_certificate_is_not_admitted(peer: PeerIdentity, entries: tuple[str, ...]) -> None:
    """A list admits what it names: nobody who has shown nothing of the kind.  Without a list all are admitted."""
    with pytest.raises(HandshakeFailed) as caught:
        check_admitted(entries, peer)
    assert caught.value.failure is Failure.NOT_AUTHORIZED
    check_admitted(None, peer)


def test_pre_shared_keys_are_named_by_their_identity() -> None:
    """By the whole of it, or by a pattern; a name of a certificate is no identity."""
    peer = PeerIdentity(psk_identity=b"NVMe1R01 nqn.host1 nqn.target")
    check_admitted(("psk:NVMe1R01 nqn.host1 nqn.target",), peer)
    check_admitted(("psk:NVMe1R01 nqn.host1 **",), peer)
    for entry in ("psk:NVMe1R01 nqn.host1", "psk:nqn.host1 **", "dns:**"):
        with pytest.raises(HandshakeFailed):
            check_admitted((entry,), peer)


def test_a_certificate_that_cannot_be_read_is_not_admitted() -> None:
    """BAD_CERTIFICATE, though the list has its fingerprint's neighbours."""
    for damaged in (b"", b"\x30\x03abc", PATH[0][:-9]):
        with pytest.raises(HandshakeFailed) as caught:
            check_admitted(("dns:**",), PeerIdentity(certificates=(damaged,)))
        assert caught.value.failure is Failure.BAD_CERTIFICATE


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("nfs1.example", "KIND:PATTERN"),
        ("host:nfs1", "KIND:PATTERN"),
        ("dns:", "a pattern follows"),
        ("dns:a\nuri:b", "without control characters"),
        ("dns:***.example", "one label"),
        ("dns:*.*.*.example", "one label"),
        ("ip:192.0.2.7/24", "host bits"),
        ("uri:fleet.example/x", "whole URI"),
        ("subject:Example", "RFC 4514"),
        ("issuer:FOO=bar", "RFC 4514"),
        ("sha256:abcd", "64 hexadecimal digits"),
    ],
)
def test_entries_that_are_not_understood(entry: str, words: str) -> None:
    """The entry is named, and what belongs there."""
    with pytest.raises(ConfigurationError, match=words):
        AdmissionList((entry,))


def test_a_list_that_cannot_be_read_admits_nobody() -> None:
    """A damaged list is a fault of the service, and no list that is passed over."""
    with pytest.raises(HandshakeFailed) as caught:
        check_admitted(("dns:**", "nonsense"), PeerIdentity(certificates=PATH))
    assert caught.value.failure is Failure.INTERNAL


def test_long_names_match_no_star() -> None:
    """A peer that chooses a name of many thousand characters makes no pattern run over it."""
    peer = PeerIdentity(psk_identity=b"a" * 60_000)
    with pytest.raises(HandshakeFailed):
        check_admitted(("psk:**a**b",), peer)
    check_admitted(("psk:" + "a" * 60_000,), peer)


def request_of(role: Role, trust: Trust) -> Request:
    return Request(
        id=1, group="tlshd", role=role, auth_mode=AuthMode.X509, deadline=0.0, trust=trust,
        any_peer_name=role is Role.CLIENT,
    )  # fmt: skip


@pytest.mark.parametrize("role", list(Role))
def test_the_judge_enforces_the_list(role: Role) -> None:
    """Of two peers of one authority, the one on the list is admitted; a stranger of its name is not trusted."""
    good, other = ROOT.issue(["good.example"]), ROOT.issue(["other.example"])
    trust = replace(ROOT.trust(), admit=("dns:good.example",))
    verify = judge_for(request_of(role, trust))
    assert verify(good.chain)[0] == good.certificate
    with pytest.raises(HandshakeFailed) as caught:
        verify(other.chain)
    assert caught.value.failure is Failure.NOT_AUTHORIZED
    with pytest.raises(HandshakeFailed) as caught:
        verify(OTHER.issue(["good.example"]).chain)
    assert caught.value.failure is Failure.UNTRUSTED


def test_profiles_with_lists_share_a_verifier() -> None:
    """The authorities are read once, and a verdict that is remembered for one list is none for another."""
    lists = [replace(ROOT.trust(), admit=(f"dns:{name}.example",)) for name in ("good", "other")]
    assert len({trust.digest for trust in (*lists, ROOT.trust(), replace(ROOT.trust(), admit=()))}) == 4
    assert verifier_for(lists[0].of_anybody) is verifier_for(lists[1].of_anybody) is verifier_for(ROOT.trust())
    good = ROOT.issue(["good.example"])
    judge_for(request_of(Role.SERVER, lists[0]))(good.chain)
    with pytest.raises(HandshakeFailed):
        judge_for(request_of(Role.SERVER, lists[1]))(good.chain)
