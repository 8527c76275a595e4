"""The translation of OpenSSL's error queue to the rows of the alert and errno table.

The alert that OpenSSL sends belongs to its reason; where the table names another, :mod:`.engine` sends that one as
long as there are no keys.  Reasons are OpenSSL 3.0's to 4.0's texts (``ssl/ssl_err.c``).
"""

from __future__ import annotations

from collections.abc import Sequence

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


def failure_of(problems: Sequence[Problem]) -> HandshakeFailed:
    """Return the failure that an error queue, oldest entry first, stands for."""
    for problem in problems:
        if problem.alert is not None:
            return HandshakeFailed(Failure.PEER_REFUSED, describe_alert(problem.alert), peer_alert=problem.alert)
    own = [problem for problem in problems if problem.library == "SSL routines"] or list(problems)
    for problem in own:
        failure = _BY_REASON.get(problem.reason)
        if failure is not None:
            return HandshakeFailed(failure, f"OpenSSL: {problem.reason}")
    detail = "; ".join(problem.reason for problem in problems)
    return HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"OpenSSL: {detail}")
