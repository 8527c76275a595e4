"""Chains: which are accepted, and as what the others fail."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hsframework.caches import DEFAULT_BYTES, SizedCache
from hsframework.credentials import (
    certificate as certificate_module,
    chain as chain_module,
    der,
    paths,
    revocation as revocation_module,
)
from hsframework.credentials.certificate import ParsedCertificate
from hsframework.credentials.chain import ChainVerifier, Purpose, VerifiedChain, verifier_for, verify_chain
from hsframework.errors import ConfigurationError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Trust
from hsframework.testing.certificates import CLIENT, KEY_TYPES, SERVER, Authority, Credential, self_signed
from tests.support import chains

NAME = "server.example"


def now() -> datetime:
    return datetime.now(UTC)


def verify(
    chain: tuple[bytes, ...] | Credential,
    trust: Trust,
    *,
    purpose: Purpose = Purpose.SERVER_AUTH,
    peer_name: str | None = NAME,
    at: datetime | None = None,
) -> VerifiedChain:
    sent = chain.chain if isinstance(chain, Credential) else chain
    return verify_chain(sent, trust, purpose=purpose, peer_name=peer_name, now=at or now())


def refused(
    chain: tuple[bytes, ...] | Credential,
    trust: Trust,
    failure: Failure,
    detail: str = "",
    *,
    purpose: Purpose = Purpose.SERVER_AUTH,
    peer_name: str | None = NAME,
    at: datetime | None = None,
) -> str:
    """Verify a chain that must fail as expected, and return the failure's detail."""
    with pytest.raises(HandshakeFailed) as caught:
        verify(chain, trust, purpose=purpose, peer_name=peer_name, at=at)
    assert caught.value.failure is failure, str(caught.value)
    assert detail in caught.value.detail
    return caught.value.detail


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority("Chain Root")


# --- what is believed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_every_key_type(key_type: str) -> None:
    """Leaf, intermediate and root of each key type make a chain, returned from the leaf to the anchor."""
    authority = Authority("Root", key_type)
    leaf = authority.intermediate("Issuing", key_type).issue([NAME], key_type)
    assert verify(leaf, authority.trust()) == (*leaf.chain, authority.certificate)


@pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_rsa_pss(algorithm: hashes.SHA256 | hashes.SHA384 | hashes.SHA512) -> None:
    """Certificates signed with RSA-PSS verify with each of the three hashes."""
    authority = Authority("Root", "rsa-2048")
    leaf = authority.issue([NAME], pss=True, hash=algorithm)
    assert verify(leaf, authority.trust())


def test_order_extras_and_the_anchor_do_not_matter(root: Authority) -> None:
    """Behind the leaf the peer may send certificates in any order, others' too, the anchor and duplicates."""
    upper = root.intermediate("Upper")
    lower = upper.intermediate("Lower")
    leaf = lower.issue([NAME])
    stranger = Authority("Stranger")
    sent = (
        leaf.certificate,
        root.certificate,
        upper.certificate,
        stranger.certificate,
        lower.certificate,
        leaf.certificate,
    )
    expected = (leaf.certificate, lower.certificate, upper.certificate, root.certificate)
    assert verify(sent, root.trust()) == expected


def test_a_pinned_leaf(root: Authority) -> None:
    """A leaf that is in the trust itself is its own path, self-signed or not; another with its name is not."""
    pinned = self_signed([NAME])
    assert verify(pinned, Trust((pinned.certificate,))) == pinned.chain
    issued = root.issue([NAME])
    assert verify(issued, Trust((issued.certificate,))) == issued.chain
    refused(self_signed([NAME]), Trust((pinned.certificate,)), Failure.UNTRUSTED, "another key")


def test_a_pinned_leaf_is_no_authority() -> None:
    """A pinned leaf that signs another certificate does not make it trusted."""
    pinned = Authority(NAME, ca=False, key_usage=None)
    assert verify(pinned.credential, pinned.trust(), peer_name=None)
    refused(pinned.issue([NAME]), pinned.trust(), Failure.WRONG_USAGE, "CA:FALSE")


def test_a_pinned_leaf_keeps_the_rules() -> None:
    """Being in the trust does not spare a certificate its dates, its usage or its name."""
    expired = self_signed([NAME], not_after=now() - timedelta(minutes=5))
    refused(expired, Trust(expired.chain), Failure.EXPIRED)
    client = self_signed([NAME], usages=[CLIENT])
    refused(client, Trust(client.chain), Failure.WRONG_USAGE)
    refused(self_signed_trusted := self_signed(["other.example"]), Trust(self_signed_trusted.chain), Failure.WRONG_NAME)


def test_an_intermediate_as_anchor(root: Authority) -> None:
    """An intermediate in the trust ends the path; its root need not be known."""
    issuing = root.intermediate("Issuing")
    leaf = issuing.issue([NAME])
    assert verify(leaf, Trust((issuing.certificate,))) == (leaf.certificate, issuing.certificate)


def test_cross_signed_with_one_good_way() -> None:
    """Of two issuers with one name and key, one under an expired root, the good one is found in either order."""
    old = Authority("Old Root", not_after=now() - timedelta(days=1))
    new, middle_root = Authority("New Root"), Authority("Middle")
    leaf = middle_root.issue([NAME])
    by_old, by_new = old.cross_sign(middle_root), new.cross_sign(middle_root)
    both = Trust((old.certificate, new.certificate))
    for sent in ((by_old, by_new), (by_new, by_old)):
        assert verify((leaf.certificate, *sent), both) == (leaf.certificate, by_new, new.certificate)
    refused((leaf.certificate, by_old, by_new), Trust((old.certificate,)), Failure.EXPIRED, "Old Root")


def test_roots_of_one_name() -> None:
    """Of several anchors with the same name the one that signed is found."""
    roots = [Authority("Same Name", key_identifiers=False) for _ in range(5)]
    trust = Trust(tuple(r.certificate for r in roots))
    for each in roots:
        assert verify(each.issue([NAME]), trust)[-1] == each.certificate


def test_cross_signing_in_a_circle(root: Authority) -> None:
    """Authorities that certify each other make no endless path, and do not hide the good one."""
    a, b = Authority("A"), Authority("B")
    leaf = a.issue([NAME])
    circle = (leaf.certificate, b.cross_sign(a), a.cross_sign(b))
    refused(circle, root.trust(), Failure.UNTRUSTED)
    assert verify((*circle, root.cross_sign(b)), root.trust())[-1] == root.certificate


def test_version_1_anchor() -> None:
    """An anchor from before X.509v3, which has no basic constraints, is an authority; one with v3 is not."""
    v3 = Authority("Old", ca=None, key_usage=None)
    refused(v3.issue([NAME]), v3.trust(), Failure.WRONG_USAGE, "no basic constraints")
    leaf, old = chains.straight().path
    old.version = None
    old.extensions.clear()
    anchor = old.der()
    assert x509.load_der_x509_certificate(anchor).version is x509.Version.v1
    sent, trust = (leaf.der(),), Trust((anchor,))
    accepted = verify_chain(sent, trust, purpose=Purpose.SERVER_AUTH, peer_name=chains.NAME, now=chains.NOW)
    assert accepted[-1] == anchor


def _written(directory: object, data: bytes) -> str:
    path = f"{directory}/request.pem"
    with open(path, "wb") as file:
        file.write(data)
    return path


# --- each failure -----------------------------------------------------------------------------------------------


def test_no_certificate(root: Authority) -> None:
    """An empty chain is a peer that showed none."""
    refused((), root.trust(), Failure.NO_PEER_CERTIFICATE)


def test_untrusted(root: Authority) -> None:
    """No anchor, another anchor, a missing intermediate and an unknown self-signed leaf: UNTRUSTED, and says where."""
    leaf = root.intermediate("Missing").issue([NAME])
    refused(leaf, Trust(()), Failure.UNTRUSTED)
    refused(leaf, Authority("Else").trust(), Failure.UNTRUSTED, "issuer of CN=Missing")
    refused((leaf.certificate,), root.trust(), Failure.UNTRUSTED, f"issuer of CN={NAME}")
    refused(self_signed([NAME]), root.trust(), Failure.UNTRUSTED, "its own issuer")
    refused(leaf, Authority("Chain Root").trust(), Failure.UNTRUSTED, "another key")


def test_wrong_signatures(root: Authority) -> None:
    """A spoiled signature on the leaf or above it is BAD_CERTIFICATE."""
    refused(root.issue([NAME], spoil_signature=True), root.trust(), Failure.BAD_CERTIFICATE, "signature")
    spoiled = root.intermediate("Spoiled", spoil_signature=True)
    refused(spoiled.issue([NAME]), root.trust(), Failure.BAD_CERTIFICATE, "on CN=Spoiled")
    impostor = Authority("Chain Root", key_identifiers=False)
    refused(impostor.issue([NAME], key_identifiers=False), root.trust(), Failure.BAD_CERTIFICATE)


def test_malformed(root: Authority) -> None:
    """Bytes that are no certificate are BAD_CERTIFICATE, as leaf, behind it, cut short or with bytes behind it."""
    leaf = root.issue([NAME]).certificate
    for chain in ((b"",), (b"\x30\x00",), (b"nonsense",), (leaf[:-1],), (leaf + b"\0",), (leaf, b"nonsense")):
        refused(chain, root.trust(), Failure.BAD_CERTIFICATE)


def test_weak(root: Authority) -> None:
    """Small keys, at every level, and SHA-1 and SHA-224 signatures below the anchor are BAD_CERTIFICATE."""
    refused(root.issue([NAME], "rsa-1024"), root.trust(), Failure.BAD_CERTIFICATE, "1024 bits")
    refused(root.issue([NAME], "ecdsa-p224"), root.trust(), Failure.BAD_CERTIFICATE, "secp224r1")
    refused(root.intermediate("Weak", "rsa-1024").issue([NAME]), root.trust(), Failure.BAD_CERTIFICATE, "CN=Weak")
    small = Authority("Small Root", "rsa-1024")
    refused(small.issue([NAME]), small.trust(), Failure.BAD_CERTIFICATE, "Small Root")
    refused(root.issue([NAME], hash=hashes.SHA224()), root.trust(), Failure.BAD_CERTIFICATE, "weak")
    rsa_root = Authority("RSA Root", "rsa-2048")
    refused(rsa_root.issue([NAME], hash=hashes.SHA224(), pss=True), rsa_root.trust(), Failure.BAD_CERTIFICATE, "PSS")


def test_sha1(tmp_path: object) -> None:
    """A leaf that OpenSSL signed with SHA-1 is refused under a good root."""
    authority = Authority("Root", "rsa-2048")
    files = authority.credential.write(str(tmp_path))
    request = subprocess.run(
        ["openssl", "req", "-new", "-key", files.private_key, "-subj", f"/CN={NAME}"], capture_output=True, check=True
    )
    made = subprocess.run(
        ["openssl", "x509", "-req", "-sha1", "-CA", files.certificate, "-CAkey", files.private_key,
         "-in", _written(tmp_path, request.stdout), "-outform", "DER"],
        capture_output=True, check=True,
    )  # fmt: skip
    refused((made.stdout,), authority.trust(), Failure.BAD_CERTIFICATE, "1.2.840.113549.1.1.5")


def test_expired_and_not_yet_valid(root: Authority) -> None:
    """Leaf, intermediate and anchor out of their dates are EXPIRED, to the second, and the detail says which."""
    moment = now().replace(microsecond=0)
    leaf = root.issue([NAME], not_before=moment - timedelta(minutes=2), not_after=moment - timedelta(minutes=1))
    refused(leaf, root.trust(), Failure.EXPIRED, f"CN={NAME} expired on")
    assert verify(leaf, root.trust(), at=moment - timedelta(minutes=1))
    refused(leaf, root.trust(), Failure.EXPIRED, at=moment - timedelta(minutes=1) + timedelta(seconds=1))
    refused(leaf, root.trust(), Failure.EXPIRED, "valid from", at=moment - timedelta(minutes=3))
    tomorrow = root.issue([NAME], not_before=moment + timedelta(days=1), not_after=moment + timedelta(days=2))
    refused(tomorrow, root.trust(), Failure.EXPIRED, "valid from")
    refused(root.intermediate("Old", not_after=moment).issue([NAME]), root.trust(), Failure.EXPIRED, "CN=Old",
            at=moment + timedelta(seconds=1))  # fmt: skip
    old_root = Authority("Old Root", not_after=moment - timedelta(days=1))
    refused(old_root.issue([NAME]), old_root.trust(), Failure.EXPIRED, "Old Root")


def test_extended_key_usage(root: Authority) -> None:
    """The leaf, and an authority that limits itself, must allow the purpose by name; no extension allows all."""
    server, client = root.issue([NAME], usages=[SERVER]), root.issue([NAME], usages=[CLIENT])
    assert verify(server, root.trust())
    assert verify(client, root.trust(), purpose=Purpose.CLIENT_AUTH, peer_name=None)
    refused(client, root.trust(), Failure.WRONG_USAGE, "no SERVER_AUTH")
    refused(server, root.trust(), Failure.WRONG_USAGE, "no CLIENT_AUTH", purpose=Purpose.CLIENT_AUTH)
    assert verify(root.issue([NAME], usages=None), root.trust())
    any_usage = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
    refused(root.issue([NAME], usages=[any_usage]), root.trust(), Failure.WRONG_USAGE)
    limited = root.intermediate("Clients Only", usages=[CLIENT])
    refused(limited.issue([NAME]), root.trust(), Failure.WRONG_USAGE, "Clients Only")
    limited_root = Authority("Clients Root", usages=[CLIENT])
    refused(limited_root.issue([NAME]), limited_root.trust(), Failure.WRONG_USAGE, "Clients Root")


def test_key_usage(root: Authority) -> None:
    """A leaf that has a key usage needs digitalSignature, an authority keyCertSign."""
    assert verify(root.issue([NAME], key_usage=None), root.trust())
    refused(root.issue([NAME], key_usage=["key_encipherment"]), root.trust(), Failure.WRONG_USAGE, "digitalSignature")
    unsigning = root.intermediate("Unsigning", key_usage=["crl_sign"])
    refused(unsigning.issue([NAME]), root.trust(), Failure.WRONG_USAGE, "keyCertSign")
    assert verify(root.intermediate("Unlimited", key_usage=None).issue([NAME]), root.trust())


def test_basic_constraints(root: Authority) -> None:
    """A leaf is no authority, and neither is a certificate that does not say so."""
    leaf_as_authority = root.intermediate("Not A CA", ca=False, key_usage=None)
    refused(leaf_as_authority.issue([NAME]), root.trust(), Failure.WRONG_USAGE, "CA:FALSE")
    silent = root.intermediate("Silent", ca=None)
    refused(silent.issue([NAME]), root.trust(), Failure.WRONG_USAGE, "no basic constraints")
    assert verify(root.issue([NAME], ca=True), root.trust())


def test_path_length() -> None:
    """A path length counts the authorities below that are not self-issued, the leaf not among them."""
    authority = Authority("Short", path_length=0)
    assert verify(authority.issue([NAME]), authority.trust())
    below = authority.intermediate("One Below")
    refused(below.issue([NAME]), authority.trust(), Failure.WRONG_USAGE, "allows 0")
    one = Authority("One", path_length=1)
    assert verify(one.intermediate("First").issue([NAME]), one.trust())
    refused(
        one.intermediate("First").intermediate("Second").issue([NAME]), one.trust(), Failure.WRONG_USAGE, "allows 1"
    )
    rolled = Authority("Short", parent=authority)  # self-issued: a new key under the same name
    assert verify(rolled.issue([NAME]), authority.trust())


def test_unknown_critical_extension(root: Authority) -> None:
    """A critical extension that is not processed is refused in a leaf and above it; not critical, it is ignored."""
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    assert verify(root.issue([NAME], extensions=[(odd, False)]), root.trust())
    refused(root.issue([NAME], extensions=[(odd, True)]), root.trust(), Failure.BAD_CERTIFICATE, "99999")
    above = root.intermediate("Odd", extensions=[(odd, True)])
    refused(above.issue([NAME]), root.trust(), Failure.BAD_CERTIFICATE, "CN=Odd")
    explicit = root.intermediate("Policy", extensions=[(x509.PolicyConstraints(0, None), True)])
    refused(explicit.issue([NAME]), root.trust(), Failure.UNTRUSTED, "explicit policy")


def test_wrong_name(root: Authority) -> None:
    """A leaf that does not name the peer is WRONG_NAME; with no name to check any leaf will do."""
    leaf = root.issue(["a.example", "192.0.2.7"])
    detail = refused(leaf, root.trust(), Failure.WRONG_NAME)
    assert detail == "expected 'server.example', the certificate has a.example, 192.0.2.7"
    assert verify(leaf, root.trust(), peer_name=None)


def test_most_useful_failure_first(root: Authority) -> None:
    """Of several things that are wrong: trust, then dates, then revocation, then usage, then name."""
    past = now() - timedelta(minutes=1)
    worst = root.issue(["other.example"], usages=[CLIENT], not_after=past)
    refused(worst, Authority("Else").trust(), Failure.UNTRUSTED)
    refused(worst, root.trust(root.crl([worst])), Failure.EXPIRED)
    bad = root.issue(["other.example"], usages=[CLIENT])
    refused(bad, root.trust(root.crl([bad])), Failure.REVOKED)
    refused(bad, root.trust(), Failure.WRONG_USAGE)


def test_control_characters_do_not_reach_the_detail(root: Authority) -> None:
    """A hostile subject cannot write lines or terminal controls into a log."""
    hostile = self_signed([NAME], subject="a\nFAKE LOG LINE \x1b[31m\u202e")
    detail = refused(hostile, root.trust(), Failure.UNTRUSTED)
    assert detail.isprintable()
    assert detail.isascii()


def test_odd_certificates_do_not_warn(root: Authority) -> None:
    """A certificate for which the parser has a warning is judged without one (warnings are errors in the tests)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        country = x509.NameAttribute(NameOID.COUNTRY_NAME, "Bohemia", _validate=False)
        leaf = root.issue([NAME], subject=x509.Name([country]))
    assert verify(leaf, root.trust())


# --- bounds -----------------------------------------------------------------------------------------------------


def test_too_much_sent(root: Authority) -> None:
    """A peer that sends more certificates, or more bytes of them, than are allowed is refused."""
    leaf = root.issue([NAME]).certificate
    assert verify((leaf,) * paths.MAX_SENT, root.trust())
    refused((leaf,) * (paths.MAX_SENT + 1), root.trust(), Failure.BAD_CERTIFICATE, "more than")
    refused((leaf, bytes(paths.MAX_SENT_BYTES)), root.trust(), Failure.BAD_CERTIFICATE, "more than")


def test_depth(root: Authority) -> None:
    """A path of the greatest depth is accepted, one longer is not."""
    authority = root
    for depth in range(paths.MAX_DEPTH - 2):
        authority = authority.intermediate(f"Level {depth}")
    assert len(verify(authority.issue([NAME]), root.trust())) == paths.MAX_DEPTH
    refused(authority.intermediate("Too Deep").issue([NAME]), root.trust(), Failure.UNTRUSTED, "more than 10")


def test_a_tangle_is_given_up(root: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Authorities that all certify each other, with exponentially many paths, cost a bounded number of steps."""
    followed: list[object] = []
    real = paths.Search._problem_of_step

    def counting(search: paths.Search, child: ParsedCertificate, issuer: ParsedCertificate) -> HandshakeFailed | None:
        followed.append((child, issuer))
        return real(search, child, issuer)

    monkeypatch.setattr(paths.Search, "_problem_of_step", counting)
    knots = [Authority(f"Knot {n}") for n in range(5)]
    mesh = [a.cross_sign(b) for a in knots for b in knots if a is not b][: paths.MAX_SENT - 1]
    leaf = knots[0].issue([NAME])
    refused((leaf.certificate, *mesh), root.trust(), Failure.UNTRUSTED, "steps")
    assert 0 < len(followed) <= paths.MAX_STEPS + 1


# --- the verifier and what it keeps ------------------------------------------------------------------------------


def test_success_is_kept_until_it_expires(root: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second look at the same chain, name and purpose checks no signature; after a certificate's end it fails."""
    leaf = root.issue([NAME], not_after=now() + timedelta(minutes=10))
    verifier = ChainVerifier(root.trust())
    args = {"purpose": Purpose.SERVER_AUTH, "peer_name": NAME}
    first = verifier.verify(leaf.chain, now=now(), **args)  # type: ignore[arg-type]
    monkeypatch.setattr(verifier, "_verify", None)
    copied = tuple(bytes(bytearray(der)) for der in leaf.chain)
    assert verifier.verify(copied, now=now(), **args) is first  # type: ignore[arg-type]
    monkeypatch.undo()
    for moment in (now() + timedelta(minutes=11), now() - timedelta(days=1)):
        with pytest.raises(HandshakeFailed) as caught:
            verifier.verify(leaf.chain, now=moment, **args)  # type: ignore[arg-type]
        assert caught.value.failure is Failure.EXPIRED


def test_success_is_kept_for_its_name_and_purpose_only(root: Authority) -> None:
    """A chain that was accepted for one name or purpose is checked anew for another."""
    leaf = root.issue([NAME], usages=[SERVER])
    verifier = ChainVerifier(root.trust())
    verifier.verify(leaf.chain, purpose=Purpose.SERVER_AUTH, peer_name=NAME, now=now())
    with pytest.raises(HandshakeFailed, match="does not name"):
        verifier.verify(leaf.chain, purpose=Purpose.SERVER_AUTH, peer_name="else.example", now=now())
    with pytest.raises(HandshakeFailed, match="CLIENT_AUTH"):
        verifier.verify(leaf.chain, purpose=Purpose.CLIENT_AUTH, peer_name=NAME, now=now())


def test_success_is_kept_until_the_list_is_due(root: Authority) -> None:
    """A result that rests on a revocation list falls with the list's nextUpdate."""
    due = now() + timedelta(minutes=10)
    leaf, verifier = root.issue([NAME]), ChainVerifier(root.trust(root.crl(next_update=due)))
    assert verifier.verify(leaf.chain, purpose=Purpose.SERVER_AUTH, peer_name=NAME, now=now())
    with pytest.raises(HandshakeFailed, match="was to be replaced"):
        verifier.verify(leaf.chain, purpose=Purpose.SERVER_AUTH, peer_name=NAME, now=due + timedelta(minutes=1))


def test_failure_is_not_kept(root: Authority) -> None:
    """A chain that was not valid yet is accepted once it is."""
    start = now() + timedelta(minutes=5)
    leaf, verifier = root.issue([NAME], not_before=start), ChainVerifier(root.trust())
    with pytest.raises(HandshakeFailed):
        verifier.verify(leaf.chain, purpose=Purpose.SERVER_AUTH, peer_name=NAME, now=now())
    assert verifier.verify(leaf.chain, purpose=Purpose.SERVER_AUTH, peer_name=NAME, now=start + timedelta(minutes=1))


@pytest.fixture
def caches(monkeypatch: pytest.MonkeyPatch) -> tuple[SizedCache[Any, Any], SizedCache[Any, Any]]:
    """Empty caches of verdicts and of verifiers."""
    made: list[SizedCache[Any, Any]] = []
    for name in ("verdicts", "verifiers"):
        made.append(SizedCache(name, capacity=1 << 20))
        monkeypatch.setattr(chain_module, name, made[-1])
    return made[0], made[1]


def observed(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Return a list that grows with the name of each chain that is judged, and not found among the verdicts."""
    judged: list[str | None] = []
    judge = ChainVerifier._verify

    def verify(self: ChainVerifier, chain: Any, purpose: Purpose, peer_name: str | None, now: datetime) -> Any:
        judged.append(peer_name)
        return judge(self, chain, purpose, peer_name, now)

    monkeypatch.setattr(ChainVerifier, "_verify", verify)
    return judged


def test_verdicts_are_bounded_in_bytes(root: Authority, caches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many peers are remembered as there are bytes for, over all trusts together, and the ones used last stay."""
    leaf, judged = root.issue([f"host{number}.example.org" for number in range(8)]), observed(monkeypatch)
    first, second = ChainVerifier(root.trust()), ChainVerifier(root.trust(root.crl()))
    size = len(leaf.certificate) + chain_module._ENTRY
    caches[0]._own = 3 * size

    def ask(verifier: ChainVerifier, *numbers: int) -> None:
        for number in numbers:
            name = f"host{number}.example.org"
            verifier.verify(leaf.chain, purpose=Purpose.SERVER_AUTH, peer_name=name, now=now())

    ask(first, 0, 1, 2, 0, 1, 2, 0)
    assert judged == [f"host{number}.example.org" for number in (0, 1, 2)]
    ask(second, 0)
    assert caches[0].size == 3 * size
    ask(first, 0, 2)
    assert judged[3:] == ["host0.example.org"]
    ask(first, 1)
    assert judged[4:] == ["host1.example.org"]


def test_five_thousand_peers_are_judged_once(root: Authority, caches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many peers as a fleet has take turns, in the bytes that a process has for them unless it is told otherwise."""
    judged: list[bytes] = []

    def judge(self: ChainVerifier, chain: Any, *_: Any) -> Any:
        judged.append(chain[0])
        return chain_module._Cached((*chain, root.certificate), now() - timedelta(1), now() + timedelta(1))

    monkeypatch.setattr(ChainVerifier, "_verify", judge)
    caches[0]._own = DEFAULT_BYTES // 4
    verifier, leaf = ChainVerifier(root.trust()), root.issue([NAME]).certificate
    for number in (*range(5000), *range(5000)):
        chain = (leaf + number.to_bytes(4, "big"),)
        verifier.verify(chain, purpose=Purpose.CLIENT_AUTH, peer_name=None, now=now())
    assert len(judged) == 5000


def test_verifiers_are_bounded_in_bytes(root: Authority, caches: Any) -> None:
    """The verifiers used last stay, as far as there are bytes for them; the newest stays, whatever its size."""
    leaf = root.issue([NAME])
    trusts = [Trust((leaf.certificate,)), Trust((root.certificate,)), Trust(())]
    kept = [verifier_for(trust) for trust in trusts]
    caches[1]._own = kept[1].size + kept[2].size + 1
    assert verifier_for(trusts[1]) is kept[1]
    assert verifier_for(trusts[2]) is kept[2]
    large = verifier_for(Trust((root.certificate, leaf.certificate)))
    assert verifier_for(Trust((root.certificate, leaf.certificate))) is large
    caches[1]._own = 1
    assert verifier_for(trusts[0]) is not kept[0]
    assert len(caches[1]) == 1


def test_what_trusts_share_is_read_once(root: Authority, caches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred trusts with the same authorities and list beside one of their own: each certificate is parsed once."""
    shared = tuple(Authority(f"Shared {number}").certificate for number in range(10))
    own = tuple(Authority(f"Own {number}").certificate for number in range(100))
    crl, parsed, lists = root.crl([5]), list[bytes](), list[bytes]()
    names, read = der.certificate_names, revocation_module._read

    def certificate_names(certificate: bytes) -> Any:
        parsed.append(certificate)
        return names(certificate)

    def read_list(der: bytes) -> Any:
        lists.append(der)
        return read(der)

    monkeypatch.setattr(certificate_module, "certificate_names", certificate_names)
    monkeypatch.setattr(revocation_module, "_read", read_list)
    made = [verifier_for(Trust((*shared, mine), (bytes(bytearray(crl)),))) for mine in own]
    assert sorted(parsed) == sorted((*shared, *own))
    assert lists == [crl]
    assert len({id(verifier) for verifier in made}) == len(caches[1]) == 100
    assert made[0].size > made[1].size + sum(map(len, shared))


def test_anchors_are_parsed_when_needed(root: Authority) -> None:
    """Of a large trust only the anchors with the name of an issuer are parsed."""
    others = tuple(Authority(f"Other {n}").certificate for n in range(20))
    verifier = ChainVerifier(Trust((*others, root.certificate)))
    verifier.verify(root.issue([NAME]).chain, purpose=Purpose.SERVER_AUTH, peer_name=NAME, now=now())
    parsed = [anchor.der for anchor in verifier._anchors if "facts" in vars(anchor)]
    assert parsed == [root.certificate]


def test_unreadable_trust(root: Authority) -> None:
    """With an unreadable anchor nobody is trusted; a revocation list that cannot be read is an error at once."""
    leaf = root.issue([NAME])
    assert verify(leaf, Trust((b"junk", root.certificate)))
    refused(leaf, Trust((b"junk", root.certificate[:-1])), Failure.UNTRUSTED)
    with pytest.raises(ConfigurationError, match="list 1"):
        verify(leaf, root.trust(b"junk"))


def test_now_has_a_time_zone(root: Authority) -> None:
    """A time without a zone is the caller's mistake."""
    with pytest.raises(ValueError, match="time zone"):
        verify(root.issue([NAME]), root.trust(), at=datetime(2026, 1, 1))


_NO_IMPORT = """
import base64, builtins, json, sys
from datetime import UTC, datetime
from hsframework.credentials.chain import HandshakeFailed, Purpose, verify_chain
from hsframework.interface import Trust
cases = json.load(sys.stdin)
before = set(sys.modules)
sys.addaudithook(lambda event, args: event == "open" and print("opened", args[0]))
for chain, anchor, name in cases:
    chain = tuple(map(base64.b64decode, chain))
    try:
        verify_chain(chain, Trust((base64.b64decode(anchor),)), purpose=Purpose.SERVER_AUTH, peer_name=name,
                     now=datetime.now(UTC))
    except HandshakeFailed as failure:
        print(failure.failure.name)
    else:
        print("believed")
print(*sorted(set(sys.modules) - before))
"""


def test_no_verification_imports_or_opens_anything() -> None:
    """After ``chain`` is imported, chains of every key type, good and bad, import no module and open no file."""
    cases = []
    for key_type in KEY_TYPES:
        authority = Authority("Root", key_type)
        for name in (NAME, "wrong.example"):
            leaf = authority.issue([NAME, "192.0.2.1"], key_type, pss=key_type == "rsa-3072")
            encoded = [base64.b64encode(der).decode() for der in leaf.chain]
            cases.append((encoded, base64.b64encode(authority.certificate).decode(), name))
    done = subprocess.run(
        [sys.executable, "-c", _NO_IMPORT], input=json.dumps(cases), capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n") == ["believed", "WRONG_NAME"] * len(KEY_TYPES) + ["", ""]
