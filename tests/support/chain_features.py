"""Features of generated chains: each changes one certificate of a plan, or adds revocation lists."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support.chains import DAY, NAME, NOW, Certificate, Plan, RevocationList, name_of
from tests.support.der import SEQUENCE, TRUE, element, extension, integer

LEVELS: dict[str, Callable[[Plan], int | None]] = {
    "leaf": lambda plan: 0,
    "authority": lambda plan: 1 if len(plan.path) > 2 else None,
    "anchor": lambda plan: len(plan.path) - 1 if len(plan.path) > 1 else None,
}
"""Position in the path, or None if the path has no such level."""


@dataclass(frozen=True)
class Feature:
    """A change of a plan, at each of its levels."""

    change: Callable[[Plan, int], None]
    levels: tuple[str, ...]


FEATURES: dict[str, Feature] = {}
_ALL = ("leaf", "authority", "anchor")
_ABOVE = ("authority", "anchor")


def _feature(name: str, *levels: str) -> Callable[[Callable[[Plan, int], None]], Callable[[Plan, int], None]]:
    def add(change: Callable[[Plan, int], None]) -> Callable[[Plan, int], None]:
        FEATURES[name] = Feature(change, levels or _ALL)
        return change

    return add


def _certificate(name: str, *levels: str, change: Callable[[Certificate], None]) -> None:
    FEATURES[name] = Feature(lambda plan, at: change(plan.path[at]), levels or _ALL)


def _sets(**values: object) -> Callable[[Certificate], None]:
    def change(certificate: Certificate) -> None:
        for attribute, value in values.items():
            setattr(certificate, attribute, value)

    return change


def _puts(value: x509.ExtensionType, *, critical: bool = False, mark: str = "") -> Callable[[Certificate], None]:
    return lambda certificate: certificate.put(value, critical=critical, mark=mark)


def _drops(*kinds: type[x509.ExtensionType]) -> Callable[[Certificate], None]:
    def change(certificate: Certificate) -> None:
        for kind in kinds:
            certificate.drop(kind)

    return change


def _raw(dotted: str, value: bytes, critical: bytes = b"", mark: str = "") -> Callable[[Certificate], None]:
    def change(certificate: Certificate) -> None:
        certificate.extensions[dotted + mark] = extension(dotted, value, critical)

    return change


def _key_usage(*wanted: str) -> x509.KeyUsage:
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign "
        "encipher_only decipher_only"
    )
    return x509.KeyUsage(**{**dict.fromkeys(names.split(), False), **dict.fromkeys(wanted, True)})


def _key(name: str) -> Callable[[Plan, int], None]:
    """Give a certificate another key, with which it signs what is below it."""

    def change(plan: Plan, at: int) -> None:
        certificate = plan.path[at]
        before, certificate.key = certificate.key, name
        if certificate.signer == before and certificate.issuer == certificate.subject:
            certificate.signer = name
            certificate.put(x509.AuthorityKeyIdentifier(_id(name), None, None))
        if x509.SubjectKeyIdentifier.oid.dotted_string in certificate.extensions:
            certificate.put(x509.SubjectKeyIdentifier(_id(name)))
        if at:
            below = plan.path[at - 1]
            below.signer = name
            if x509.AuthorityKeyIdentifier.oid.dotted_string in below.extensions:
                below.put(x509.AuthorityKeyIdentifier(_id(name), None, None))

    return change


def _id(name: str) -> bytes:
    from tests.support.chains import keys

    return x509.SubjectKeyIdentifier.from_public_key(keys()[name].public_key()).digest


def _constraints(permitted: list[x509.GeneralName] | None, excluded: list[x509.GeneralName] | None) -> None:
    """Add features with these name constraints."""
    kind, value = next((type(each).__name__, each.value) for each in (permitted or excluded or ()))
    label = f"{'permits' if permitted else 'excludes'} {kind} {value if isinstance(value, str) else ''}".strip()
    _certificate(label, *_ABOVE, change=_puts(x509.NameConstraints(permitted, excluded), critical=True))


# Times
_certificate("expired", change=_sets(end=NOW - timedelta(hours=1)))
_certificate("not yet valid", change=_sets(begin=NOW + DAY))
_certificate("valid to 2060", change=_sets(end=NOW.replace(year=2060)))
_certificate("ends before it begins", change=_sets(begin=NOW - DAY, end=NOW - 2 * DAY))

# Signatures, keys and numbers
_certificate("spoiled signature", change=_sets(spoiled=True))
_certificate("SHA-1", change=_sets(weak=True))
for _name in ("rsa", "rsa1024", "p384", "p521", "k1", "ed25519"):
    FEATURES[f"key {_name}"] = Feature(_key(_name), _ALL)
_certificate("serial zero", change=_sets(serial=integer(0)))
_certificate("serial negative", change=_sets(serial=integer(-5)))
_certificate("serial of 20 octets", change=_sets(serial=integer((1 << 158) + 1)))
_certificate("serial of 21 octets", change=_sets(serial=integer(1 << 163)))
_certificate("serial padded", change=_sets(serial=bytes.fromhex("02020005")))
_certificate("version 1", change=_sets(version=None, extensions={}))
_certificate("version 1 with extensions", change=_sets(version=None))
_certificate("version 2 with extensions", change=_sets(version=1))
_certificate("trailing bytes", change=_sets(trailing=b"\x05\x00"))

# Authorities
_certificate("no basic constraints", *_ABOVE, change=_drops(x509.BasicConstraints))
_certificate("CA:FALSE", *_ABOVE, change=_puts(x509.BasicConstraints(False, None), critical=True))
_certificate("CA:TRUE", "leaf", change=_puts(x509.BasicConstraints(True, None), critical=True))
_certificate("basic constraints not critical", *_ABOVE, change=_puts(x509.BasicConstraints(True, None)))
_certificate("no authority may follow", *_ABOVE, change=_puts(x509.BasicConstraints(True, 0), critical=True))
_certificate("one authority may follow", *_ABOVE, change=_puts(x509.BasicConstraints(True, 1), critical=True))
_certificate("path length without CA", "leaf", change=_raw("2.5.29.19", element(SEQUENCE, integer(3)), TRUE))
_certificate("TRUE as 1", *_ABOVE, change=_raw("2.5.29.19", bytes.fromhex("3003010101"), TRUE))
_certificate("critical as 1", *_ABOVE, change=_raw("2.5.29.19", bytes.fromhex("30030101ff"), bytes.fromhex("010101")))

# Key usage and extended key usage
_certificate("no key usage", change=_drops(x509.KeyUsage))
_certificate("no keyCertSign", *_ABOVE, change=_puts(_key_usage("crl_sign"), critical=True))
_certificate("no digitalSignature", "leaf", change=_puts(_key_usage("key_encipherment"), critical=True))
_certificate("keyCertSign", "leaf", change=_puts(_key_usage("digital_signature", "key_cert_sign"), critical=True))
for _words, _usages in {
    "serverAuth": [ExtendedKeyUsageOID.SERVER_AUTH],
    "clientAuth": [ExtendedKeyUsageOID.CLIENT_AUTH],
    "anyExtendedKeyUsage": [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE],
    "codeSigning": [ExtendedKeyUsageOID.CODE_SIGNING],
}.items():
    _certificate(f"only {_words}", change=_puts(x509.ExtendedKeyUsage(_usages)))
_certificate("no extended key usage", "leaf", change=_drops(x509.ExtendedKeyUsage))

# Key identifiers
_certificate("no subject key identifier", change=_drops(x509.SubjectKeyIdentifier))
_certificate("no authority key identifier", change=_drops(x509.AuthorityKeyIdentifier))
_certificate("another authority key identifier", change=_puts(x509.AuthorityKeyIdentifier(b"another", None, None)))
_certificate("another subject key identifier", *_ABOVE, change=_puts(x509.SubjectKeyIdentifier(b"another")))

# Names
_certificate("no subject", "leaf", change=_sets(subject=element(SEQUENCE)))
_certificate("no alternative name", "leaf", change=_drops(x509.SubjectAlternativeName))
_certificate("another name", "leaf", change=_puts(x509.SubjectAlternativeName([x509.DNSName("other.example")])))
_certificate("wildcard", "leaf", change=_puts(x509.SubjectAlternativeName([x509.DNSName("*.example")])))
_certificate(
    "further names",
    "leaf",
    change=_puts(
        x509.SubjectAlternativeName(
            [
                x509.DNSName(NAME),
                x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
                x509.RFC822Name("someone@mail.example"),
                x509.UniformResourceIdentifier("https://web.example/"),
            ]
        )
    ),
)
_certificate("empty alternative name", "leaf", change=_raw("2.5.29.17", element(SEQUENCE)))
_constraints([x509.DNSName("example")], None)
_constraints([x509.DNSName("other.example")], None)
_constraints([x509.DNSName(".example")], None)
_constraints(None, [x509.DNSName("example")])
_constraints(None, [x509.DNSName("other.example")])
_constraints([x509.IPAddress(ipaddress.ip_network("198.51.100.0/24"))], None)
_constraints(None, [x509.IPAddress(ipaddress.ip_network("192.0.2.0/24"))])
_constraints([x509.RFC822Name("mail.example")], None)
_constraints(None, [x509.RFC822Name("mail.example")])
_constraints([x509.UniformResourceIdentifier("web.example")], None)
_constraints(None, [x509.UniformResourceIdentifier("web.example")])
_constraints([x509.DirectoryName(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a leaf")]))], None)
_constraints(None, [x509.DirectoryName(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a leaf")]))])
_constraints([x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))], None)
_certificate("name constraints", "leaf", change=_puts(x509.NameConstraints([x509.DNSName("example")], None)))


def _spelled(tag: int, spell: Callable[[str], str]) -> Callable[[Plan, int], None]:
    """Let what is below a certificate spell its name otherwise than the certificate itself."""

    def change(plan: Plan, at: int) -> None:
        if at:
            text = {2: "Issuing", 1: "Root"}.get(len(plan.path) - at, "Root")
            named = plan.path[at].subject
            text = next(
                (each for each in ("Issuing", "Middle", "Root", "Other Root", "Two") if name_of(each) == named), text
            )
            plan.path[at - 1].issuer = name_of(spell(text), tag)

    return change


for _words, _tag, _spell in (
    ("PrintableString", 0x13, str),
    ("TeletexString", 0x14, str),
    ("BMPString", 0x1E, str),
    ("UniversalString", 0x1C, str),
    ("other case", 0x0C, str.upper),
    ("blanks around", 0x0C, lambda text: f" {text}  "),
    ("another character", 0x0C, lambda text: text + "x"),
):
    FEATURES[f"issuer as {_words}"] = Feature(_spelled(_tag, _spell), _ABOVE)

# Other extensions
_certificate("unknown extension", change=_raw("1.2.3.4", b"\x05\x00"))
_certificate("unknown critical extension", change=_raw("1.2.3.4", b"\x05\x00", TRUE))
_certificate(
    "the same extension twice",
    change=_puts(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), mark=" again"),
)
_certificate("two key usages", change=_puts(_key_usage("digital_signature", "key_cert_sign"), mark=" again"))
_certificate("damaged extension", change=_raw("2.5.29.15", b"\x30\x00", TRUE))
_certificate("policy required", "authority", change=_puts(x509.PolicyConstraints(0, None), critical=True))
_certificate(
    "policy",
    change=_puts(
        x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3.9"), None)]), critical=True
    ),
)
_certificate("inhibit any policy", "authority", change=_puts(x509.InhibitAnyPolicy(0), critical=True))


# Revocation lists
def _list(name: str, **changes: object) -> None:
    """Add a feature: the issuer of the certificate has a list."""

    def change(plan: Plan, at: int) -> None:
        if at + 1 < len(plan.path):
            issuer = plan.path[at + 1]
            values = {"issuer": issuer.subject, "signer": issuer.key, **changes}
            plan.lists.append(RevocationList(**values))  # type: ignore[arg-type]

    FEATURES[name] = Feature(change, ("leaf", "authority"))


@_feature("revoked", "leaf", "authority")
def _revoked(plan: Plan, at: int) -> None:
    if at + 1 < len(plan.path):
        issuer = plan.path[at + 1]
        plan.path[at].serial = integer(77)
        plan.lists.append(RevocationList(issuer.subject, issuer.key, (integer(5), integer(77))))


@_feature("revoked by a list in another spelling", "leaf", "authority")
def _revoked_otherwise(plan: Plan, at: int) -> None:
    _revoked(plan, at)
    if plan.lists and name_of("Issuing") == plan.lists[-1].issuer:
        plan.lists[-1].issuer = name_of("ISSUING", 0x13)
    elif plan.lists and name_of("Root") == plan.lists[-1].issuer:
        plan.lists[-1].issuer = name_of("ROOT", 0x13)


_list("list")
_list("list of others", serials=(integer(5), integer(78)))
_list("expired list", end=NOW - timedelta(hours=1))
_list("list of tomorrow", begin=NOW + DAY)
_list("list without an end", end=None)
_list("spoiled list", spoiled=True)
_list("list by another key", signer="p256-3")
_list("list with an unknown extension", extensions=(extension("1.2.3.4", b"\x05\x00"),))
_list("list with an unknown critical extension", extensions=(extension("1.2.3.4", b"\x05\x00", TRUE),))
_list("list of users alone", extensions=(extension("2.5.29.28", bytes.fromhex("30038101ff"), TRUE),))
_list("list of authorities alone", extensions=(extension("2.5.29.28", bytes.fromhex("30038201ff"), TRUE),))
_list("list of authorities, not critical", extensions=(extension("2.5.29.28", bytes.fromhex("30038201ff")),))
