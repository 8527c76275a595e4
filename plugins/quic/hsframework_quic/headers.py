"""Headers of a client's first datagram: the part that every version of QUIC has (RFC 8999), and an Initial's.

Reads nothing but the first packet's header, and never past the datagram's end.
"""

from __future__ import annotations

from dataclasses import dataclass

from hsframework_quic.session import VERSION_1, VERSION_2

LONG, FIXED = 0x80, 0x40
MAX_CONNECTION_ID = 20
"""Bytes, in the versions that are known here (RFC 9000 section 17.2)."""
MIN_FIRST_DATAGRAM = 1200
"""Bytes of a datagram with a client's Initial (RFC 9000 section 14.1)."""
MIN_FIRST_DESTINATION = 8
"""Bytes of the connection id that a client makes up for its server (RFC 9000 section 7.2)."""

_INITIAL = {VERSION_1: 0, VERSION_2: 1}
"""The long packet type (RFC 9000 section 17.2, RFC 9369 section 3.2)."""


class _Truncated(Exception):
    """The end of a datagram within the header."""


@dataclass(frozen=True, slots=True)
class LongHeader:
    """The version-independent part of a long header.

    ``first``: the first byte.  ``rest``: the bytes after the source connection id.
    """

    first: int
    version: int
    destination: bytes
    source: bytes
    rest: bytes


@dataclass(frozen=True, slots=True)
class Initial:
    """The header of an Initial packet of a known version."""

    version: int
    destination: bytes
    source: bytes
    token: bytes


def long_header(datagram: bytes) -> LongHeader | None:
    """Return the version-independent part (RFC 8999 section 5.1); None: a short header, or too short for a long one."""
    if not datagram or not datagram[0] & LONG:
        return None
    try:
        version, offset = _take(datagram, 1, 4)
        destination, offset = _take_prefixed(datagram, offset)
        source, offset = _take_prefixed(datagram, offset)
    except _Truncated:
        return None
    return LongHeader(datagram[0], int.from_bytes(version, "big"), destination, source, datagram[offset:])


def initial(header: LongHeader) -> Initial | None:
    """Return the header of an Initial; None: no Initial, not of a known version, or malformed."""
    kind = _INITIAL.get(header.version)
    if kind is None or not header.first & FIXED or (header.first & 0x30) >> 4 != kind:
        return None
    if (
        not MIN_FIRST_DESTINATION <= len(header.destination) <= MAX_CONNECTION_ID
        or len(header.source) > MAX_CONNECTION_ID
    ):
        return None
    try:
        size, offset = _take_integer(header.rest, 0)
        token, offset = _take(header.rest, offset, size)
        length, offset = _take_integer(header.rest, offset)
        _take(header.rest, offset, length)
    except _Truncated:
        return None
    return Initial(header.version, header.destination, header.source, token)


def _take(data: bytes, offset: int, size: int) -> tuple[bytes, int]:
    if len(data) - offset < size:
        raise _Truncated
    return data[offset : offset + size], offset + size


def _take_prefixed(data: bytes, offset: int) -> tuple[bytes, int]:
    size, offset = _take(data, offset, 1)
    return _take(data, offset, size[0])


def _take_integer(data: bytes, offset: int) -> tuple[int, int]:
    """Read a variable-length integer (RFC 9000 section 16)."""
    first, _ = _take(data, offset, 1)
    size = 1 << (first[0] >> 6)
    value, offset = _take(data, offset, size)
    return int.from_bytes(value, "big") & ((1 << (8 * size - 2)) - 1), offset
