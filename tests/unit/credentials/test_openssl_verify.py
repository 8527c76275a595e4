"""The same chains given to ``openssl verify``: accepted and refused alike, but for the differences listed here.

OpenSSL is asked with ``-partial_chain`` where the trust holds an intermediate or a pinned leaf, since here whatever is
in the trust is an anchor.  Cases with revocation lists hold one for the issuer that OpenSSL asks for.

The differences, each kept as a case of its own (``ours`` says what this implementation answers):

* a leaf with a key usage and no digitalSignature: TLS 1.3 signs, OpenSSL's purpose is content with keyEncipherment;
* ``*.a.example`` under an authority from which ``bad.a.example`` is excluded: it stands for that name too;
* partial wildcards (``f*.a.example``), which RFC 9525 has dropped;
* a wildcard for an A-label, which service-identity does not match;
* a common name where there is no subjectAltName, which RFC 9525 has dropped;
* a key of 1024 bits or on P-224, and a SHA-224 signature: OpenSSL leaves them to its security level, 1 by default here;
* policyConstraints, which OpenSSL processes when it is asked to;
* an issuer without a revocation list: OpenSSL refuses with ``-crl_check``, here it is not checked;
* two certificates for one intermediate: OpenSSL follows the first that fits and does not come back.
"""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hsframework.credentials.chain import Purpose, verify_chain
from hsframework.failures import HandshakeFailed
from hsframework.interface import Trust
from hsframework.testing.certificates import CLIENT, KEY_TYPES, SERVER, Authority, Credential, self_signed, to_pem

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl program is not installed")

NAME = "host.a.example"
NOW = datetime.now(UTC)
PAST, SOON = NOW - timedelta(hours=1), NOW + timedelta(hours=1)


@dataclass(frozen=True)
class Case:
    label: str
    chain: tuple[bytes, ...]
    trust: Trust
    expected: bool
    """OpenSSL's answer."""
    ours: bool | None = None
    """Our answer, where that differs."""
    purpose: Purpose = Purpose.SERVER_AUTH
    name: str | None = NAME
    partial: bool = False
    crl_check: str = ""


def constrained(permitted: list[x509.GeneralName] | None, excluded: list[x509.GeneralName] | None) -> Authority:
    return Authority("Constrained", extensions=[(x509.NameConstraints(permitted, excluded), True)])


def names_and_types() -> Iterator[Case]:
    for key_type in KEY_TYPES:
        if not key_type.startswith("ml-dsa"):  # not in OpenSSL before 3.5
            root = Authority("Root", key_type)
            yield Case(key_type, root.intermediate("I", key_type).issue([NAME], key_type).chain, root.trust(), True)
    root = Authority("Root")
    rsa_root = Authority("RSA", "rsa-2048")
    for algorithm in (hashes.SHA256(), hashes.SHA512()):
        leaf = rsa_root.issue([NAME], pss=True, hash=algorithm)
        yield Case(f"pss {algorithm.name}", leaf.chain, rsa_root.trust(), True)
    pairs: list[tuple[list[str], str, bool, bool | None]] = [
        ([NAME], NAME, True, None),
        ([NAME.upper()], NAME, True, None),
        ([NAME], "other.example", False, None),
        (["x.example", NAME], NAME, True, None),
        (["*.a.example"], NAME, True, None),
        (["*.a.example"], "a.example", False, None),
        (["*.a.example"], "x.host.a.example", False, None),
        (["*.example"], "a.example", False, None),
        (["h*.a.example"], NAME, True, False),
        (["host.*.example"], NAME, False, None),
        (["*.a.example"], "xn--bcher-kva.a.example", True, False),
        (["xn--bcher-kva.a.example"], "xn--bcher-kva.a.example", True, None),
        (["192.0.2.1"], "192.0.2.1", True, None),
        (["192.0.2.1"], "192.0.2.2", False, None),
        (["2001:db8::1"], "2001:db8:0::1", True, None),
        (["2001:db8::1"], "2001:db8::2", False, None),
        (["192.0.2.1"], NAME, False, None),
        ([NAME], "192.0.2.1", False, None),
    ]
    for sans, name, expected, ours in pairs:
        yield Case(f"{sans} for {name}", root.issue(sans).chain, root.trust(), expected, ours, name=name)
    yield Case("common name only", root.issue([], subject=NAME).chain, root.trust(), True, False)
    yield Case("no name asked for", root.issue([]).chain, root.trust(), True, name=None)


def paths() -> Iterator[Case]:
    root, other = Authority("Root"), Authority("Other")
    upper = root.intermediate("Upper")
    leaf = upper.intermediate("Lower").issue([NAME])
    certificate, lower = leaf.chain[:2]
    trust = root.trust()
    yield Case("in order", leaf.chain, trust, True)
    yield Case("shuffled", (certificate, upper.certificate, other.certificate, lower), trust, True)
    yield Case("with the root", (*leaf.chain, root.certificate), trust, True)
    yield Case("no intermediate", (certificate, lower), trust, False)
    yield Case("other root", leaf.chain, other.trust(), False)
    yield Case("two roots", leaf.chain, Trust((other.certificate, root.certificate)), True)
    yield Case("no root", (*leaf.chain, root.certificate), Trust(()), False)
    yield Case("intermediate as anchor", (certificate, lower), Trust((upper.certificate,)), True, partial=True)
    yield Case("leaf as anchor", (certificate,), Trust((certificate,)), True, partial=True)
    pinned = self_signed([NAME])
    yield Case("pinned", pinned.chain, Trust(pinned.chain), True)
    yield Case("self-signed", pinned.chain, trust, False)
    yield Case("root of the same name", leaf.chain, Authority("Root").trust(), False)
    quiet = Authority("Root", key_identifiers=False)
    yield Case("root of the same name, no ids", quiet.issue([NAME]).chain, Authority("Root").trust(), False)
    old = Authority("Old Root", not_after=PAST)
    middle = Authority("Middle")
    crossed = (middle.issue([NAME]).certificate, old.cross_sign(middle), root.cross_sign(middle))
    yield Case("cross-signed", (crossed[0], crossed[2], crossed[1]), trust, True)
    yield Case("cross-signed, the dead end first", crossed, trust, False, True)
    yield Case("cross-signed, the other root", crossed, old.trust(), False)
    yield Case("spoiled leaf", root.issue([NAME], spoil_signature=True).chain, trust, False)
    spoiled = root.intermediate("Spoiled", spoil_signature=True)
    yield Case("spoiled intermediate", spoiled.issue([NAME]).chain, trust, False)
    mute = root.intermediate("Mute", key_identifiers=False)
    wrong_id = x509.AuthorityKeyIdentifier(b"another key", None, None)
    misled = root.issue([NAME], key_identifiers=False, extensions=[(wrong_id, False)])
    yield Case("no key identifiers", mute.issue([NAME], key_identifiers=False).chain, trust, True)
    yield Case("authority key identifier of another", misled.chain, trust, False)


def dates_and_usages() -> Iterator[Case]:
    root = Authority("Root")

    def case(
        label: str,
        leaf: Credential,
        expected: bool,
        ours: bool | None = None,
        purpose: Purpose = Purpose.SERVER_AUTH,
    ) -> Case:
        return Case(label, leaf.chain, Trust((leaf.anchor,)), expected, ours, purpose)

    later = {"not_before": SOON, "not_after": SOON + timedelta(days=1)}
    yield case("expired leaf", root.issue([NAME], not_after=PAST), False)
    yield case("leaf of tomorrow", root.issue([NAME], "ecdsa-p256", **later), False)
    yield case("expired intermediate", root.intermediate("Old", not_after=PAST).issue([NAME]), False)
    yield case("expired root", Authority("Old", not_after=PAST).issue([NAME]), False)
    any_usage = [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]
    for label, usages in (("server", [SERVER]), ("client", [CLIENT]), ("any", any_usage), ("no", None)):
        for purpose in (Purpose.SERVER_AUTH, Purpose.CLIENT_AUTH):  # those that OpenSSL knows
            wanted = usages is None or purpose.value[0] in usages
            leaf = root.issue([NAME], usages=usages)
            yield case(f"{label} usage as {purpose.name}", leaf, wanted, purpose=purpose)
            below = root.intermediate("Limited", usages=usages).issue([NAME])
            yield case(f"{label} usage above as {purpose.name}", below, wanted, purpose=purpose)
    yield case("root limited to clients", Authority("R", usages=[CLIENT]).issue([NAME]), False)
    yield case("key usage signs", root.issue([NAME], key_usage=["digital_signature"]), True)
    yield case("key usage enciphers", root.issue([NAME], key_usage=["key_encipherment"]), True, False)
    yield case("key usage of a CA", root.issue([NAME], key_usage=["key_cert_sign"]), False)
    yield case("intermediate without certSign", root.intermediate("X", key_usage=["crl_sign"]).issue([NAME]), False)
    yield case("intermediate without key usage", root.intermediate("X", key_usage=None).issue([NAME]), True)
    yield case("no CA flag", root.intermediate("X", ca=False).issue([NAME]), False)
    yield case("no basic constraints", root.intermediate("X", ca=None).issue([NAME]), False)
    yield case("CA as leaf", root.issue([NAME], ca=True), True)
    yield case("root without CA flag", Authority("X", ca=False).issue([NAME]), False)
    for length in (0, 1, 2):
        short = Authority("Short", path_length=length)
        yield case(f"path length {length}, 1 below", short.intermediate("A").issue([NAME]), length >= 1)
        two = short.intermediate("A").intermediate("B").issue([NAME])
        yield case(f"path length {length}, 2 below", two, length >= 2)
    yield case("path length and self-issued", Authority("S", parent=Authority("S", path_length=0)).issue([NAME]), True)
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    for critical in (False, True):
        yield case(f"unknown, critical {critical}", root.issue([NAME], extensions=[(odd, critical)]), not critical)
        above = root.intermediate("X", extensions=[(odd, critical)]).issue([NAME])
        yield case(f"unknown above, critical {critical}", above, not critical)
    policies = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3.4"), None)])
    yield case("critical policies", root.issue([NAME], extensions=[(policies, True)]), True)
    explicit = root.intermediate("X", extensions=[(x509.PolicyConstraints(0, None), True)])
    yield case("policy constraints", explicit.issue([NAME]), True, False)
    yield case("RSA of 1024 bits", root.issue([NAME], "rsa-1024"), True, False)
    yield case("P-224", root.issue([NAME], "ecdsa-p224"), True, False)
    yield case("SHA-224", root.issue([NAME], hash=hashes.SHA224()), True, False)


def constraints() -> Iterator[Case]:
    def dns(*bases: str) -> list[x509.GeneralName]:
        return [x509.DNSName(base) for base in bases]

    def net(base: str) -> list[x509.GeneralName]:
        return [x509.IPAddress(ipaddress.ip_network(base))]

    def org(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])

    plain: list[tuple[str, Authority, list[str], bool, bool | None]] = [
        ("permitted", constrained(dns("a.example"), None), [NAME], True, None),
        ("permitted elsewhere", constrained(dns("b.example"), None), [NAME], False, None),
        ("one of two permitted", constrained(dns("a.example"), None), [NAME, "b.example"], False, None),
        ("label boundary", constrained(dns("ost.a.example"), None), [NAME], False, None),
        ("leading dot", constrained(dns(".a.example"), None), [NAME], True, None),
        ("leading dot and itself", constrained(dns(".host.a.example"), None), [NAME], False, None),
        ("excluded", constrained(None, dns("a.example")), [NAME], False, None),
        ("excluded elsewhere", constrained(None, dns("b.example")), [NAME], True, None),
        ("permitted and excluded", constrained(dns("example"), dns("a.example")), [NAME], False, None),
        ("wildcard permitted", constrained(dns("a.example"), None), ["*.a.example"], True, None),
        ("wildcard excluded", constrained(None, dns("bad.a.example")), ["*.a.example"], True, False),
        ("network", constrained(net("192.0.2.0/24"), None), ["192.0.2.9", NAME], True, None),
        ("other network", constrained(net("198.51.100.0/24"), None), ["192.0.2.9", NAME], False, None),
        ("excluded network", constrained(None, net("192.0.2.0/24")), ["192.0.2.9", NAME], False, None),
        ("other family", constrained(net("2001:db8::/32"), None), ["192.0.2.9", NAME], False, None),
    ]
    for label, authority, names, expected, ours in plain:
        leaf = authority.issue(names, subject=x509.Name([]))
        yield Case(f"constraint: {label}", leaf.chain, authority.trust(), expected, ours)
        below = authority.intermediate("Between").issue(names, subject=x509.Name([]))
        yield Case(f"constraint: {label}, deeper", below.chain, authority.trust(), expected, ours)
    for subject, expected in (("Mine", True), ("mINE ", True), ("Theirs", False)):
        authority = constrained([x509.DirectoryName(org("Mine"))], None)
        leaf = authority.issue([NAME], subject=org(subject))
        yield Case(f"constraint: directory {subject}", leaf.chain, authority.trust(), expected)


def revocation() -> Iterator[Case]:
    root = Authority("Root")
    issuing = root.intermediate("Issuing")
    leaf, other = issuing.issue([NAME]), issuing.issue([NAME])

    def case(
        label: str, crls: tuple[bytes, ...], expected: bool, ours: bool | None = None, check: str = "leaf"
    ) -> Case:
        return Case(f"revocation: {label}", leaf.chain, root.trust(*crls), expected, ours, crl_check=check)

    yield case("not revoked", (issuing.crl([other]),), True)
    yield case("revoked", (issuing.crl([other, leaf]),), False)
    yield case("overdue", (issuing.crl(next_update=PAST),), False)
    yield case("early", (issuing.crl(this_update=SOON, next_update=SOON + timedelta(days=1)),), False)
    yield case("overdue and fresh", (issuing.crl(next_update=PAST), issuing.crl()), True)
    yield case("another's signature", (issuing.crl(key=root.key),), False)
    yield case("no list", (root.crl(),), False, True)
    yield case("both levels", (root.crl(), issuing.crl()), True, check="all")
    yield case("intermediate revoked", (root.crl([issuing]), issuing.crl()), False, check="all")
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.2"), b"\x05\x00")
    yield case("unknown critical extension", (issuing.crl(extensions=[(odd, True)]),), False)
    mute = root.intermediate("Mute", key_usage=["key_cert_sign"])
    yield Case("revocation: no cRLSign", mute.issue([NAME]).chain, root.trust(mute.crl()), False, crl_check="leaf")


def believed_by_openssl(case: Case, directory: Path) -> bool:
    files = {
        "leaf": to_pem(case.chain[0]),
        "sent": b"".join(map(to_pem, case.chain[1:])),
        "anchors": b"".join(map(to_pem, case.trust.anchors)) or to_pem(Authority("Nobody").certificate),
        "lists": b"".join(to_pem(crl, "X509 CRL") for crl in case.trust.crls),
    }
    for name, data in files.items():
        (directory / name).write_bytes(data)
    command = ["openssl", "verify", "-no-CApath", "-no-CAstore", "-CAfile", "anchors"]
    command += ["-purpose", "sslserver" if case.purpose is Purpose.SERVER_AUTH else "sslclient"]
    command += ["-untrusted", "sent"] if case.chain[1:] else []
    command += ["-partial_chain"] if case.partial else []
    if case.crl_check:
        command += ["-CRLfile", "lists", "-crl_check" if case.crl_check == "leaf" else "-crl_check_all"]
    if case.name is not None:
        is_address = case.name[0].isdigit()
        command += ["-verify_ip" if is_address else "-verify_hostname", case.name]
    done = subprocess.run([*command, "leaf"], cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 2), done.stderr
    return done.returncode == 0


def believed_here(case: Case) -> bool:
    try:
        verify_chain(case.chain, case.trust, purpose=case.purpose, peer_name=case.name, now=datetime.now(UTC))
    except HandshakeFailed:
        return False
    return True


@pytest.mark.parametrize("group", [names_and_types, paths, dates_and_usages, constraints, revocation])
def test_agreement(group: object, tmp_path: Path) -> None:
    """Every case is answered by OpenSSL and here as its row says; every row that differs is one listed above."""
    cases = list(group())  # type: ignore[operator]
    assert len(cases) > 10
    wrong = []
    for case in cases:
        ours = case.expected if case.ours is None else case.ours
        found = believed_by_openssl(case, tmp_path), believed_here(case)
        if found != (case.expected, ours):
            wrong.append(f"{case.label}: OpenSSL {found[0]} (row: {case.expected}), here {found[1]} (row: {ours})")
    assert not wrong, "\n".join(wrong)
