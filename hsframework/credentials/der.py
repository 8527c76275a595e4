"""Readers for the names in certificates and revocation lists, which do not parse the rest.

A system bundle has some 150 anchors, and a handshake needs one of them.  The readers follow the outermost structure of
RFC 5280 sections 4.1 and 5.1 far enough to index by name.  Certificates that are then used are parsed strictly by
``cryptography``, which repeats every comparison on which trust depends.

All functions raise ``ValueError`` for input that is not such a structure.
"""

from __future__ import annotations

from typing import NamedTuple

_INTEGER, _SEQUENCE, _EXPLICIT_VERSION = 0x02, 0x30, 0xA0


class Names(NamedTuple):
    """Issuer and subject of a certificate, as DER with tag and length: equal bytes are equal names."""

    issuer: bytes
    subject: bytes


def certificate_names(der: bytes) -> Names:
    """Return issuer and subject of a DER certificate."""
    reader = _Reader(der, 0, len(der)).enter(_SEQUENCE).enter(_SEQUENCE)
    reader.skip_optional(_EXPLICIT_VERSION)
    reader.take(_INTEGER)  # serialNumber
    reader.take(_SEQUENCE)  # signature
    issuer = reader.take(_SEQUENCE)
    reader.take(_SEQUENCE)  # validity
    return Names(issuer, reader.take(_SEQUENCE))


def crl_issuer(der: bytes) -> bytes:
    """Return the encoded issuer name of a DER certificate revocation list."""
    reader = _Reader(der, 0, len(der)).enter(_SEQUENCE).enter(_SEQUENCE)
    reader.skip_optional(_INTEGER)  # version
    reader.take(_SEQUENCE)  # signature
    return reader.take(_SEQUENCE)


class _Reader:
    """A cursor over the elements of ``data[offset:end]``."""

    __slots__ = ("_data", "_end", "_offset")

    def __init__(self, data: bytes, offset: int, end: int) -> None:
        self._data, self._offset, self._end = data, offset, end

    def _header(self, tag: int) -> tuple[int, int]:
        """Return start and end of the contents of the element at the cursor.  Raises ValueError for another tag."""
        data, offset = self._data, self._offset
        if offset + 2 > self._end or data[offset] != tag:
            raise ValueError("not the expected DER element")
        length, start = data[offset + 1], offset + 2
        if length >= 0x80:
            size = length & 0x7F
            if not 1 <= size <= 4 or start + size > self._end:
                raise ValueError("not a definite DER length")
            length = int.from_bytes(data[start : start + size], "big")
            start += size
        if start + length > self._end:
            raise ValueError("a DER element is longer than what holds it")
        return start, start + length

    def enter(self, tag: int) -> _Reader:
        start, end = self._header(tag)
        return _Reader(self._data, start, end)

    def take(self, tag: int) -> bytes:
        begin = self._offset
        _, self._offset = self._header(tag)
        return self._data[begin : self._offset]

    def skip_optional(self, tag: int) -> None:
        if self._offset < self._end and self._data[self._offset] == tag:
            self.take(tag)
