"""Certificate path validation (RFC 5280 section 6), for every protocol.

Two judges have to agree.  This package finds a path and applies its own rules; OpenSSL is then asked about exactly that
path (:mod:`~hsframework.credentials.openssl_judge`), and verifies the signatures.  The rules:

* Any certificate in the Trust is an anchor, also an intermediate or a leaf (a pinned certificate); the path ends at the
  first anchor (:mod:`~hsframework.credentials.paths`).
* All paths are tried, within bounds that a hostile chain cannot change: certificates sent, depth, and cost.
* A path is accepted if it passes :mod:`~hsframework.credentials.rules`, :mod:`~hsframework.credentials.constraints`
  and :mod:`~hsframework.credentials.revocation`, its leaf names the peer (:mod:`~hsframework.credentials.names`), and
  OpenSSL accepts it.
* If no path is accepted, the failure is that of the first path whose signatures verify; else ``BAD_CERTIFICATE`` if an
  issuer of the right name did not make a signature; else ``UNTRUSTED``.
* A success is cached, by the trust, the chain, the purpose and the name, while every certificate and revocation list
  that it depends on is valid.  A failure is not cached.  The caches of verdicts and of verifiers are bounded in bytes
  (:mod:`hsframework.caches`).

No function here opens a file, looks up a name or reads the clock.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from hsframework.caches import SizedCache
from hsframework.credentials import openssl_judge
from hsframework.credentials.certificate import ParsedCertificate
from hsframework.credentials.constraints import check_name_constraints
from hsframework.credentials.names import check_peer_name
from hsframework.credentials.paths import Anchors, Path, Search, VerifiedChain
from hsframework.credentials.policies import check_policies
from hsframework.credentials.revocation import RevocationLists
from hsframework.credentials.rules import Purpose, check_authorities, check_readable, check_usage, check_validity
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import CrlCheck, Trust

__all__ = ["ChainVerifier", "Purpose", "VerifiedChain", "verifier_for", "verify_chain"]

_ENTRY = 1024
"""Bytes that an accepted chain takes beside its certificates, and a verifier beside its anchors and lists."""
_ANCHOR = 256
"""Bytes that an anchor takes in a verifier which shares it with others."""

_Key = tuple[bytes, bytes, Purpose, str | None]
"""Digests of the trust and of the chain, purpose, and name."""


@dataclass(frozen=True, slots=True)
class _Cached:
    chain: VerifiedChain
    since: datetime
    until: datetime


class ChainVerifier:
    """A verifier of chains for one Trust.  It may be shared between threads.

    Raises ``ConfigurationError`` if a revocation list cannot be read.  An anchor that cannot be read is left out.
    """

    def __init__(self, trust: Trust) -> None:
        self._trust = trust.digest
        self._anchors = Anchors(trust.anchors)
        self._revocation = RevocationLists(trust.crls, required=trust.crl_check is CrlCheck.REQUIRE)
        self._revocation.verify_signatures(self._anchors)
        self.size = _ENTRY + _ANCHOR * len(trust.anchors) + self._anchors.own_bytes + self._revocation.own_bytes
        """Bytes of the anchors and lists; those that an earlier verifier shares are counted there."""

    def verify(
        self, chain: Sequence[bytes], *, purpose: Purpose, peer_name: str | None, now: datetime
    ) -> VerifiedChain:
        """Verify a chain and return the accepted path; arguments and errors: :func:`verify_chain`."""
        if now.tzinfo is None:
            raise ValueError("now needs a time zone")
        key = (self._trust, _digest(chain), purpose, peer_name)
        cached = verdicts.get(key)
        if cached is not None:
            if cached.since <= now <= cached.until:
                return cached.chain
            verdicts.pop(key)
        result = self._verify(tuple(chain), purpose, peer_name, now)
        # The anchor is the trust's own object.
        verdicts.put(key, result, _ENTRY + sum(map(len, result.chain[:-1])))
        return result.chain

    def _verify(self, chain: tuple[bytes, ...], purpose: Purpose, peer_name: str | None, now: datetime) -> _Cached:
        search = Search(chain, self._anchors)
        failure: HandshakeFailed | None = None
        for path in search.paths():
            try:
                since, until = self._check(path, search, purpose, peer_name, now)
            except HandshakeFailed as error:
                if search.signatures_verify(path):
                    failure = failure or error
            else:
                return _Cached(tuple(certificate.der for certificate in path), since, until)
        raise failure or search.failure()

    def _check(
        self, path: Path, search: Search, purpose: Purpose, peer_name: str | None, now: datetime
    ) -> tuple[datetime, datetime]:
        """Ask both judges about a path; return the time in which it holds."""
        check_readable(path)
        since, until = check_validity(path, now)
        if self._revocation.takes_long(path) and not search.signatures_verify(path):
            raise search.failure()  # before a stranger has numbers of its own looked up
        clearance = self._revocation.check(path, now, lambda issuer: self._signers(issuer, path, search, now))
        usage = check_usage(path, purpose)
        check_name_constraints(path)
        check_policies(path)
        if peer_name is not None:
            check_peer_name(path[0].facts.names, peer_name)
        search.spend(path)
        refusal = openssl_judge.ask(path, usage=usage, now=now, lists=clearance.lists)
        if refusal is not None:
            if refusal.bad_signature_of is not None and refusal.bad_signature_of + 1 < len(path):
                search.refuse(path[refusal.bad_signature_of], path[refusal.bad_signature_of + 1])
            raise HandshakeFailed(Failure.UNTRUSTED, f"{path[0].facts.label}: {refusal.detail}")
        return max(since, clearance.since), min(until, clearance.until)

    def _signers(
        self, issuer: ParsedCertificate, path: Path, search: Search, now: datetime
    ) -> Iterator[ParsedCertificate]:
        """Yield the other certificates of an issuer's name that may sign its lists.

        They are anchors, or in ``path``, or have a path of their own to its anchor (RFC 5280 section 6.3.3 (f)).
        """
        known = (*self._anchors.named(issuer.subject), *_others_of_its_name(issuer, path[1:]))
        yield from (signer for signer in known if signer.der != issuer.der)
        for sent in search.sent.get(issuer.subject, ()):
            if sent not in path and self._may_sign_lists(sent, path[-1], search, now):
                yield sent

    def _may_sign_lists(
        self, signer: ParsedCertificate, anchor: ParsedCertificate, search: Search, now: datetime
    ) -> bool:
        """Return True if a certificate that the peer sent has a good path to ``anchor``, and is not revoked itself."""
        for path in search.paths_of(signer):
            if path[-1].der != anchor.der or not search.signatures_verify(path):
                continue
            try:
                check_readable(path)
                check_validity(path, now)
                check_authorities(path)
                # Its own list may be the one that says whether it is revoked itself.
                self._revocation.check(path, now, partial(_others_of_its_name, path=path))
            except HandshakeFailed:
                continue
            return True
        return False


def _others_of_its_name(issuer: ParsedCertificate, path: Path) -> list[ParsedCertificate]:
    return [other for other in path if other.subject == issuer.subject and other.der != issuer.der]


def _digest(chain: Sequence[bytes]) -> bytes:
    """Return SHA-256 over the certificates as they were sent: a cache that keeps them would keep what a peer pads."""
    state = hashlib.sha256()
    for der in chain:
        state.update(len(der).to_bytes(4, "big"))
        state.update(der)
    return state.digest()


verdicts: SizedCache[_Key, _Cached] = SizedCache("verdicts on peers", share=1 / 4)
verifiers: SizedCache[bytes, ChainVerifier] = SizedCache("trusts", share=1 / 2)
_verifiers_lock = threading.Lock()


def verifier_for(trust: Trust) -> ChainVerifier:
    """Return the verifier for a Trust, cached by its digest.  Raises ``ConfigurationError``, see the class."""
    with _verifiers_lock:
        verifier = verifiers.get(trust.digest)
        if verifier is None:
            verifier = ChainVerifier(trust)
            verifiers.put(trust.digest, verifier, verifier.size)
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
