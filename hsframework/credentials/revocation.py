"""Certificate revocation lists (RFC 5280 sections 5 and 6.3).

The rules:

* A certificate is looked up in the lists of its issuer, at every level below the anchor.  Names are compared as
  RFC 5280 section 7.1 says, never by their bytes.
* A list counts if the issuer has signed it, or another certificate of the issuer's name that the Trust believes (an
  authority that changes its key): a certificate with key usage cRLSign, if it has a key usage.
* A serial number in a list that counts is ``REVOKED``, whatever else is the matter with the list.
* If the Trust has lists of the issuer, those that are usable must cover the certificate, for every reason of revocation
  (:mod:`~hsframework.credentials.scope`).  Usable: without unknown critical extensions, thisUpdate reached, nextUpdate
  present and not passed.  Else the failure is ``UNTRUSTED``, because the certificate may be revoked.
* If the Trust has no list of the issuer, ``crl_check`` of the Trust decides: ``if-present`` believes the certificate,
  ``require`` refuses it (``UNTRUSTED``).
* Delta lists and indirect lists are refused when the Trust is read: ``ConfigurationError``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from weakref import WeakValueDictionary

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from hsframework.credentials.certificate import (
    Facts,
    ParsedCertificate,
    printable,
    unhandled_critical,
    weakness_of_signature,
)
from hsframework.credentials.der import ListParts, list_parts
from hsframework.credentials.distinguished import comparable
from hsframework.credentials.scope import ALL_REASONS, coverage
from hsframework.credentials.serials import RevokedSerials
from hsframework.credentials.signature import signature_verifies
from hsframework.errors import ConfigurationError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.tls.parsing import PARSE_ERRORS, load_crl, no_warnings

LONG_LIST = 1 << 20
"""Size of a list, in bytes, from which on a look-up takes longer than the signatures of a path, as long as the list's
index is not complete."""

_ALWAYS = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
_HANDLED_EXTENSIONS = (x509.AuthorityKeyIdentifier, x509.CRLNumber, x509.IssuingDistributionPoint)

Signers = Callable[[ParsedCertificate], Iterable[ParsedCertificate]]
"""Returns the certificates of an issuer's name, other than itself, that may sign its lists."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class RevocationList:
    """One list, read."""

    der: bytes
    crl: x509.CertificateRevocationList
    parts: ListParts
    issuer: bytes
    """Its issuer's name, comparable."""
    this_update: datetime
    next_update: datetime | None
    point: x509.IssuingDistributionPoint | None
    serials: RevokedSerials
    defect: str
    """Reason for which it can never be used, or an empty text."""

    @property
    def label(self) -> str:
        """Its issuer's name, for messages."""
        try:
            with no_warnings():
                return printable(self.crl.issuer.rfc4514_string()) or "(empty name)"
        except PARSE_ERRORS:
            return "(a name that cannot be read)"

    def is_signed_with(self, key: CertificatePublicKeyTypes) -> bool:
        """Return True if ``key`` made its signature."""
        start, end = self.parts.signed
        # Of a list of 35 MB the copy that cryptography makes takes ten times as long as the hash.
        return self.parts.one_algorithm and signature_verifies(key, self.crl, memoryview(self.der)[start:end])

    def problem_at(self, now: datetime) -> str:
        """Return the reason for which it cannot be used ``now``, or an empty text."""
        if self.defect:
            return self.defect
        if self.next_update is None:
            return "it does not say when the next one is due"
        if now > self.next_update:
            return f"it was to be replaced by {self.next_update:%Y-%m-%d %H:%M:%SZ}"
        if now < self.this_update:
            return f"it holds from {self.this_update:%Y-%m-%d %H:%M:%SZ}"
        return ""


@dataclass(frozen=True, slots=True)
class Clearance:
    """The result for a path that is not revoked."""

    since: datetime
    until: datetime
    lists: tuple[tuple[RevocationList, ...], ...]
    """For each certificate below the anchor: the lists signed by its own issuer that clear it."""


class RevocationLists:
    """The revocation lists of one Trust, by issuer.

    Raises ``ConfigurationError`` if one cannot be read, or is of a kind that is not supported.
    """

    def __init__(self, crls: Iterable[bytes], *, required: bool = False) -> None:
        self._required = required
        self._by_issuer: dict[bytes, list[RevocationList]] = {}
        self._of_anchors: dict[tuple[int, bytes], bool] = {}
        """By list and signer: as many as the trust has lists and anchors of one name."""
        self._verified: dict[tuple[int, bytes], bool] = {}
        """The same of certificates that peers send."""
        self.own_bytes = 0
        """Size of the lists that no earlier trust has."""
        for number, der in enumerate(crls, start=1):
            entry = _shared.get(der)
            if entry is None:
                entry = _shared[der] = read_list(der, f"certificate revocation list {number} of the trust")
                self.own_bytes += len(der)
            self._by_issuer.setdefault(entry.issuer, []).append(entry)

    def __iter__(self) -> Iterator[RevocationList]:
        """Yield every list."""
        return itertools.chain.from_iterable(self._by_issuer.values())

    def verify_signatures(self, signers: Iterable[ParsedCertificate]) -> None:
        """Verify the signatures of ``signers`` on their lists, and remember the results: a long list takes a while."""
        for signer in signers:
            for entry in self._by_issuer.get(signer.subject, ()):
                self._of_anchors[id(entry), signer.der] = self._verifies(entry, signer)

    def takes_long(self, path: Sequence[ParsedCertificate]) -> bool:
        """Return True if a certificate of ``path`` has to be looked up in a long list without a complete index."""
        return any(
            len(entry.der) > LONG_LIST and not entry.serials.indexed
            for issuer in path[1:]
            for entry in self._by_issuer.get(issuer.subject, ())
        )

    def check(self, path: Sequence[ParsedCertificate], now: datetime, signers: Signers) -> Clearance:
        """Check that no certificate of ``path`` (leaf first) is revoked.

        Raises ``HandshakeFailed``: ``REVOKED``, or ``UNTRUSTED`` for a certificate that may be revoked.
        """
        since, until = _ALWAYS
        cleared = []
        for certificate, issuer in itertools.pairwise(path):
            lists = self._by_issuer.get(issuer.subject)
            if lists:
                begin, end, own = self._check_one(certificate, issuer, lists, now, signers)
                since, until = max(since, begin), min(until, end)
                cleared.append(own)
            elif self._required:
                raise _may_be_revoked(certificate.facts, issuer.facts, "the trust has none, and requires one")
            else:
                cleared.append(())
        return Clearance(since, until, tuple(cleared))

    def _check_one(
        self,
        certificate: ParsedCertificate,
        issuer: ParsedCertificate,
        lists: list[RevocationList],
        now: datetime,
        signers: Signers,
    ) -> tuple[datetime, datetime, tuple[RevocationList, ...]]:
        facts = certificate.facts
        own = [entry for entry in lists if self.signed_by(entry, issuer)]
        others = [] if len(own) == len(lists) else self._signed_by_others(issuer, lists, own, signers)
        for entry in (*own, *others):
            if facts.serial_number in entry.serials:
                raise HandshakeFailed(Failure.REVOKED, f"{facts.label}, serial number {facts.serial_number:x}")
        covered: frozenset[x509.ReasonFlags] = frozenset()
        used, problem = [], "" if own or others else "its signature does not verify"
        own_covers = any(coverage(entry.point, facts).reasons for entry in own)
        for entry in own if own_covers else (*own, *others):
            found = coverage(entry.point, facts)
            trouble = found.problem or entry.problem_at(now)
            if not trouble:
                covered |= found.reasons
                used.append(entry)
            problem = problem or trouble
        if own_covers and _may_not_sign(issuer.facts):
            covered, problem = frozenset(), "its issuer's key usage has no cRLSign"
        if covered != ALL_REASONS:
            raise _may_be_revoked(facts, issuer.facts, problem or "it does not cover every reason of revocation")
        begin, end = _interval(used)
        return begin, end, tuple(used) if own_covers else ()

    def _signed_by_others(
        self, issuer: ParsedCertificate, lists: list[RevocationList], own: list[RevocationList], signers: Signers
    ) -> list[RevocationList]:
        candidates = [signer for signer in signers(issuer) if not _may_not_sign(signer.facts)]
        rest = [entry for entry in lists if entry not in own]
        return [entry for entry in rest if any(self.signed_by(entry, signer) for signer in candidates)]

    def signed_by(self, entry: RevocationList, signer: ParsedCertificate) -> bool:
        """Return True if ``signer`` signed the list; cached, since hashing a long list takes milliseconds."""
        key = (id(entry), signer.der)
        found = self._of_anchors.get(key)
        if found is None:
            found = self._verified.get(key)
        if found is None:
            if len(self._verified) > 256:
                self._verified.clear()
            found = self._verified[key] = self._verifies(entry, signer)
        return found

    def _verifies(self, entry: RevocationList, signer: ParsedCertificate) -> bool:
        try:
            facts = signer.facts
            return not facts.weak_key and entry.is_signed_with(facts.certificate.public_key())
        except HandshakeFailed:
            return False


_shared: WeakValueDictionary[bytes, RevocationList] = WeakValueDictionary()
"""The lists of all trusts: one that several have is read once, and has one index."""


def read_list(der: bytes, name: str) -> RevocationList:
    """Read a list.  ``name``: for messages.

    Raises ``ConfigurationError`` for one that cannot be read, and for delta lists, indirect lists and lists of
    attribute certificates, which are not supported.
    """
    try:
        with no_warnings():
            entry = _read(der)
    except PARSE_ERRORS as error:
        raise ConfigurationError(
            f"{name}: the revocation list is damaged ({type(error).__name__}): copy the file again"
        ) from error
    unsupported = _unsupported(entry)
    if unsupported:
        raise ConfigurationError(
            f"{name}: the revocation list of {entry.label} is {unsupported}, which is not supported: "
            "use a complete list of the authority itself"
        )
    return entry


def _read(der: bytes) -> RevocationList:
    crl = load_crl(der)
    parts = list_parts(der)
    serials = RevokedSerials(crl, der, *parts.entries)
    critical = next(iter(unhandled_critical(crl.extensions, _HANDLED_EXTENSIONS)), "") or serials.critical_extension()
    defect = f"its critical extension {critical} is not supported" if critical else weakness_of_signature(crl)
    point = next((e.value for e in crl.extensions if isinstance(e.value, x509.IssuingDistributionPoint)), None)
    issuer = comparable(parts.issuer)
    return RevocationList(der, crl, parts, issuer, crl.last_update_utc, crl.next_update_utc, point, serials, defect)


def _unsupported(entry: RevocationList) -> str:
    """Return the kind of a list that is not supported, or an empty text."""
    if any(isinstance(extension.value, x509.DeltaCRLIndicator) for extension in entry.crl.extensions):
        return "a delta list"
    if entry.serials.names_other_issuers or (entry.point is not None and entry.point.indirect_crl):
        return "an indirect list"
    if entry.point is not None and entry.point.only_contains_attribute_certs:
        return "a list of attribute certificates"
    return ""


def _may_not_sign(facts: Facts) -> bool:
    return facts.key_usage is not None and not facts.key_usage.crl_sign


def _interval(used: Sequence[RevocationList]) -> tuple[datetime, datetime]:
    """Return the time in which the lists clear: of the longest one if each is complete, else of all together."""
    intervals = [(entry.this_update, entry.next_update) for entry in used if entry.next_update is not None]
    if all(entry.point is None or entry.point.only_some_reasons is None for entry in used):
        return max(intervals, key=lambda interval: interval[1])
    return max(begin for begin, _ in intervals), min(end for _, end in intervals)


def _may_be_revoked(facts: Facts, issuer: Facts, problem: str) -> HandshakeFailed:
    return HandshakeFailed(
        Failure.UNTRUSTED, f"{facts.label} may be revoked: no list of {issuer.label} is usable: {problem}"
    )
