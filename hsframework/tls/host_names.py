"""Host names with other letters than ASCII's."""

from __future__ import annotations

import idna


def ascii_name(name: str) -> str:
    """Return a host name with A-labels in place of other letters (RFC 5891, UTS #46); any other name as it is."""
    if name.isascii():
        return name
    try:
        return idna.encode(name, uts46=True).decode("ascii")
    except idna.IDNAError:
        return name
