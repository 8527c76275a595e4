"""Certificate revocation lists (RFC 5280 sections 5 and 6.3): complete ones, signed by the issuer itself.

The rules:

* A certificate is looked up in the lists of its issuer, at every level below the anchor.  If the Trust has no list of
  an issuer, its certificates are not checked (``openssl verify -crl_check`` refuses them).
* If the Trust has lists of an issuer, one must be usable: signed by the issuer's key, with key usage cRLSign if the
  issuer has a key usage, without critical extensions, thisUpdate reached, nextUpdate present and not passed.  Else the
  failure is ``UNTRUSTED``, because the certificate may be revoked.  Delta lists, indirect lists and partitioned lists
  have critical extensions, and are refused by this rule.
* A serial number in a list of the issuer is ``REVOKED``, whether or not that list has passed its nextUpdate.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from hsframework.credentials.certificate import ParsedCertificate, unhandled_critical, weakness_of_signature
from hsframework.credentials.der import crl_issuer
from hsframework.errors import ConfigurationError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.tls.parsing import PARSE_ERRORS, no_warnings

_ALWAYS = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class _List:
    crl: x509.CertificateRevocationList
    this_update: datetime
    next_update: datetime | None
    defect: str
    """Reason for which it can never be used, or an empty text."""


class RevocationLists:
    """The revocation lists of one Trust, by issuer.  Raises ``ConfigurationError`` if one cannot be read."""

    def __init__(self, crls: Iterable[bytes]) -> None:
        self._by_issuer: dict[bytes, list[_List]] = {}
        self._verified: dict[tuple[int, bytes], bool] = {}
        for number, der in enumerate(crls, start=1):
            try:
                with no_warnings():
                    self._by_issuer.setdefault(crl_issuer(der), []).append(_read(der))
            except PARSE_ERRORS as error:
                raise ConfigurationError(
                    f"certificate revocation list {number} of the trust cannot be read ({type(error).__name__}): "
                    "replace it with one in PEM or DER form"
                ) from error

    def check(self, path: Sequence[ParsedCertificate], now: datetime) -> tuple[datetime, datetime]:
        """Check that no certificate of ``path`` (leaf first) is revoked; return begin and end of the result's validity.

        Raises ``HandshakeFailed``: ``REVOKED``, or ``UNTRUSTED`` if the lists of an issuer are all unusable.
        """
        since, until = _ALWAYS
        for certificate, issuer in itertools.pairwise(path):
            lists = self._by_issuer.get(issuer.subject)
            if lists:
                begin, end = self._check_one(certificate, issuer, lists, now)
                since, until = max(since, begin), min(until, end)
        return since, until

    def _check_one(
        self, certificate: ParsedCertificate, issuer: ParsedCertificate, lists: list[_List], now: datetime
    ) -> tuple[datetime, datetime]:
        usable: list[tuple[datetime, datetime]] = []
        problem = ""
        for entry in lists:
            if not self._signed_by(entry, issuer):
                problem = problem or "its signature does not verify"
                continue
            if entry.crl.get_revoked_certificate_by_serial_number(certificate.facts.serial_number) is not None:
                facts = certificate.facts
                raise HandshakeFailed(Failure.REVOKED, f"{facts.label}, serial number {facts.serial_number:x}")
            defect = entry.defect or _out_of_time(entry, now)
            if not defect and entry.next_update is not None:
                usable.append((entry.this_update, entry.next_update))
            problem = problem or defect
        key_usage = issuer.facts.key_usage
        if key_usage is not None and not key_usage.crl_sign:
            usable, problem = [], "its issuer's key usage has no cRLSign"
        if not usable:
            raise HandshakeFailed(
                Failure.UNTRUSTED,
                f"{certificate.facts.label} may be revoked: no list of {issuer.facts.label} is usable: {problem}",
            )
        return max(usable, key=lambda interval: interval[1])

    def _signed_by(self, entry: _List, issuer: ParsedCertificate) -> bool:
        """Return True if ``issuer`` signed the list; cached, since hashing a long list takes milliseconds."""
        key = (id(entry), issuer.der)
        if key not in self._verified:
            if len(self._verified) > 256:
                self._verified.clear()
            try:
                # Typed for some public keys only; a key that cannot sign lists raises TypeError.
                self._verified[key] = bool(
                    entry.crl.is_signature_valid(issuer.facts.certificate.public_key())  # type: ignore[arg-type]
                )
            except PARSE_ERRORS:
                self._verified[key] = False
        return self._verified[key]


def _read(der: bytes) -> _List:
    crl = x509.load_der_x509_crl(der)
    critical = unhandled_critical(crl.extensions, (x509.AuthorityKeyIdentifier, x509.CRLNumber))
    defect = weakness_of_signature(crl)
    if critical:
        defect = f"its critical extension {critical[0]} is not supported (delta, indirect or partitioned list)"
    return _List(crl, crl.last_update_utc, crl.next_update_utc, defect)


def _out_of_time(entry: _List, now: datetime) -> str:
    if entry.next_update is None:
        return "it does not say when the next one is due"
    if now > entry.next_update:
        return f"it was to be replaced by {entry.next_update:%Y-%m-%d %H:%M:%SZ}"
    if now < entry.this_update:
        return f"it holds from {entry.this_update:%Y-%m-%d %H:%M:%SZ}"
    return ""
