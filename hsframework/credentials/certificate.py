"""Certificates for path validation: names are read at once, everything else on first use.

:attr:`ParsedCertificate.facts` parses the whole certificate with ``cryptography`` and raises
``HandshakeFailed(BAD_CERTIFICATE)`` for one that cannot be read, so that no other code here handles parser exceptions.
Names are compared in the form of :func:`~hsframework.credentials.distinguished.comparable`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from weakref import WeakValueDictionary

import cryptography.hazmat.backends.openssl.backend  # noqa: F401  (else the first ECDSA signature imports it)
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.x509.oid import SignatureAlgorithmOID
from OpenSSL import crypto

from hsframework.caches import SizedCache
from hsframework.credentials.der import certificate_names, policy_mappings, subject_key_id
from hsframework.credentials.distinguished import comparable
from hsframework.failures import Failure, HandshakeFailed
from hsframework.tls.parsing import PARSE_ERRORS, load_certificate, no_warnings, unreadable

MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
"""Sizes of RSA keys that are accepted."""
MAX_RSA_EXPONENT_BITS = 33
"""Size of the public exponent of an RSA key: 65537 has 17 bits."""
MAX_NAMES = 1000
"""Names in one certificate."""
MAX_REMEMBERED_SIZE = 4096
"""Size of a peer's authorities that are remembered, in bytes."""
MIN_EC_BITS = 256
"""Smallest curve that is accepted."""

_STRONG_SIGNATURES = frozenset({
    SignatureAlgorithmOID.RSA_WITH_SHA256, SignatureAlgorithmOID.RSA_WITH_SHA384, SignatureAlgorithmOID.RSA_WITH_SHA512,
    SignatureAlgorithmOID.ECDSA_WITH_SHA256, SignatureAlgorithmOID.ECDSA_WITH_SHA384,
    SignatureAlgorithmOID.ECDSA_WITH_SHA512, SignatureAlgorithmOID.ED25519, SignatureAlgorithmOID.ED448,
    SignatureAlgorithmOID.ML_DSA_44, SignatureAlgorithmOID.ML_DSA_65, SignatureAlgorithmOID.ML_DSA_87,
})  # fmt: skip
_STRONG_HASHES = frozenset({"sha256", "sha384", "sha512"})
StrongKey = (
    ed25519.Ed25519PublicKey
    | ed448.Ed448PublicKey
    | mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
)
"""Public keys of one size and one way to sign."""

_POLICY_MAPPINGS = x509.ObjectIdentifier("2.5.29.33")
_HANDLED_EXTENSIONS = (
    x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName, x509.NameConstraints,
    x509.CertificatePolicies, x509.InhibitAnyPolicy, x509.AuthorityKeyIdentifier, x509.SubjectKeyIdentifier,
    x509.CRLDistributionPoints, x509.PolicyConstraints,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """The contents of one certificate.  An extension that it does not have is None."""

    certificate: x509.Certificate
    label: str
    """Subject in printable form, of bounded length."""
    subject: x509.Name
    not_before: datetime
    not_after: datetime
    serial_number: int
    weak_key: str
    """Defect of its public key, or an empty text."""
    weak_signature: str
    """Defect of its signature algorithm, or an empty text."""
    basic_constraints: x509.BasicConstraints | None
    key_usage: x509.KeyUsage | None
    extended_key_usage: frozenset[x509.ObjectIdentifier] | None
    names: tuple[x509.GeneralName, ...]
    """Names in the subjectAltName extension."""
    name_constraints: x509.NameConstraints | None
    unhandled_critical: tuple[str, ...]
    """Critical extensions that are not processed, as dotted object identifiers."""
    policies: tuple[str, ...]
    """Policies that it states, as dotted object identifiers."""
    policy_mappings: tuple[tuple[str, str], ...]
    policy_constraints: x509.PolicyConstraints | None
    inhibit_any_policy: int | None
    subject_key_id: bytes | None
    authority_key_id: bytes | None
    distribution_points: tuple[x509.DistributionPoint, ...]
    """Points at which its authority publishes the revocation list that covers it."""

    @property
    def is_authority(self) -> bool:
        """True if its basic constraints say that it is an authority."""
        return self.basic_constraints is not None and self.basic_constraints.ca


class ParsedCertificate:
    """A DER certificate with its encoded names, and its :class:`Facts` on first use.

    Raises ``ValueError`` if it does not have the outer structure of a certificate.
    """

    def __init__(self, der: bytes) -> None:
        self.der = der
        issuer, subject = certificate_names(der)
        self.issuer, self.subject = comparable(issuer), comparable(subject)

    @property
    def self_issued(self) -> bool:
        """True if issuer and subject are the same name (RFC 5280 section 3.2), whatever key has signed it."""
        return self.issuer == self.subject

    @cached_property
    def key_id(self) -> bytes | None:
        """Subject key identifier, read without parsing the rest; None without one, and for one that cannot be read."""
        try:
            return subject_key_id(self.der)
        except ValueError:
            return None

    @cached_property
    def facts(self) -> Facts:
        """Parsed contents.  Raises ``HandshakeFailed(BAD_CERTIFICATE)`` if the certificate cannot be read."""
        try:
            with no_warnings():
                return _read_facts(load_certificate(self.der))
        except PARSE_ERRORS as error:
            raise HandshakeFailed(Failure.BAD_CERTIFICATE, unreadable(error)) from error

    @cached_property
    def for_openssl(self) -> crypto.X509:
        """The certificate as OpenSSL has read it.  Raises ``OpenSSL.crypto.Error``."""
        return crypto.load_certificate(crypto.FILETYPE_ASN1, self.der)


_shared: WeakValueDictionary[bytes, ParsedCertificate] = WeakValueDictionary()
_authorities: SizedCache[bytes, ParsedCertificate] = SizedCache("authorities that peers send", share=1 / 32)


def shared_certificate(der: bytes) -> ParsedCertificate:
    """Return a certificate that is to be kept: one object for the same bytes, as long as somebody keeps it.

    Raises ``ValueError`` if it does not have the outer structure of a certificate.
    """
    found = _shared.get(der)
    return _shared.setdefault(der, ParsedCertificate(der)) if found is None else found


def is_shared(der: bytes) -> bool:
    """Return True if somebody keeps the object of :func:`shared_certificate`."""
    return der in _shared


def parsed_authority(der: bytes) -> ParsedCertificate:
    """Return a certificate that a peer sent beside its own, remembered if it is short: many peers send the same.

    Raises ``ValueError`` if it does not have the outer structure of a certificate.
    """
    if len(der) > MAX_REMEMBERED_SIZE:
        return ParsedCertificate(der)
    found = _authorities.get(der)
    if found is None:
        found = shared_certificate(der)
        _authorities.put(der, found, 4 * len(der))
    return found


def comparable_name(name: x509.Name) -> bytes:
    """Return the form in which a name is compared.  Raises ``HandshakeFailed(BAD_CERTIFICATE)``."""
    try:
        return comparable(name.public_bytes())
    except PARSE_ERRORS as error:
        raise HandshakeFailed(Failure.BAD_CERTIFICATE, f"a name in it cannot be read: {error}") from error


def printable(text: str, limit: int = 120) -> str:
    """Escape text from a certificate for a log: ASCII without control characters, cut at ``limit`` characters."""
    shown = ascii(text[:limit])[1:-1]
    return shown[:limit] + ("..." if len(text) > limit or len(shown) > limit else "")


def _read_facts(certificate: x509.Certificate) -> Facts:
    try:
        found = {type(extension.value): extension.value for extension in certificate.extensions}
    except PARSE_ERRORS as error:
        raise HandshakeFailed(Failure.BAD_CERTIFICATE, f"an extension {unreadable(error)}") from error
    usage = found.get(x509.ExtendedKeyUsage)
    names = found.get(x509.SubjectAlternativeName)
    key_id = found.get(x509.SubjectKeyIdentifier)
    authority = found.get(x509.AuthorityKeyIdentifier)
    basic = found.get(x509.BasicConstraints)
    key_usage = found.get(x509.KeyUsage)
    constraints = found.get(x509.NameConstraints)
    points = found.get(x509.CRLDistributionPoints)
    policies = found.get(x509.CertificatePolicies)
    limits = found.get(x509.PolicyConstraints)
    inhibit = found.get(x509.InhibitAnyPolicy)
    if isinstance(names, x509.SubjectAlternativeName) and len(names) > MAX_NAMES:
        raise HandshakeFailed(Failure.BAD_CERTIFICATE, f"a certificate has more than {MAX_NAMES} names")
    return Facts(
        certificate=certificate,
        label=printable(certificate.subject.rfc4514_string()) or "(empty subject)",
        subject=certificate.subject,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        serial_number=certificate.serial_number,
        weak_key=_weakness_of_key(certificate),
        weak_signature=weakness_of_signature(certificate),
        basic_constraints=basic if isinstance(basic, x509.BasicConstraints) else None,
        key_usage=key_usage if isinstance(key_usage, x509.KeyUsage) else None,
        extended_key_usage=frozenset(usage) if isinstance(usage, x509.ExtendedKeyUsage) else None,
        names=tuple(names) if isinstance(names, x509.SubjectAlternativeName) else (),
        name_constraints=constraints if isinstance(constraints, x509.NameConstraints) else None,
        unhandled_critical=unhandled_critical(certificate.extensions, _HANDLED_EXTENSIONS, {_POLICY_MAPPINGS}),
        policies=tuple(p.policy_identifier.dotted_string for p in policies)
        if isinstance(policies, x509.CertificatePolicies)
        else (),
        policy_mappings=_policy_mappings(certificate.extensions),
        policy_constraints=limits if isinstance(limits, x509.PolicyConstraints) else None,
        inhibit_any_policy=inhibit.skip_certs if isinstance(inhibit, x509.InhibitAnyPolicy) else None,
        subject_key_id=key_id.digest if isinstance(key_id, x509.SubjectKeyIdentifier) else None,
        authority_key_id=authority.key_identifier if isinstance(authority, x509.AuthorityKeyIdentifier) else None,
        distribution_points=tuple(points) if isinstance(points, x509.CRLDistributionPoints) else (),
    )


def _policy_mappings(extensions: x509.Extensions) -> tuple[tuple[str, str], ...]:
    for extension in extensions:
        if extension.oid == _POLICY_MAPPINGS and isinstance(extension.value, x509.UnrecognizedExtension):
            return policy_mappings(extension.value.value)
    return ()


def unhandled_critical(
    extensions: x509.Extensions,
    handled: tuple[type[x509.ExtensionType], ...],
    handled_oids: Set[x509.ObjectIdentifier] = frozenset(),
) -> tuple[str, ...]:
    """Return the dotted object identifiers of the critical extensions that are of none of the ``handled`` types."""
    return tuple(
        e.oid.dotted_string
        for e in extensions
        if e.critical and not isinstance(e.value, handled) and e.oid not in handled_oids
    )


def weakness_of_signature(signed: x509.Certificate | x509.CertificateRevocationList) -> str:
    """Return the defect of the algorithm by which ``signed`` is signed, or an empty text."""
    oid = signed.signature_algorithm_oid
    if oid in _STRONG_SIGNATURES:
        return ""
    if oid == SignatureAlgorithmOID.RSASSA_PSS:
        algorithm = signed.signature_hash_algorithm
        if algorithm is not None and algorithm.name in _STRONG_HASHES:
            return ""
        return "signed with RSA-PSS and a hash that is not SHA-256, SHA-384 or SHA-512"
    return f"signed with {oid.dotted_string}, which is weak or not supported"


_weaknesses: SizedCache[bytes, str] = SizedCache("keys that peers show", share=1 / 128)


def weakness_of_key(der: bytes) -> str:
    """Return the reason for which no signature is to be verified with a certificate's key; an empty text: none."""
    digest = hashlib.sha256(der).digest()
    found = _weaknesses.get(digest)
    if found is None:
        try:
            with no_warnings():
                found = _weakness_of_key(load_certificate(der))
        except PARSE_ERRORS as error:
            found = unreadable(error)
        _weaknesses.put(digest, found, 256)
    return found


def _weakness_of_key(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        if MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            exponent = key.public_numbers().e
            # A signature is raised to it: 3,071 bits cost 20 ms each.
            return "" if exponent.bit_length() <= MAX_RSA_EXPONENT_BITS else "its RSA key has a huge public exponent"
        return f"its RSA key has {key.key_size} bits, not {MIN_RSA_BITS} to {MAX_RSA_BITS}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "" if key.curve.key_size >= MIN_EC_BITS else f"its curve {key.curve.name} is too small"
    return "" if isinstance(key, StrongKey) else "its key is of a type that is not supported"
