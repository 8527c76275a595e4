"""Certificate revocation lists."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from hsframework.credentials.chain import Purpose, verify_chain
from hsframework.credentials.distinguished import MAX_ATTRIBUTES
from hsframework.credentials.scope import ALL_REASONS
from hsframework.credentials.trust import crls_in
from hsframework.errors import ConfigurationError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import CrlCheck, Trust
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
    """A list with a critical extension that is not processed clears nothing, and revokes what it names."""
    leaf, revoked = root.issue(), root.issue()
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.2"), b"\x05\x00")
    trust = root.trust(root.crl([revoked], extensions=[(unknown, True)]))
    assert outcome(leaf, trust, "not supported") is Failure.UNTRUSTED
    assert outcome(revoked, trust) is Failure.REVOKED
    assert outcome(leaf, root.trust(root.crl(extensions=[(x509.CRLNumber(7), False), (unknown, False)]))) is None


def point(**given: Any) -> x509.IssuingDistributionPoint:
    """Make an issuing distribution point: what is not given is absent or False."""
    absent = dict.fromkeys(("full_name", "relative_name", "only_some_reasons"))
    kinds = ("only_contains_user_certs", "only_contains_ca_certs", "indirect_crl", "only_contains_attribute_certs")
    return x509.IssuingDistributionPoint(**{**absent, **dict.fromkeys(kinds, False), **given})


@pytest.mark.parametrize("critical", [True, False])
@pytest.mark.parametrize(
    ("extension", "kind"),
    [
        (x509.DeltaCRLIndicator(1), "a delta list"),
        (point(indirect_crl=True), "an indirect list"),
        (point(only_contains_attribute_certs=True), "attribute certificates"),
    ],
)
def test_kinds_that_are_not_supported_are_refused_at_load(
    root: Authority, extension: x509.ExtensionType, kind: str, critical: bool
) -> None:
    """Delta lists, indirect lists and lists of attribute certificates are refused with their name, critical or not."""
    crl = root.crl(extensions=[(extension, critical)])
    with pytest.raises(ConfigurationError, match=f"list 1 of the trust: .*{kind}"):
        outcome(root.issue(), root.trust(crl))
    with pytest.raises(ConfigurationError, match=f"some.crl: .*{kind}"):
        crls_in(crl, "some.crl")


URI = x509.UniformResourceIdentifier("http://crl.example/1.crl")
OTHER = x509.UniformResourceIdentifier("http://crl.example/2.crl")


@pytest.mark.parametrize("critical", [True, False])
@pytest.mark.parametrize(
    ("extension", "named", "covered"),
    [
        (point(only_contains_user_certs=True), None, True),
        (point(only_contains_ca_certs=True), None, False),
        (point(full_name=[URI]), [URI], True),
        (point(full_name=[OTHER, URI]), [URI], True),
        (point(full_name=[OTHER]), [URI], False),
        (point(full_name=[URI]), None, False),
        (point(only_some_reasons=frozenset({x509.ReasonFlags.key_compromise})), None, False),
    ],
)
def test_a_divided_list_covers_its_part(
    root: Authority, extension: x509.IssuingDistributionPoint, named: Any, covered: bool, critical: bool
) -> None:
    """A divided list clears the certificates of its part alone, and revokes whatever it names, critical or not."""
    points = x509.CRLDistributionPoints([x509.DistributionPoint(named, None, None, None)]) if named else None
    leaf = root.issue(extensions=[(points, False)] if points else [])
    trust = root.trust(root.crl(extensions=[(extension, critical)]))
    assert outcome(leaf, trust) is (None if covered else Failure.UNTRUSTED)
    assert outcome(leaf, root.trust(root.crl([leaf], extensions=[(extension, critical)]))) is Failure.REVOKED


def test_a_distribution_point_that_cannot_be_compared(root: Authority) -> None:
    """A name with too many attributes in a certificate's distribution point is the certificate's fault."""
    huge = x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")] * (MAX_ATTRIBUTES + 1)))
    leaf = root.issue(
        extensions=[(x509.CRLDistributionPoints([x509.DistributionPoint([huge], None, None, None)]), False)]
    )
    trust = root.trust(root.crl(extensions=[(point(full_name=[URI]), True)]))
    assert outcome(leaf, trust, "attributes") is Failure.BAD_CERTIFICATE


def test_parts_by_reason_clear_together(root: Authority) -> None:
    """Lists that cover some reasons each clear a certificate if they cover every reason together."""
    reasons = sorted(ALL_REASONS, key=lambda reason: reason.value)
    parts = [root.crl(extensions=[(point(only_some_reasons=frozenset(p)), True)]) for p in (reasons[:3], reasons[3:])]
    leaf = root.issue()
    assert outcome(leaf, root.trust(parts[0])) is Failure.UNTRUSTED
    assert outcome(leaf, root.trust(*parts)) is None


def respelled(name: str, kind: _ASN1Type = _ASN1Type.PrintableString) -> x509.Name:
    """Make a common name in another string type."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name, _type=kind)])


@pytest.mark.parametrize(
    "spelling",
    [
        respelled("Revoking Root"),
        respelled("REVOKING  root "),
        respelled("Revoking Root", _ASN1Type.BMPString),
        respelled("Revoking Root", _ASN1Type.T61String),
        respelled("Revoking Root", _ASN1Type.UniversalString),
    ],
)
def test_an_issuer_is_found_however_it_is_spelled(root: Authority, spelling: x509.Name) -> None:
    """A list counts for its authority in any string type, case and spacing of the name (RFC 5280 section 7.1)."""
    leaf = root.issue()
    assert outcome(leaf, root.trust(list_of(root, spelling, [leaf]))) is Failure.REVOKED
    assert outcome(leaf, root.trust(list_of(root, spelling, []))) is None


def list_of(root: Authority, issuer: x509.Name, revoked: list[Credential]) -> bytes:
    """Make a list whose issuer's name is spelled as given."""
    builder = x509.CertificateRevocationListBuilder(issuer, NOW - timedelta(hours=1), NOW + timedelta(days=1))
    for credential in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(credential.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(NOW - timedelta(hours=1)).build())
    key: Any = root.key
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_the_authoritys_other_key_signs_its_list(root: Authority) -> None:
    """After a change of keys the list by the new key counts for certificates by the old one, and clears them."""
    new = Authority("Revoking Root")
    leaf = root.issue()
    both = (root.certificate, new.certificate)
    assert outcome(leaf, Trust(both, (new.crl([leaf]),))) is Failure.REVOKED
    assert outcome(leaf, Trust(both, (new.crl(),))) is None
    assert outcome(leaf, Trust((root.certificate,), (new.crl(),))) is Failure.UNTRUSTED
    # A list by its own key is the one that clears; the other still revokes.
    late = root.crl(next_update=NOW - timedelta(minutes=1))
    assert outcome(leaf, Trust(both, (new.crl(), late))) is Failure.UNTRUSTED
    assert outcome(leaf, Trust(both, (new.crl([leaf]), root.crl()))) is Failure.REVOKED


def test_lists_may_be_required(root: Authority) -> None:
    """With crl_check "require" every certificate below the anchor needs a list; with "if-present" it does not."""
    issuing = root.intermediate("Issuing")
    leaf = issuing.issue(["a.example"])

    def required(*crls: bytes) -> Failure | None:
        return outcome(leaf, replace(root.trust(*crls), crl_check=CrlCheck.REQUIRE))

    assert outcome(leaf, root.trust()) is None
    assert required() is Failure.UNTRUSTED
    assert required(root.crl()) is Failure.UNTRUSTED
    assert required(issuing.crl()) is Failure.UNTRUSTED
    assert required(issuing.crl(), root.crl()) is None
    assert required(issuing.crl([leaf]), root.crl()) is Failure.REVOKED


def test_serial_numbers_that_share_their_end(root: Authority) -> None:
    """A certificate whose serial number has the same end as a revoked one is not revoked."""
    leaf, revoked = root.issue(serial_number=(5 << 64) + 9), root.issue(serial_number=(6 << 64) + 9)
    trust = root.trust(root.crl([revoked]))
    assert outcome(leaf, trust) is None
    assert outcome(revoked, trust) is Failure.REVOKED


def test_a_pinned_leaf_has_no_issuer(root: Authority) -> None:
    """A certificate that is an anchor is not looked up: taking it out of the trust is how it is revoked."""
    leaf = root.issue()
    assert outcome(leaf, Trust((leaf.certificate,), (root.crl([leaf]),))) is None
