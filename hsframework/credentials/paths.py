"""The search for paths from a peer's certificate to an anchor (RFC 5280 section 6.1, RFC 4158).

* An issuer is found by its name, compared as RFC 5280 section 7.1 says, among the anchors, then among the certificates
  that the peer sent, in any order.  Key identifiers choose among issuers of one name, and refuse one that contradicts.
* A signature is not needed to follow a path: OpenSSL verifies those of the complete path.  A pair of certificates whose
  signature proved wrong is not followed again.
* The search ends when the peer's chain has used up its budget: steps, and the cost of signatures.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hsframework.credentials.certificate import ParsedCertificate, is_shared, parsed_authority, shared_certificate
from hsframework.credentials.signature import signature_verifies
from hsframework.failures import Failure, HandshakeFailed

VerifiedChain = tuple[bytes, ...]
"""DER certificates of the accepted path: the leaf first, the anchor last (a single one if the leaf is pinned)."""
Path = tuple[ParsedCertificate, ...]
"""A path: the leaf first, the anchor last."""

MAX_SENT: Final = 20
"""Certificates that a peer may send."""
MAX_SENT_BYTES: Final = 1 << 16
"""Total size of the certificates that a peer may send; four ML-DSA-87 certificates have half of it."""
MAX_DEPTH: Final = 10
"""Certificates in a path."""
MAX_STEPS: Final = 64
"""Pairs of certificate and issuer that are followed for one chain."""
MAX_COST: Final = 12_000
"""Cost of the signatures that are verified for one chain, in microseconds of a common processor of 2020."""

_COST_OF_EC_BIT: Final = 0.8
_COST_OF_STRANGE_CURVE: Final = 4
_COST_OF_RSA_BIT_SQUARED: Final = 5e-6
_COST_OF_OTHERS: Final = 150.0


class Anchors:
    """The anchors of one Trust by name and key identifier.  An anchor that cannot be read is left out.

    Trusts share their anchors, so that one in many trusts is parsed once.
    """

    def __init__(self, anchors: Iterable[bytes]) -> None:
        self.own_bytes = 0
        """Size of the anchors that no earlier trust has."""
        self._by_der: dict[bytes, ParsedCertificate] = {}
        self._by_name: dict[bytes, list[ParsedCertificate]] = {}
        for der in anchors:
            self.own_bytes += 0 if is_shared(der) else len(der)
            try:
                anchor = shared_certificate(der)
            except ValueError:
                continue
            if self._by_der.setdefault(der, anchor) is anchor:
                self._by_name.setdefault(anchor.subject, []).append(anchor)
        self._by_key_id: dict[bytes, dict[bytes | None, list[ParsedCertificate]]] = {}

    def __contains__(self, certificate: ParsedCertificate) -> bool:
        """Return True if ``certificate`` is an anchor."""
        return certificate.der in self._by_der

    def __iter__(self) -> Iterator[ParsedCertificate]:
        """Yield every anchor."""
        return iter(self._by_der.values())

    def named(self, name: bytes) -> list[ParsedCertificate]:
        """Return the anchors of a comparable name."""
        return self._by_name.get(name, [])

    def issuers_of(self, certificate: ParsedCertificate) -> Iterable[ParsedCertificate]:
        """Return the anchors that may have issued ``certificate``: first those with its authority key identifier."""
        named = self.named(certificate.issuer)
        wanted = certificate.facts.authority_key_id if len(named) > 1 else None
        if wanted is None:
            return named
        by_key_id = self._by_key_id.get(certificate.issuer)
        if by_key_id is None:
            by_key_id = self._by_key_id[certificate.issuer] = {}
            for anchor in named:
                by_key_id.setdefault(anchor.key_id, []).append(anchor)
        return (*by_key_id.get(wanted, ()), *by_key_id.get(None, ()))


class Search:
    """The search of one chain: the peer's certificates, the budget, and the reasons for which paths ended early.

    Raises ``HandshakeFailed``: ``NO_PEER_CERTIFICATE``, or ``BAD_CERTIFICATE`` for too many and for unreadable ones.
    """

    def __init__(self, chain: tuple[bytes, ...], anchors: Anchors) -> None:
        if not chain:
            raise HandshakeFailed(Failure.NO_PEER_CERTIFICATE)
        if len(chain) > MAX_SENT or sum(map(len, chain)) > MAX_SENT_BYTES:
            detail = f"more than {MAX_SENT} certificates, or more than {MAX_SENT_BYTES} bytes of them"
            raise HandshakeFailed(Failure.BAD_CERTIFICATE, detail)
        try:
            leaf, *others = dict.fromkeys(chain)
            certificates = [ParsedCertificate(leaf), *map(parsed_authority, others)]
        except ValueError as error:
            raise HandshakeFailed(Failure.BAD_CERTIFICATE, f"not a DER certificate: {error}") from error
        _ = certificates[0].facts  # raises at once for a leaf that cannot be read
        self.leaf = certificates[0]
        self.sent: dict[bytes, list[ParsedCertificate]] = {}
        """Certificates that the peer sent after its own, by comparable subject."""
        for certificate in certificates[1:]:
            self.sent.setdefault(certificate.subject, []).append(certificate)
        self._anchors = anchors
        self._steps_left = MAX_STEPS
        self._cost_left: float = MAX_COST
        self._bad: HandshakeFailed | None = None
        self._dead_end: HandshakeFailed | None = None
        self._verified: dict[tuple[bytes, bytes], bool] = {}

    def paths(self) -> Iterator[Path]:
        """Yield every path from the leaf to an anchor; anchors are tried first."""
        return self._continue((self.leaf,))

    def paths_of(self, certificate: ParsedCertificate) -> Iterator[Path]:
        """Yield every path from another certificate to an anchor."""
        return self._continue((certificate,))

    def spend(self, path: Path) -> None:
        """Take the cost of the signatures of ``path`` from the budget.  Raises ``HandshakeFailed(UNTRUSTED)``."""
        self._cost_left -= sum(map(_cost_of_verifying_with, path[1:]))
        if self._cost_left < 0:
            raise HandshakeFailed(Failure.UNTRUSTED, "the signatures in the chain cost more than is spent on one peer")

    def signatures_verify(self, path: Path) -> bool:
        """Return True if every signature of ``path`` is right; a pair with a wrong one is not followed again."""
        for child, issuer in itertools.pairwise(path):
            pair = (child.der, issuer.der)
            if pair not in self._verified:
                self.spend((child, issuer))
                problem = _problem_of_signature(child, issuer)
                self._verified[pair] = problem is None
                self._bad = self._bad or problem
            if not self._verified[pair]:
                return False
        return True

    def refuse(self, child: ParsedCertificate, issuer: ParsedCertificate) -> None:
        """Follow the pair no further: OpenSSL found its signature wrong."""
        self._verified[child.der, issuer.der] = False
        self._bad = self._bad or _wrong_signature(child, issuer)

    def failure(self) -> HandshakeFailed:
        """Return the failure of a chain none of whose paths to an anchor has only right signatures."""
        return self._bad or self._dead_end or _dead_end(self.leaf)

    def _continue(self, path: Path) -> Iterator[Path]:
        tip = path[-1]
        if tip in self._anchors:
            yield path
            return
        found = False
        for issuer in (*self._anchors.issuers_of(tip), *self.sent.get(tip.issuer, ())):
            if any(issuer.der == known.der for known in path):
                continue
            if len(path) == MAX_DEPTH:
                detail = f"the chain has more than {MAX_DEPTH} certificates"
                self._dead_end = self._dead_end or HandshakeFailed(Failure.UNTRUSTED, detail)
                return
            problem = self._problem_of_step(tip, issuer)
            if problem is None:
                found = True
                yield from self._continue((*path, issuer))
            elif problem.failure is Failure.BAD_CERTIFICATE:
                self._bad = self._bad or problem
            else:
                self._dead_end = self._dead_end or problem
        if not found:
            self._dead_end = self._dead_end or _dead_end(tip)

    def _problem_of_step(self, child: ParsedCertificate, issuer: ParsedCertificate) -> HandshakeFailed | None:
        """Return None if ``issuer`` may have signed ``child``, else the failure."""
        self._steps_left -= 1
        if self._steps_left < 0:
            raise HandshakeFailed(Failure.UNTRUSTED, f"no path found within {MAX_STEPS} steps")
        if self._verified.get((child.der, issuer.der)) is False:
            return _wrong_signature(child, issuer)
        try:
            below, above = child.facts, issuer.facts
        except HandshakeFailed as failure:
            return failure
        if below.weak_signature:
            return HandshakeFailed(Failure.BAD_CERTIFICATE, f"{below.label} is {below.weak_signature}")
        if above.weak_key:
            return HandshakeFailed(Failure.BAD_CERTIFICATE, f"{above.label}: {above.weak_key}")
        wanted, has = below.authority_key_id, above.subject_key_id
        if wanted is not None and has is not None and wanted != has:
            return HandshakeFailed(Failure.UNTRUSTED, f"{above.label} has the name of the issuer and another key")
        return None


def _cost_of_verifying_with(issuer: ParsedCertificate) -> float:
    """Return the cost of a signature by the key of ``issuer``, in microseconds."""
    key = issuer.facts.certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return _COST_OF_RSA_BIT_SQUARED * key.key_size**2
    if isinstance(key, ec.EllipticCurvePublicKey):
        strange = not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1)
        return _COST_OF_EC_BIT * key.key_size * (_COST_OF_STRANGE_CURVE if strange else 1)
    return _COST_OF_OTHERS


def _problem_of_signature(child: ParsedCertificate, issuer: ParsedCertificate) -> HandshakeFailed | None:
    """Return None if the key of ``issuer`` made the signature of ``child``; names are not compared."""
    signed = child.facts.certificate
    verifies = signature_verifies(issuer.facts.certificate.public_key(), signed, signed.tbs_certificate_bytes)
    return None if verifies else _wrong_signature(child, issuer)


def _wrong_signature(child: ParsedCertificate, issuer: ParsedCertificate) -> HandshakeFailed:
    detail = f"the signature of {issuer.facts.label} on {child.facts.label} is wrong"
    return HandshakeFailed(Failure.BAD_CERTIFICATE, detail)


def _dead_end(tip: ParsedCertificate) -> HandshakeFailed:
    label = tip.facts.label
    if tip.self_issued:
        return HandshakeFailed(Failure.UNTRUSTED, f"{label} is its own issuer and is not trusted")
    return HandshakeFailed(Failure.UNTRUSTED, f"no certificate of the issuer of {label} is trusted or was sent")
