"""Session tags as data: what the configuration holds of tlshd's tags.  It imports little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

KEY_USAGES: Mapping[str, str] = {
    "digitalSignature": "digital_signature",
    "nonRepudiation": "content_commitment",
    "keyEncipherment": "key_encipherment",
    "dataEncipherment": "data_encipherment",
    "keyAgreement": "key_agreement",
    "keyCertSign": "key_cert_sign",
    "cRLSign": "crl_sign",
    "encipherOnly": "encipher_only",
    "decipherOnly": "decipher_only",
}
"""Bits of a key usage, by their names in RFC 5280."""

KINDS = (
    "x509.cert.signatureAlgorithm",
    "x509.tbs.version",
    "x509.tbs.serialNumber",
    "x509.tbs.issuer",
    "x509.tbs.validity.notBefore",
    "x509.tbs.validity.notAfter",
    "x509.tbs.subject",
    "x509.extension.keyUsage",
    "x509.derived.fingerprint",
    "x509.derived.selfSigned",
)
"""Types of filters."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Filter.  ``pattern``: text with ``*`` and ``?``.  ``moment``: seconds since the epoch.  ``usages``: of
    :data:`KEY_USAGES`, all of which the certificate must have."""

    kind: str
    pattern: str = ""
    moment: float = 0.0
    usages: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Tag:
    """Tag.  ``wanted``: filters that must match; ``unwanted``: those that must not."""

    name: str
    wanted: tuple[Filter, ...] = ()
    unwanted: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionTags:
    """Tags of one configuration."""

    tags: tuple[Tag, ...] = ()
