"""Session tags: names that a session gets by the contents of its peer's certificate, as tlshd has them.

A tag is given if all of its filters match, and none of those that it names with ``not``.  tls-session-tags(7) of
ktls-utils is the source of the filters; they are asked of the peer's own certificate, which was verified before, and
decide nothing.

Their cost is bounded, because the peer has chosen the certificate's bytes: one that is longer than :data:`LONGEST`, or
has a name or a serial number beyond its bound, gets no tag.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from hsframework.credentials.der import certificate_names
from hsframework.credentials.tags import KEY_USAGES, Filter, SessionTags, Tag
from hsframework.tls.parsing import PARSE_ERRORS, load_certificate

LONGEST = 16384
"""Bytes of a certificate; one with ML-DSA-87 has 8,000."""
LONGEST_NAME = 2048
"""Bytes of its subject's name, and of its issuer's."""
LONGEST_SERIAL = 64
"""Bytes of its serial number, of which RFC 5280 allows 20."""

_ATTRIBUTES = {
    NameOID.EMAIL_ADDRESS: "EMAIL",
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.TITLE: "title",
    NameOID.GIVEN_NAME: "givenName",
    NameOID.SURNAME: "surName",
    NameOID.STREET_ADDRESS: "street",
    NameOID.POSTAL_CODE: "postalCode",
}
"""Names of attributes that GnuTLS, and so tlshd, writes otherwise."""

_ALGORITHMS: Mapping[str, str] = {
    "1.2.840.113549.1.1.5": "RSA-SHA1",
    "1.2.840.113549.1.1.11": "RSA-SHA256",
    "1.2.840.113549.1.1.12": "RSA-SHA384",
    "1.2.840.113549.1.1.13": "RSA-SHA512",
    "1.2.840.10045.4.3.2": "ECDSA-SHA256",
    "1.2.840.10045.4.3.3": "ECDSA-SHA384",
    "1.2.840.10045.4.3.4": "ECDSA-SHA512",
    "1.3.101.112": "EdDSA-Ed25519",
    "1.3.101.113": "EdDSA-Ed448",
}
"""GnuTLS' names of signature algorithms."""


@lru_cache(maxsize=256)
def tags_of(tags: SessionTags, der: bytes) -> tuple[str, ...]:
    """Return the names of the tags that a certificate gets; none for one that cannot be read or is too long."""
    if len(der) > LONGEST:
        return ()
    try:
        if max(map(len, certificate_names(der))) > LONGEST_NAME:
            return ()
        certificate = load_certificate(der)
        if certificate.serial_number.bit_length() > 8 * LONGEST_SERIAL:
            return ()
        return tuple(tag.name for tag in tags.tags if _is_given(tag, certificate))
    except PARSE_ERRORS:
        return ()


def _is_given(tag: Tag, certificate: x509.Certificate) -> bool:
    if any(_KINDS[each.kind](each, certificate) for each in tag.unwanted):
        return False
    return all(_KINDS[each.kind](each, certificate) for each in tag.wanted)


def _matches(wanted: Filter, *texts: str) -> bool:
    return any(_is_like(text, wanted.pattern) for text in texts)


def _is_like(text: str, pattern: str) -> bool:
    """Return True if the whole text is like a pattern with ``*`` and ``?``.

    A mismatch goes back to the last ``*`` alone, so no pattern takes longer than its length times the text's: a regular
    expression could take years, and the peer has chosen the text.
    """
    place = at = 0
    star, resumed = -1, 0
    while place < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, resumed, at = at, place, at + 1
        elif at < len(pattern) and pattern[at] in ("?", text[place]):
            place, at = place + 1, at + 1
        elif star >= 0:
            resumed += 1
            place, at = resumed, star + 1
        else:
            return False
    return not pattern[at:].strip("*")


def _algorithm(wanted: Filter, certificate: x509.Certificate) -> bool:
    oid = certificate.signature_algorithm_oid.dotted_string
    return _matches(wanted, oid, _ALGORITHMS.get(oid, oid))


def _serial(wanted: Filter, certificate: x509.Certificate) -> bool:
    number = certificate.serial_number
    return _matches(wanted, number.to_bytes(number.bit_length() // 8 + 1, "big").hex())


def _usage(wanted: Filter, certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return all(_has_bit(usage, KEY_USAGES[name]) for name in wanted.usages)


def _has_bit(usage: x509.KeyUsage, name: str) -> bool:
    if name in ("encipher_only", "decipher_only") and not usage.key_agreement:
        return False
    return bool(getattr(usage, name))


def _fingerprint(wanted: Filter, certificate: x509.Certificate) -> bool:
    der = certificate.public_bytes(Encoding.DER)
    return _matches(wanted, hashlib.sha1(der, usedforsecurity=False).hexdigest(), hashlib.sha256(der).hexdigest())


def _name(name: x509.Name) -> str:
    return name.rfc4514_string(_ATTRIBUTES)


_KINDS: Mapping[str, Callable[[Filter, x509.Certificate], bool]] = {
    "x509.cert.signatureAlgorithm": _algorithm,
    "x509.tbs.version": lambda wanted, certificate: _matches(wanted, str(certificate.version.value + 1)),
    "x509.tbs.serialNumber": _serial,
    "x509.tbs.issuer": lambda wanted, certificate: _matches(wanted, _name(certificate.issuer)),
    "x509.tbs.validity.notBefore": lambda wanted, certificate: (
        certificate.not_valid_before_utc.timestamp() >= wanted.moment
    ),
    "x509.tbs.validity.notAfter": lambda wanted, certificate: (
        certificate.not_valid_after_utc.timestamp() <= wanted.moment
    ),
    "x509.tbs.subject": lambda wanted, certificate: _matches(wanted, _name(certificate.subject)),
    "x509.extension.keyUsage": _usage,
    "x509.derived.fingerprint": _fingerprint,
    "x509.derived.selfSigned": lambda wanted, certificate: certificate.issuer == certificate.subject,
}
"""Types of filters, and the question that each asks."""
