"""Certificates for path validation: names are read at once, everything else on first use.

:attr:`ParsedCertificate.facts` parses the whole certificate with ``cryptography`` and raises
``HandshakeFailed(BAD_CERTIFICATE)`` for one that cannot be read, so that no other code here handles parser exceptions.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import cryptography.hazmat.backends.openssl.backend  # noqa: F401  (else the first ECDSA signature imports it)
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.x509.oid import SignatureAlgorithmOID

from hsframework.credentials.der import certificate_names
from hsframework.failures import Failure, HandshakeFailed
from hsframework.tls.parsing import PARSE_ERRORS, no_warnings

MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
"""Sizes of RSA keys that are accepted."""
MIN_EC_BITS = 256
"""Smallest curve that is accepted."""

_STRONG_SIGNATURES = frozenset({
    SignatureAlgorithmOID.RSA_WITH_SHA256, SignatureAlgorithmOID.RSA_WITH_SHA384, SignatureAlgorithmOID.RSA_WITH_SHA512,
    SignatureAlgorithmOID.ECDSA_WITH_SHA256, SignatureAlgorithmOID.ECDSA_WITH_SHA384,
    SignatureAlgorithmOID.ECDSA_WITH_SHA512, SignatureAlgorithmOID.ED25519, SignatureAlgorithmOID.ED448,
    SignatureAlgorithmOID.ML_DSA_44, SignatureAlgorithmOID.ML_DSA_65, SignatureAlgorithmOID.ML_DSA_87,
})  # fmt: skip
_STRONG_HASHES = frozenset({"sha256", "sha384", "sha512"})
_STRONG_KEYS = (
    ed25519.Ed25519PublicKey, ed448.Ed448PublicKey,
    mldsa.MLDSA44PublicKey, mldsa.MLDSA65PublicKey, mldsa.MLDSA87PublicKey,
)  # fmt: skip

# Certificate policies are accepted unprocessed: the initial policy set is any-policy and no explicit policy is required
# (RFC 5280 section 6.1.1), so they cannot fail.  policyConstraints could require one; it is refused if critical.
_HANDLED_EXTENSIONS = (
    x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName, x509.NameConstraints,
    x509.CertificatePolicies, x509.InhibitAnyPolicy, x509.AuthorityKeyIdentifier, x509.SubjectKeyIdentifier,
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
    """Critical extensions that are not processed here, as dotted object identifiers."""
    subject_key_id: bytes | None
    authority_key_id: bytes | None


class ParsedCertificate:
    """A DER certificate with its encoded names, and its :class:`Facts` on first use.

    Raises ``ValueError`` if it does not have the outer structure of a certificate.
    """

    def __init__(self, der: bytes) -> None:
        self.der = der
        self.issuer, self.subject = certificate_names(der)

    @property
    def self_issued(self) -> bool:
        """True if issuer and subject are the same name (RFC 5280 section 3.2), whatever key has signed it."""
        return self.issuer == self.subject

    @cached_property
    def facts(self) -> Facts:
        """Parsed contents.  Raises ``HandshakeFailed(BAD_CERTIFICATE)`` if the certificate cannot be read."""
        try:
            with no_warnings():
                return _read_facts(x509.load_der_x509_certificate(self.der))
        except PARSE_ERRORS as error:
            raise HandshakeFailed(Failure.BAD_CERTIFICATE, f"cannot be read ({type(error).__name__})") from error


def printable(text: str, limit: int = 120) -> str:
    """Escape text from a certificate for a log: ASCII without control characters, cut at ``limit`` characters."""
    shown = ascii(text[:limit])[1:-1]
    return shown[:limit] + ("..." if len(text) > limit or len(shown) > limit else "")


def _read_facts(certificate: x509.Certificate) -> Facts:
    found = {type(extension.value): extension.value for extension in certificate.extensions}
    usage = found.get(x509.ExtendedKeyUsage)
    names = found.get(x509.SubjectAlternativeName)
    key_id = found.get(x509.SubjectKeyIdentifier)
    authority = found.get(x509.AuthorityKeyIdentifier)
    basic = found.get(x509.BasicConstraints)
    key_usage = found.get(x509.KeyUsage)
    constraints = found.get(x509.NameConstraints)
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
        unhandled_critical=unhandled_critical(certificate.extensions, _HANDLED_EXTENSIONS),
        subject_key_id=key_id.digest if isinstance(key_id, x509.SubjectKeyIdentifier) else None,
        authority_key_id=authority.key_identifier if isinstance(authority, x509.AuthorityKeyIdentifier) else None,
    )


def unhandled_critical(extensions: x509.Extensions, handled: tuple[type[x509.ExtensionType], ...]) -> tuple[str, ...]:
    """Return the dotted object identifiers of the critical extensions that are of none of the ``handled`` types."""
    return tuple(e.oid.dotted_string for e in extensions if e.critical and not isinstance(e.value, handled))


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


def _weakness_of_key(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        if MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            return ""
        return f"its RSA key has {key.key_size} bits, not {MIN_RSA_BITS} to {MAX_RSA_BITS}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "" if key.curve.key_size >= MIN_EC_BITS else f"its curve {key.curve.name} is too small"
    return "" if isinstance(key, _STRONG_KEYS) else "its key is of a type that is not supported"
