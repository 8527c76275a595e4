"""Certificate path validation (RFC 5280 section 6), for every protocol.

``cryptography.x509.verification`` supports neither Ed25519 nor ML-DSA, so paths are built and checked here, with the
parsers and signatures of ``cryptography``.  The rules:

* Any certificate in the Trust is an anchor, also an intermediate or a leaf (a pinned certificate); the path ends at the
  first anchor.  Issuers are found by exact name among the anchors, then among the certificates that the peer sent, in
  any order.
* All paths are tried, within bounds that a hostile chain cannot change: certificates sent, depth, and signatures.
* A path is accepted if it passes :mod:`~hsframework.credentials.rules`, :mod:`~hsframework.credentials.constraints`
  and :mod:`~hsframework.credentials.revocation`, and its leaf names the peer (:mod:`~hsframework.credentials.names`).
* If no path is accepted, the failure is that of the first path that reached an anchor; else ``BAD_CERTIFICATE`` if an
  issuer of the right name did not make the signature; else ``UNTRUSTED``.
* A success is cached, by the bytes of the chain, the purpose and the name, while every certificate and revocation list
  that it depends on is valid.  A failure is not cached.

No function here opens a file, looks up a name or reads the clock.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.exceptions import InvalidSignature

from hsframework.credentials.certificate import ParsedCertificate
from hsframework.credentials.constraints import check_name_constraints
from hsframework.credentials.names import check_peer_name
from hsframework.credentials.revocation import RevocationLists
from hsframework.credentials.rules import Purpose, check_readable, check_usage, check_validity
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Trust
from hsframework.tls.parsing import PARSE_ERRORS

__all__ = ["ChainVerifier", "Purpose", "VerifiedChain", "verifier_for", "verify_chain"]

VerifiedChain = tuple[bytes, ...]
"""DER certificates of the accepted path: the leaf first, the anchor last (a single one if the leaf is pinned)."""

MAX_SENT = 20
"""Certificates that a peer may send."""
MAX_SENT_BYTES = 1 << 16
"""Total size of the certificates that a peer may send; four ML-DSA-87 certificates have half of it."""
MAX_DEPTH = 10
"""Certificates in a path."""
MAX_SIGNATURES = 64
"""Signatures checked for one chain."""
MAX_CACHED = 1024
"""Accepted chains that one verifier caches."""
MAX_VERIFIERS = 64
"""Verifiers that are cached, one for each Trust."""

_Path = tuple[ParsedCertificate, ...]
_Key = tuple[tuple[bytes, ...], Purpose, str | None]


@dataclass(frozen=True, slots=True)
class _Cached:
    chain: VerifiedChain
    since: datetime
    until: datetime


@dataclass(slots=True)
class _Search:
    """The state of one search: the peer's certificates, the budget, and the reasons for which paths ended early."""

    sent: dict[bytes, list[ParsedCertificate]]
    """Certificates that the peer sent, by subject."""
    signatures_left: int = MAX_SIGNATURES
    bad: HandshakeFailed | None = None
    """First wrong signature."""
    dead_end: HandshakeFailed | None = None
    """First path without a further issuer."""
    problems: dict[tuple[bytes, bytes], HandshakeFailed | None] = field(default_factory=dict)
    """Results of signature checks, by certificate and issuer; None: the signature is right."""


class ChainVerifier:
    """A verifier of chains for one Trust.  It may be shared between threads.

    Raises ``ConfigurationError`` if a revocation list cannot be read.  An anchor that cannot be read is left out.
    """

    def __init__(self, trust: Trust) -> None:
        self._anchors: dict[bytes, ParsedCertificate] = {}
        self._by_subject: dict[bytes, list[ParsedCertificate]] = {}
        for der in trust.anchors:
            try:
                anchor = ParsedCertificate(der)
            except ValueError:
                continue
            if self._anchors.setdefault(der, anchor) is anchor:
                self._by_subject.setdefault(anchor.subject, []).append(anchor)
        self._revocation = RevocationLists(trust.crls)
        self._cache: OrderedDict[_Key, _Cached] = OrderedDict()
        self._lock = threading.Lock()

    def verify(
        self, chain: Sequence[bytes], *, purpose: Purpose, peer_name: str | None, now: datetime
    ) -> VerifiedChain:
        """Verify a chain and return the accepted path; arguments and errors: :func:`verify_chain`."""
        if now.tzinfo is None:
            raise ValueError("now needs a time zone")
        key = (tuple(chain), purpose, peer_name)
        with self._lock:
            cached = self._cache.get(key)
            if cached is not None:
                if cached.since <= now <= cached.until:
                    self._cache.move_to_end(key)
                    return cached.chain
                del self._cache[key]
        result = self._verify(key[0], purpose, peer_name, now)
        with self._lock:
            self._cache[key] = result
            while len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)
        return result.chain

    def _verify(self, chain: tuple[bytes, ...], purpose: Purpose, peer_name: str | None, now: datetime) -> _Cached:
        leaf, search = _read_sent(chain)
        failure: HandshakeFailed | None = None
        for path in self._paths((leaf,), search):
            try:
                since, until = self._check(path, purpose, peer_name, now)
            except HandshakeFailed as error:
                failure = failure or error
            else:
                return _Cached(tuple(certificate.der for certificate in path), since, until)
        raise failure or search.bad or search.dead_end or _dead_end(leaf)

    def _check(self, path: _Path, purpose: Purpose, peer_name: str | None, now: datetime) -> tuple[datetime, datetime]:
        check_readable(path)
        since, until = check_validity(path, now)
        begin, end = self._revocation.check(path, now)
        check_usage(path, purpose)
        check_name_constraints(path)
        if peer_name is not None:
            check_peer_name(path[0].facts.names, peer_name)
        return max(since, begin), min(until, end)

    def _paths(self, path: _Path, search: _Search) -> Iterator[_Path]:
        """Yield every continuation of ``path`` to an anchor whose signatures verify; anchors are tried first."""
        tip = path[-1]
        if tip.der in self._anchors:
            yield path
            return
        found = False
        for issuer in (*self._by_subject.get(tip.issuer, ()), *search.sent.get(tip.issuer, ())):
            if any(issuer.der == known.der for known in path):
                continue
            if len(path) == MAX_DEPTH:
                detail = f"the chain has more than {MAX_DEPTH} certificates"
                search.dead_end = search.dead_end or HandshakeFailed(Failure.UNTRUSTED, detail)
                return
            problem = _problem_of_signature(tip, issuer, search)
            if problem is None:
                found = True
                yield from self._paths((*path, issuer), search)
            elif problem.failure is Failure.BAD_CERTIFICATE:
                search.bad = search.bad or problem
            else:
                search.dead_end = search.dead_end or problem
        if not found:
            search.dead_end = search.dead_end or _dead_end(tip)


def _read_sent(chain: tuple[bytes, ...]) -> tuple[ParsedCertificate, _Search]:
    """Return the leaf, and a search over the peer's other certificates."""
    if not chain:
        raise HandshakeFailed(Failure.NO_PEER_CERTIFICATE)
    if len(chain) > MAX_SENT or sum(map(len, chain)) > MAX_SENT_BYTES:
        detail = f"more than {MAX_SENT} certificates, or more than {MAX_SENT_BYTES} bytes of them"
        raise HandshakeFailed(Failure.BAD_CERTIFICATE, detail)
    search = _Search({})
    try:
        certificates = [ParsedCertificate(der) for der in dict.fromkeys(chain)]
    except ValueError as error:
        raise HandshakeFailed(Failure.BAD_CERTIFICATE, "not a DER certificate") from error
    for certificate in certificates[1:]:
        search.sent.setdefault(certificate.subject, []).append(certificate)
    _ = certificates[0].facts  # raises at once for a leaf that cannot be read
    return certificates[0], search


def _problem_of_signature(
    child: ParsedCertificate, issuer: ParsedCertificate, search: _Search
) -> HandshakeFailed | None:
    """Return None if ``issuer`` signed ``child``, else the failure.  Each pair is checked once in a search."""
    pair = (child.der, issuer.der)
    if pair not in search.problems:
        search.problems[pair] = _check_signature(child, issuer)
    # Every step counts, since paths through known pairs cost time too.
    search.signatures_left -= 1
    if search.signatures_left < 0:
        raise HandshakeFailed(Failure.UNTRUSTED, f"no path found within {MAX_SIGNATURES} signatures")
    return search.problems[pair]


def _check_signature(child: ParsedCertificate, issuer: ParsedCertificate) -> HandshakeFailed | None:
    try:
        below, above = child.facts, issuer.facts
        if below.weak_signature:
            return HandshakeFailed(Failure.BAD_CERTIFICATE, f"{below.label} is {below.weak_signature}")
        if above.weak_key:
            return HandshakeFailed(Failure.BAD_CERTIFICATE, f"{above.label}: {above.weak_key}")
        below.certificate.verify_directly_issued_by(above.certificate)
    except HandshakeFailed as failure:
        return failure
    except (InvalidSignature, *PARSE_ERRORS):
        wanted, has = below.authority_key_id, above.subject_key_id
        if wanted is not None and has is not None and wanted != has:
            return HandshakeFailed(Failure.UNTRUSTED, f"{above.label} has the name of the issuer and another key")
        return HandshakeFailed(Failure.BAD_CERTIFICATE, f"the signature of {above.label} on {below.label} is wrong")
    return None


def _dead_end(tip: ParsedCertificate) -> HandshakeFailed:
    label = tip.facts.label
    if tip.self_issued:
        return HandshakeFailed(Failure.UNTRUSTED, f"{label} is its own issuer and is not trusted")
    return HandshakeFailed(Failure.UNTRUSTED, f"no certificate of the issuer of {label} is trusted or was sent")


_verifiers: OrderedDict[bytes, ChainVerifier] = OrderedDict()
_verifiers_lock = threading.Lock()


def verifier_for(trust: Trust) -> ChainVerifier:
    """Return the verifier for a Trust, cached by its digest.  Raises ``ConfigurationError``, see the class."""
    with _verifiers_lock:
        verifier = _verifiers.get(trust.digest)
        if verifier is None:
            verifier = _verifiers[trust.digest] = ChainVerifier(trust)
            while len(_verifiers) > MAX_VERIFIERS:
                _verifiers.popitem(last=False)
        else:
            _verifiers.move_to_end(trust.digest)
        return verifier


def verify_chain(
    chain: Sequence[bytes], trust: Trust, *, purpose: Purpose, peer_name: str | None, now: datetime
) -> VerifiedChain:
    """Verify the certificates that a peer sent, and return the accepted path (RFC 5280 section 6).

    ``chain``: DER, the leaf first, the others in any order, superfluous ones ignored.  ``peer_name``: the DNS name or
    IP literal that the leaf must have; None: any name (a server's check of its client).  ``now``: with a time zone.

    Raises ``HandshakeFailed`` with ``NO_PEER_CERTIFICATE``, ``UNTRUSTED``, ``BAD_CERTIFICATE``, ``WRONG_USAGE``,
    ``REVOKED``, ``EXPIRED`` or ``WRONG_NAME``; ``ConfigurationError`` for a Trust with an unreadable revocation list.
    """
    return verifier_for(trust).verify(chain, purpose=purpose, peer_name=peer_name, now=now)
