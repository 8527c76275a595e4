"""The translation of OpenSSL's error queue to the rows of the alert and errno table.

The rules:

* The alert that OpenSSL wrote is kept, and the failure, with its errno, is one of that alert.  A text stands for
  several alerts (``bad extension``: 40, 47, 50, 110, 112), so the text alone decides nothing.
* Of several failures with one alert, the text tells which (``binder does not verify``, ``bad signature``: 51).
* :data:`_OURS` has the texts for which OpenSSL's alert is not RFC 8446's: there the table's is sent.
* Where OpenSSL wrote no alert, the text is all there is.

Reasons are OpenSSL 3.0's to 4.0's texts (``ssl/ssl_err.c``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hsframework.failures import Failure, HandshakeFailed
from hsframework.tls.alerts import describe_alert
from hsframework_tls13.openssl import Problem

_REASONS: dict[Failure, tuple[str, ...]] = {
    Failure.VERSION: (
        "unsupported protocol", "wrong ssl version", "wrong version number", "version too low", "unknown protocol",
        "unknown ssl version", "no protocols available", "bad protocol version number", "inappropriate fallback",
        "downgrade detected", "missing supported versions extension", "legacy sigalg disallowed or unsupported",
    ),
    Failure.NO_COMMON_PARAMETERS: (
        "no shared cipher", "no ciphers available", "no suitable key share", "no suitable groups", "no shared groups",
        "no suitable signature algorithm", "no shared signature algorithms", "missing sigalgs extension",
        "no required digest", "no certificate set", "no cipher match", "unsupported elliptic curve",
    ),
    Failure.NO_COMMON_ALPN: ("no application protocol",),
    Failure.NO_PEER_CERTIFICATE: ("peer did not return a certificate",),
    Failure.BAD_BINDER: ("binder does not verify",),
    Failure.BAD_SIGNATURE: ("bad signature", "digest check failed", "wrong signature length"),
    Failure.BAD_RECORD_MAC: ("decryption failed or bad record mac", "bad record mac"),
    Failure.BAD_CERTIFICATE: (
        "ASN1 lib", "X509 lib", "certificate verify failed", "bad certificate", "cert length mismatch",
        "unable to find public key parameters", "unsupported key type", "unknown certificate type",
    ),
    Failure.UNEXPECTED_MESSAGE: (
        "unexpected message", "unexpected record", "not on record boundary", "ccs received early",
        "unexpected ccs message", "app data in handshake", "data between ccs and finished", "invalid ccs message",
        "too many key updates", "too many warn alerts", "no renegotiation", "mixed handshake and non handshake data",
        "bad record type", "bad change cipher spec", "invalid alert", "unexpected end of early data",
        "zero length record", "too much early data", "unknown alert type", "record too small",
    ),
    Failure.RECORD_OVERFLOW: ("packet length too long", "data length too long", "encrypted length too long"),
    Failure.GARBAGE: (
        "length mismatch", "bad extension", "length too long", "length too short", "bad packet", "bad length",
        "decode error", "http request", "https proxy request", "bad packet length", "extension too short",
        "bad hello request", "bad digest length", "bad psk", "parse tlsext", "no ciphers specified",
        "unsolicited extension", "bad cipher", "bad key share", "ssl3 ext invalid servername",
    ),
    Failure.PEER_GONE: ("unexpected eof while reading",),
    Failure.INTERNAL: ("internal error", "malloc failure", "EVP lib", "crypto lib", "missing fatal"),
}  # fmt: skip
_ILLEGAL = ("bad key share", "bad psk", "unsolicited extension", "bad cipher")

_BY_REASON = {reason: failure for failure, reasons in _REASONS.items() for reason in reasons}
_BY_REASON.update(dict.fromkeys(_ILLEGAL, Failure.ILLEGAL_PARAMETER))

_BY_ALERT = {
    10: Failure.UNEXPECTED_MESSAGE,
    20: Failure.BAD_RECORD_MAC,
    22: Failure.RECORD_OVERFLOW,
    40: Failure.NO_COMMON_PARAMETERS,
    42: Failure.BAD_CERTIFICATE,
    43: Failure.WRONG_USAGE,
    44: Failure.REVOKED,
    45: Failure.EXPIRED,
    46: Failure.BAD_CERTIFICATE,
    47: Failure.ILLEGAL_PARAMETER,
    48: Failure.UNTRUSTED,
    50: Failure.GARBAGE,
    51: Failure.BAD_SIGNATURE,
    70: Failure.VERSION,
    71: Failure.NO_COMMON_PARAMETERS,
    80: Failure.INTERNAL,
    86: Failure.VERSION,
    100: Failure.UNEXPECTED_MESSAGE,
    109: Failure.MISSING_EXTENSION,
    110: Failure.UNSUPPORTED_EXTENSION,
    112: Failure.ILLEGAL_PARAMETER,
    113: Failure.GARBAGE,
    115: Failure.UNKNOWN_PSK,
    116: Failure.NO_PEER_CERTIFICATE,
    120: Failure.NO_COMMON_ALPN,
}
"""The failure of each alert, for a text that has none with this alert."""

_OURS = frozenset({"binder does not verify"})
"""Texts that go before OpenSSL's alert: a binder that does not verify is decrypt_error (RFC 8446 section 6.2)."""

_BAD_SHARES = frozenset(
    {"failed during derivation", "invalid encoding", "invalid key", "invalid key length", "point is not on curve"}
)
"""Texts of OpenSSL's cryptography about a key share, of which its TLS sometimes says "internal error", with alert 80:
the peer's share is illegal (RFC 8446 section 4.2.8.2; for the hybrids, draft-ietf-tls-ecdhe-mlkem section 4)."""


class Verdict(NamedTuple):
    """The failure of a handshake that OpenSSL refused.  ``alert``: OpenSSL's; None: the failure's own is to be sent."""

    failure: HandshakeFailed
    alert: int | None


def verdict_on(problems: Sequence[Problem], written: int | None) -> Verdict:
    """Return the failure that an error queue, oldest entry first, stands for.

    ``written``: the alert that OpenSSL wrote with it, or None.
    """
    for problem in problems:
        if problem.alert is not None:
            refused = HandshakeFailed(Failure.PEER_REFUSED, describe_alert(problem.alert), peer_alert=problem.alert)
            return Verdict(refused, None)
    if written == Failure.INTERNAL.alert and (bad := [each.reason for each in problems if each.reason in _BAD_SHARES]):
        return Verdict(HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"OpenSSL: {bad[0]} (key share)"), None)
    own = [problem for problem in problems if problem.library == "SSL routines"] or list(problems)
    known = [(problem.reason, _BY_REASON[problem.reason]) for problem in own if problem.reason in _BY_REASON]
    detail = "; ".join(dict.fromkeys(problem.reason for problem in problems))
    if written is None or (known and known[0][0] in _OURS):
        reason, failure = known[0] if known else (detail, Failure.ILLEGAL_PARAMETER)
        return Verdict(HandshakeFailed(failure, f"OpenSSL: {reason}"), None)
    for reason, failure in known:
        if failure.alert == written:
            return Verdict(HandshakeFailed(failure, f"OpenSSL: {reason}"), written)
    return Verdict(HandshakeFailed(_BY_ALERT.get(written, Failure.ILLEGAL_PARAMETER), f"OpenSSL: {detail}"), written)
