"""The certificates that a revocation list covers (RFC 5280 sections 5.2.5 and 6.3.3), critical or not.

An authority may divide its list: by kind of certificate, by reason of revocation, and by distribution point.  The list
of a point covers the certificates that name this point.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509

from hsframework.credentials.certificate import Facts
from hsframework.credentials.distinguished import comparable

ALL_REASONS = frozenset(x509.ReasonFlags) - {x509.ReasonFlags.unspecified, x509.ReasonFlags.remove_from_crl}
"""Reasons for which a certificate may be revoked (RFC 5280 section 5.3.1)."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """Coverage of one certificate by one list: the reasons of revocation, or the problem if there are none."""

    reasons: frozenset[x509.ReasonFlags]
    problem: str = ""


def coverage(point: x509.IssuingDistributionPoint | None, facts: Facts) -> Coverage:
    """Return what a list with the issuing distribution point ``point`` (None: it has none) covers of a certificate."""
    if point is None:
        return Coverage(ALL_REASONS)
    if point.only_contains_attribute_certs:
        return Coverage(frozenset(), "it covers attribute certificates alone")
    if point.only_contains_user_certs and facts.is_authority:
        return Coverage(frozenset(), "it covers no certificates of authorities")
    if point.only_contains_ca_certs and not facts.is_authority:
        return Coverage(frozenset(), "it covers certificates of authorities alone")
    reasons = ALL_REASONS if point.only_some_reasons is None else frozenset(point.only_some_reasons)
    if point.full_name is None and point.relative_name is None:
        return Coverage(reasons)
    if not facts.distribution_points:
        return Coverage(frozenset(), "it is the list of a distribution point, and the certificate names none")
    covered: frozenset[x509.ReasonFlags] = frozenset()
    for named in facts.distribution_points:
        if _same_point(point, named, facts):
            covered |= reasons if named.reasons is None else reasons & named.reasons
    return Coverage(covered, "" if covered else "it is the list of another distribution point")


def _same_point(point: x509.IssuingDistributionPoint, named: x509.DistributionPoint, facts: Facts) -> bool:
    issuer = facts.certificate.issuer
    ours = _names(point.full_name, point.relative_name, issuer)
    return bool(ours & _names(named.full_name, named.relative_name, issuer))


def _names(
    names: Iterable[x509.GeneralName] | None, relative: x509.RelativeDistinguishedName | None, issuer: x509.Name
) -> set[tuple[str, object]]:
    """Return the comparable names of a distribution point; a relative one is below the ``issuer`` of the list."""
    if relative is not None:
        return {("DirectoryName", comparable(x509.Name([*issuer.rdns, relative]).public_bytes()))}
    return {
        ("DirectoryName", comparable(name.value.public_bytes()))
        if isinstance(name, x509.DirectoryName)
        else (type(name).__name__, name.value)
        for name in names or ()
    }
