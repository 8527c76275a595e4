"""Readers of two encodings that OpenSSL hands out and has checked: a list of ALPN, and its own sessions.  Sans-IO."""

from __future__ import annotations

_FRAGMENT_LIMITS = {bytes((0xB1, 3, 2, 1, code)): 256 << code for code in (1, 2, 3, 4)}
"""``[17] EXPLICIT INTEGER`` of OpenSSL's SSL_SESSION (``ssl/ssl_asn1.c``), and the bytes that each code stands for."""


def split_names(data: bytes) -> dict[bytes, int]:
    """Return the names in an ALPN list with their offsets.  OpenSSL has checked its form."""
    names: dict[bytes, int] = {}
    position = 0
    while position < len(data):
        start = position + 1
        position = start + data[position]
        names.setdefault(data[start:position], start)
    return names


def fragment_limit(session: bytes) -> int | None:
    """Return the limit of max_fragment_length in an encoded SSL_SESSION, in bytes, or None."""
    if not any(element in session for element in _FRAGMENT_LIMITS):
        return None
    position = 2 + (session[1] & 0x7F if session[1] & 0x80 else 0)
    while position + 2 <= len(session):
        length, head = session[position + 1], 2
        if length & 0x80:
            head += length & 0x7F
            length = int.from_bytes(session[position + 2 : position + head], "big")
        if limit := _FRAGMENT_LIMITS.get(session[position : position + head + length]):
            return limit
        position += head + length
    return None
