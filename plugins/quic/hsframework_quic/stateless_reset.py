"""Stateless resets, sent by a peer that has lost its connection (RFC 9000 section 10.3).  Sans-IO."""

from __future__ import annotations

import hmac

MIN_SIZE = 21
"""Bytes of the shortest stateless reset."""
TOKEN_SIZE = 16


def is_stateless_reset(datagram: bytes, token: bytes) -> bool:
    """Return True if the datagram ends with the peer's token (RFC 9000 section 10.3.1); an empty ``token`` is none.

    In an ordinary packet the AEAD tag is in that place, which nobody can choose.
    """
    return len(token) == TOKEN_SIZE and len(datagram) >= MIN_SIZE and hmac.compare_digest(datagram[-TOKEN_SIZE:], token)
