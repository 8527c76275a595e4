"""Rules for each certificate of a complete path (RFC 5280 section 6.1, RFC 8446 section 4.4.2).

A path goes from the leaf to the anchor, and every signature in it verifies.  The rules apply to the anchor too, except
those for its own signature.  They are checked in the order in which a failure is most useful: a certificate that is
both expired and misnamed is reported as expired.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from hsframework.credentials.certificate import Facts, ParsedCertificate
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import ClientUsage, Role

Usage = x509.ObjectIdentifier
"""An extended key usage."""
RPC_TLS_CLIENT = Usage("1.3.6.1.5.5.7.3.33")
RPC_TLS_SERVER = Usage("1.3.6.1.5.5.7.3.34")
"""Usages of certificates for remote procedure calls alone (RFC 9289 section 5.2.1)."""


class Purpose(enum.Enum):
    """The extended key usages of which a path must allow one (RFC 5280 section 4.2.1.12)."""

    SERVER_AUTH = (ExtendedKeyUsageOID.SERVER_AUTH,)
    CLIENT_AUTH = (ExtendedKeyUsageOID.CLIENT_AUTH,)
    RPC_SERVER = (ExtendedKeyUsageOID.SERVER_AUTH, RPC_TLS_SERVER)
    """A server of NFS."""
    RPC_CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH, RPC_TLS_CLIENT)
    """A client of NFS."""
    TLS_CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
    """A client whose certificate may be one for servers."""
    TLS_RPC_CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH, RPC_TLS_CLIENT, ExtendedKeyUsageOID.SERVER_AUTH)
    """A client of NFS whose certificate may be one for servers."""


def purpose_for(role: Role, client_usage: ClientUsage, *, of_nfs: bool) -> Purpose:
    """Return the purpose of the peer's certificate.  ``role``: ours.  ``of_nfs``: True if the session is one of NFS."""
    if role is Role.CLIENT:
        return Purpose.RPC_SERVER if of_nfs else Purpose.SERVER_AUTH
    if client_usage is ClientUsage.TLS:
        return Purpose.TLS_RPC_CLIENT if of_nfs else Purpose.TLS_CLIENT
    return Purpose.RPC_CLIENT if of_nfs else Purpose.CLIENT_AUTH


def check_readable(path: Sequence[ParsedCertificate]) -> None:
    """Check for weak keys, unknown critical extensions, and below the anchor for ambiguous forms.

    Raises ``HandshakeFailed(BAD_CERTIFICATE)``.
    """
    for position, certificate in enumerate(path):
        facts = certificate.facts
        problem = _problem_of_form(certificate)
        if problem and position + 1 < len(path):
            raise HandshakeFailed(Failure.BAD_CERTIFICATE, f"{facts.label}: {problem}")
        if facts.weak_key:
            raise HandshakeFailed(Failure.BAD_CERTIFICATE, f"{facts.label}: {facts.weak_key}")
        if facts.unhandled_critical:
            unknown = ", ".join(facts.unhandled_critical[:4])
            raise HandshakeFailed(Failure.BAD_CERTIFICATE, f"{facts.label}: unknown critical extension {unknown}")


def _problem_of_form(certificate: ParsedCertificate) -> str:
    """Return the defect of a certificate's form that another reader could take for something else, or an empty text."""
    facts = certificate.facts
    if not 0 < facts.serial_number < 1 << 159:
        return "its serial number is not a positive one of at most 20 octets (RFC 5280 section 4.1.2.2)"
    if facts.name_constraints is not None and not facts.is_authority:
        return "it has name constraints and is no authority (RFC 5280 section 4.2.1.10)"
    return ""


def check_validity(path: Sequence[ParsedCertificate], now: datetime) -> tuple[datetime, datetime]:
    """Check that every certificate is valid ``now``; return begin and end of the time in which all are.

    Raises ``HandshakeFailed(EXPIRED)``, also for a certificate that is not valid yet.
    """
    for certificate in path:
        facts = certificate.facts
        if now > facts.not_after:
            raise HandshakeFailed(Failure.EXPIRED, f"{facts.label} expired on {facts.not_after:%Y-%m-%d %H:%M:%SZ}")
        if now < facts.not_before:
            raise HandshakeFailed(Failure.EXPIRED, f"{facts.label} is valid from {facts.not_before:%Y-%m-%d %H:%M:%SZ}")
    return max(c.facts.not_before for c in path), min(c.facts.not_after for c in path)


def check_usage(path: Sequence[ParsedCertificate], purpose: Purpose) -> Usage:
    """Check basic constraints, path length, key usage and extended key usage; return the usage that the path allows.

    An extended key usage must list the usage itself (``anyExtendedKeyUsage`` is not enough), in an authority that
    has one as in the leaf; this is OpenSSL's rule.  Raises ``HandshakeFailed(WRONG_USAGE)``.
    """
    leaf = path[0].facts
    if leaf.key_usage is not None and not leaf.key_usage.digital_signature:
        raise _wrong_usage(leaf, "its key usage has no digitalSignature")
    left: Sequence[Usage] = purpose.value
    for certificate in path:
        usages = certificate.facts.extended_key_usage
        if usages is not None:
            left = [usage for usage in left if usage in usages]
        if not left:
            raise _wrong_usage(certificate.facts, f"its extended key usage has no {purpose.name}")
    check_authorities(path)
    return left[0]


def check_authorities(path: Sequence[ParsedCertificate]) -> None:
    """Check basic constraints, path length and key usage of every certificate above the first.

    Raises ``HandshakeFailed(WRONG_USAGE)``.
    """
    below = 0  # authorities between this one and the leaf that are not self-issued
    for depth, authority in enumerate(path[1:], start=1):
        _check_authority(authority, below, is_anchor=depth == len(path) - 1)
        below += not authority.self_issued


def _check_authority(authority: ParsedCertificate, below: int, *, is_anchor: bool) -> None:
    facts = authority.facts
    basic = facts.basic_constraints
    if basic is None:
        # Anchors from before X.509v3 have no extensions.
        if not is_anchor or facts.certificate.version is not x509.Version.v1:
            raise _wrong_usage(facts, "is not an authority (no basic constraints)")
    elif not basic.ca:
        raise _wrong_usage(facts, "is not an authority (basic constraints CA:FALSE)")
    elif basic.path_length is not None and below > basic.path_length:
        raise _wrong_usage(facts, f"allows {basic.path_length} authorities below it, and there are {below}")
    if facts.key_usage is not None and not facts.key_usage.key_cert_sign:
        raise _wrong_usage(facts, "its key usage has no keyCertSign")


def _wrong_usage(facts: Facts, detail: str) -> HandshakeFailed:
    return HandshakeFailed(Failure.WRONG_USAGE, f"{facts.label}: {detail}")
