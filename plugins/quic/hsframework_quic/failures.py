"""The error codes of QUIC (RFC 9000 section 20.1) and the shared failure table, both ways.  Sans-IO."""

from __future__ import annotations

from hsframework.failures import Failure, HandshakeFailed
from hsframework.tls.alerts import describe_alert

CRYPTO_ERROR = 0x100
"""Plus a TLS alert (RFC 9001 section 4.8)."""
NO_ERROR, INTERNAL_ERROR, CONNECTION_REFUSED = 0x0, 0x1, 0x2
TRANSPORT_PARAMETER_ERROR, APPLICATION_ERROR, CRYPTO_BUFFER_EXCEEDED = 0x8, 0xC, 0xD
VERSION_NEGOTIATION_ERROR = 0x11

_OWN = {
    INTERNAL_ERROR: Failure.INTERNAL,
    TRANSPORT_PARAMETER_ERROR: Failure.ILLEGAL_PARAMETER,
    CRYPTO_BUFFER_EXCEEDED: Failure.RECORD_OVERFLOW,
    VERSION_NEGOTIATION_ERROR: Failure.VERSION,
}


def closing_code(failure: Failure) -> int:
    """Return the error code for CONNECTION_CLOSE."""
    return NO_ERROR if failure.alert is None else CRYPTO_ERROR + failure.alert


def failure_of_close(code: int, reason: str) -> HandshakeFailed:
    """Return the error for a connection that the peer closed in mid-handshake.  ``reason`` is its own text."""
    text = f", {reason[:100]!a}" if reason else ""
    if code in (NO_ERROR, APPLICATION_ERROR):
        return HandshakeFailed(Failure.PEER_GONE, f"it closed the connection, code {code:#x}{text}")
    alert = code - CRYPTO_ERROR if CRYPTO_ERROR <= code < CRYPTO_ERROR + 256 else None
    detail = f"TLS {describe_alert(alert)}" if alert is not None else f"transport error {code:#x}"
    return HandshakeFailed(Failure.PEER_REFUSED, detail + text, peer_alert=alert)


def failure_of_own_close(code: int, reason: str) -> HandshakeFailed:
    """Return the error for a connection that our side closed over the peer's packets; TLS's errors have another way."""
    return HandshakeFailed(_OWN.get(code, Failure.GARBAGE), f"{reason} (transport error {code:#x})")
