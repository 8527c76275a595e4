"""Certificate revocation lists."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from hsframework.credentials.chain import Purpose, verify_chain
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Trust
from hsframework.testing.certificates import KEY_TYPES, Authority, Credential, generate_key

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority("Revoking Root")


def outcome(leaf: Credential, trust: Trust, detail: str = "") -> Failure | None:
    """Verify a leaf and return the failure; None: it is accepted."""
    try:
        verify_chain(leaf.chain, trust, purpose=Purpose.SERVER_AUTH, peer_name=None, now=datetime.now(UTC))
    except HandshakeFailed as error:
        failed = error
    else:
        return None
    assert detail in failed.detail
    return failed.failure


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_every_key_type(key_type: str) -> None:
    """A list signed with a key of each type revokes what it names and nothing else."""
    authority = Authority("Root", key_type)
    good, bad = authority.issue(["a.example"]), authority.issue(["b.example"])
    trust = authority.trust(authority.crl([bad]))
    assert outcome(good, trust) is None
    assert outcome(bad, trust, f"CN=b.example, serial number {bad.serial_number:x}") is Failure.REVOKED


def test_every_level(root: Authority) -> None:
    """A revoked intermediate takes its leaves with it; an issuer without a list is not checked."""
    issuing = root.intermediate("Issuing")
    leaf = issuing.issue(["a.example"])
    assert outcome(leaf, root.trust(root.crl([issuing]))) is Failure.REVOKED
    assert outcome(leaf, root.trust(root.crl())) is None
    assert outcome(leaf, root.trust(issuing.crl([leaf]))) is Failure.REVOKED
    assert outcome(leaf, root.trust(root.crl(), issuing.crl())) is None
    assert outcome(leaf, root.trust(Authority("Else").crl([leaf]))) is None


def test_a_list_out_of_its_time_fails_closed(root: Authority) -> None:
    """A list past its nextUpdate, or before its thisUpdate, clears nothing: UNTRUSTED; what it names is revoked."""
    leaf, other = root.issue(), root.issue()
    old = root.crl([other], next_update=NOW - timedelta(minutes=1))
    early = root.crl(this_update=NOW + timedelta(hours=1), next_update=NOW + timedelta(hours=2))
    assert outcome(leaf, root.trust(old), "was to be replaced") is Failure.UNTRUSTED
    assert outcome(other, root.trust(old)) is Failure.REVOKED
    assert outcome(leaf, root.trust(early), "holds from") is Failure.UNTRUSTED
    for crls in ((old, root.crl()), (root.crl(), old)):
        assert outcome(leaf, root.trust(*crls)) is None
        assert outcome(other, root.trust(*crls)) is Failure.REVOKED


def test_a_list_of_another_key_fails_closed(root: Authority) -> None:
    """A list with the issuer's name and another's signature neither clears nor revokes."""
    leaf = root.issue()
    forged = root.crl([leaf], key=generate_key())
    assert outcome(leaf, root.trust(forged), "signature does not verify") is Failure.UNTRUSTED
    assert outcome(leaf, root.trust(forged, root.crl())) is None
    spoiled = bytearray(root.crl())
    spoiled[-1] ^= 1
    assert outcome(leaf, root.trust(bytes(spoiled)), "signature") is Failure.UNTRUSTED


def test_the_issuer_may_sign_lists(root: Authority) -> None:
    """An issuer whose key usage has no cRLSign cannot clear a certificate; one without key usage can."""
    mute = root.intermediate("Mute", key_usage=["key_cert_sign"])
    assert outcome(mute.issue(), root.trust(mute.crl()), "cRLSign") is Failure.UNTRUSTED
    unlimited = root.intermediate("Unlimited", key_usage=None)
    assert outcome(unlimited.issue(), root.trust(unlimited.crl())) is None


def test_critical_extensions_fail_closed(root: Authority) -> None:
    """Delta, indirect and partitioned lists, and unknown critical extensions, decide nothing."""
    leaf = root.issue()
    partitioned = x509.IssuingDistributionPoint(None, None, True, False, None, False, False)
    indirect = x509.IssuingDistributionPoint(None, None, False, False, None, True, False)
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.2"), b"\x05\x00")
    for extension in (x509.DeltaCRLIndicator(1), partitioned, indirect, unknown):
        assert outcome(leaf, root.trust(root.crl(extensions=[(extension, True)])), "not supported") is Failure.UNTRUSTED
    assert outcome(leaf, root.trust(root.crl(extensions=[(x509.CRLNumber(7), False), (unknown, False)]))) is None


def test_a_pinned_leaf_has_no_issuer(root: Authority) -> None:
    """A certificate that is an anchor is not looked up: taking it out of the trust is how it is revoked."""
    leaf = root.issue()
    assert outcome(leaf, Trust((leaf.certificate,), (root.crl([leaf]),))) is None
