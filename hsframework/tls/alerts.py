"""Names and explanations of TLS alerts (RFC 8446 section 6).  Sans-IO."""

from __future__ import annotations

_NAMES = {
    0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 22: "record_overflow", 40: "handshake_failure",
    42: "bad_certificate", 43: "unsupported_certificate", 44: "certificate_revoked", 45: "certificate_expired",
    46: "certificate_unknown", 47: "illegal_parameter", 48: "unknown_ca", 49: "access_denied", 50: "decode_error",
    51: "decrypt_error", 70: "protocol_version", 71: "insufficient_security", 80: "internal_error",
    86: "inappropriate_fallback", 90: "user_canceled", 109: "missing_extension", 110: "unsupported_extension",
    112: "unrecognized_name", 113: "bad_certificate_status_response", 115: "unknown_psk_identity",
    116: "certificate_required", 120: "no_application_protocol", 121: "ech_required",
}  # fmt: skip
_EXPLANATIONS = {
    40: "it has no parameters in common with us",
    45: "our certificate has expired for it",
    44: "our certificate is revoked for it",
    48: "it does not trust the authority of our certificate",
    49: "it knows us, and does not let us in",
    80: "it cannot go on; its own log says why",
    112: "it does not serve the name that was asked for",
    115: "it does not know our pre-shared key's identity",
    116: "it wants a certificate of ours",
    120: "it wants an application protocol (ALPN) that we did not offer",
}


def describe_alert(number: int) -> str:
    """Describe an alert of the peer: 116 → ``alert 116 (certificate_required): it wants a certificate of ours``."""
    name, explanation = _NAMES.get(number), _EXPLANATIONS.get(number)
    return f"alert {number}" + (f" ({name})" if name else "") + (f": {explanation}" if explanation else "")
