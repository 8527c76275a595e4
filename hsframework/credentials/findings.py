"""Findings about credentials that load and do not serve: said at start, by doctor and as a metric.

A finding stops nothing: what is wrong today may be right tomorrow, and the other credentials serve meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from hsframework.credentials.certificate import ParsedCertificate
from hsframework.credentials.paths import Anchors, Search
from hsframework.credentials.revocation import RevocationLists
from hsframework.credentials.rules import Purpose, check_usage, check_validity
from hsframework.failures import HandshakeFailed
from hsframework.interface import Identity, Role, Trust

_PURPOSES = {Role.SERVER: Purpose.SERVER_AUTH, Role.CLIENT: Purpose.CLIENT_AUTH}


@dataclass(frozen=True, slots=True)
class CredentialFinding:
    """A finding about one identity or one trust of the configuration."""

    where: str
    """Table of the configuration, for example ``trust.partners``."""
    detail: str
    useless: bool = False
    """True if no peer accepts it today, or, of a revocation list, no peer of its authority is accepted."""


class TrustExamination:
    """A trust, read once, whose findings may be asked for again and again.

    ``where``: for messages.  Raises ``ConfigurationError`` if a revocation list cannot be read.
    """

    def __init__(self, where: str, trust: Trust) -> None:
        self._where = where
        self._anchors = Anchors(trust.anchors)
        self._lists = RevocationLists(trust.crls)
        self._lists.verify_signatures(self._anchors)

    def findings(self, now: datetime) -> Iterator[CredentialFinding]:
        """Yield a finding for each list that cannot clear a certificate ``now``."""
        for entry in self._lists:
            signers = self._anchors.named(entry.issuer)
            problem = expired = entry.problem_at(now)
            if not signers:
                problem = problem or "the trust has no authority of this name: it counts for what peers send alone"
            elif not any(self._lists.signed_by(entry, signer) for signer in signers):
                problem = "the trust has an authority of this name, whose key did not sign it"
            if problem:
                # With a list of a trusted authority that is out of date, each of its certificates is refused.
                useless = bool(expired) and bool(signers)
                yield CredentialFinding(self._where, f"the revocation list of {entry.label}: {problem}", useless)

    def dates(self) -> Iterator[datetime]:
        """Yield the dates at which the findings change."""
        for entry in self._lists:
            yield entry.this_update
            if entry.next_update is not None:
                yield entry.next_update

    def ends(self) -> Iterator[tuple[str, datetime]]:
        """Yield the issuer of each list with an end, and that."""
        for entry in self._lists:
            if entry.next_update is not None:
                yield entry.label, entry.next_update

    def certifies(self, identity: Identity) -> bool:
        """Return True if a path with right signatures leads from an identity to an anchor."""
        try:
            search = Search(identity.chain, self._anchors)
            return any(search.signatures_verify(path) for path in search.paths())
        except HandshakeFailed:
            return False


def identity_findings(
    where: str, identity: Identity, roles: tuple[Role, ...], now: datetime
) -> list[CredentialFinding]:
    """Return the findings about an identity that is shown in ``roles`` (empty: unknown, one of them is enough)."""
    leaf = ParsedCertificate(identity.chain[0])
    problems = []
    try:
        check_validity(tuple(map(ParsedCertificate, identity.chain)), now)
    except HandshakeFailed as failure:
        problems.append(failure.detail)
    refused = [problem for role in roles or tuple(_PURPOSES) if (problem := _problem_of_usage(leaf, role))]
    if refused and (roles or len(refused) == len(_PURPOSES)):
        problems += refused if roles else refused[:1]
    return [CredentialFinding(where, problem, useless=True) for problem in problems]


def identity_dates(identity: Identity) -> Iterator[datetime]:
    """Yield the dates at which the findings about an identity change."""
    for certificate in map(ParsedCertificate, identity.chain):
        with contextlib.suppress(HandshakeFailed):
            yield from (certificate.facts.not_before, certificate.facts.not_after)


def identity_expiry(identity: Identity) -> datetime | None:
    """Return the end of the first certificate of an identity's chain to end; None if none can be read."""
    ends = []
    for certificate in map(ParsedCertificate, identity.chain):
        with contextlib.suppress(HandshakeFailed):
            ends.append(certificate.facts.not_after)
    return min(ends, default=None)


def _problem_of_usage(leaf: ParsedCertificate, role: Role) -> str:
    try:
        check_usage((leaf,), _PURPOSES[role])
    except HandshakeFailed as failure:
        return failure.detail
    return ""
