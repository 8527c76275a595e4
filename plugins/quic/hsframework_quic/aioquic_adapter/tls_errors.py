"""The errors of a TLS engine, for the connection and for the consumer."""

from __future__ import annotations

from aioquic import tls
from aioquic.buffer import BufferReadError, BufferWriteError
from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from hsframework.errors import HandshakeError
from hsframework.failures import Failure, HandshakeFailed

_FAILURES = {
    failure.alert: failure
    for failure in (
        Failure.UNEXPECTED_MESSAGE,
        Failure.NO_COMMON_PARAMETERS,
        Failure.BAD_CERTIFICATE,
        Failure.WRONG_USAGE,
        Failure.EXPIRED,
        Failure.ILLEGAL_PARAMETER,
        Failure.GARBAGE,
        Failure.BAD_SIGNATURE,
        Failure.VERSION,
        Failure.MISSING_EXTENSION,
        Failure.NO_COMMON_ALPN,
    )
}
"""Rows of the table by the alerts that aioquic's own code raises."""


class Refused(tls.Alert):
    """A refusal of ours; aioquic sends CONNECTION_CLOSE with 0x100 + ``description`` (RFC 9001 section 4.8)."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.meaning)
        self.description = tls.AlertDescription(failure.alert or tls.AlertDescription.internal_error)


class Violation(HandshakeFailed):
    """A violation of QUIC and not of TLS; it is sent as PROTOCOL_VIOLATION."""

    def __init__(self, detail: str) -> None:
        super().__init__(Failure.ILLEGAL_PARAMETER, detail)


def told(error: Exception) -> tuple[HandshakeError, Exception]:
    """Return the consumer's error and the connection's error for an exception."""
    if isinstance(error, Violation):
        reason = QuicConnectionError(
            error_code=QuicErrorCode.PROTOCOL_VIOLATION, frame_type=QuicFrameType.CRYPTO, reason_phrase=""
        )
        return HandshakeFailed(error.failure, error.detail), reason
    if isinstance(error, QuicConnectionError):
        return HandshakeFailed(Failure.ILLEGAL_PARAMETER, error.reason_phrase), error
    if isinstance(error, HandshakeFailed):
        return HandshakeFailed(error.failure, error.detail), Refused(error.failure)
    if isinstance(error, HandshakeError):
        return error.with_traceback(None), Refused(Failure.NOT_AUTHORIZED)
    if isinstance(error, tls.Alert):
        failure = _FAILURES.get(int(error.description), Failure.INTERNAL)
        return HandshakeFailed(failure, str(error)), Refused(failure)
    if isinstance(error, BufferReadError):
        return HandshakeFailed(Failure.GARBAGE, "a handshake message ends too early"), Refused(Failure.GARBAGE)
    if isinstance(error, BufferWriteError):
        failed = HandshakeFailed(Failure.NO_KEY, "our certificate chain is too long for the handshake")
        return failed, Refused(failed.failure)
    return HandshakeFailed(Failure.INTERNAL, type(error).__name__), Refused(Failure.INTERNAL)
