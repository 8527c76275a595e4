"""Names of application protocols (ALPN, RFC 7301 section 3.1), as a ClientHello can bear them."""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST_ALPN, _MOST_ALPN = 255, 65533
"""Bytes of one name and of a list (RFC 7301, section 3.1)."""


def wrong_alpn(names: Sequence[str]) -> str:
    """Return what is wrong with names of application protocols; empty: nothing."""
    for name in names:
        if not name.isascii() or not 0 < len(name) <= _LONGEST_ALPN:
            return f"alpn: a name has 1 to {_LONGEST_ALPN} ASCII characters, and {name[:64]!a} has not"
    if sum(1 + len(name) for name in names) > _MOST_ALPN:
        return f"alpn: the names have more than {_MOST_ALPN} bytes together"
    return ""
