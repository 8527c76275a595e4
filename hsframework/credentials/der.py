"""The names in certificates and CRLs, read without parsing the rest.

A system bundle has some 150 anchors, and a handshake needs one of them.  These readers walk the outermost structure
of RFC 5280 section 4.1 and 5.1 far enough to index by name; whatever is then used is parsed, strictly, by
``cryptography``, and every comparison that trust rests on is made there again.

All functions raise ``ValueError`` for input that is not such a structure.
"""

from __future__ import annotations

from typing import NamedTuple

_INTEGER, _SEQUENCE, _EXPLICIT_VERSION = 0x02, 0x30, 0xA0


class Names(NamedTuple):
    """The encoded ``Name`` of each party, tag and length included: equal bytes are equal names."""

    issuer: bytes
    subject: bytes


def certificate_names(der: bytes) -> Names:
    """Issuer and subject of one DER certificate."""
    reader = _Reader(der, 0, len(der)).enter(_SEQUENCE).enter(_SEQUENCE)
    reader.skip_optional(_EXPLICIT_VERSION)
    reader.take(_INTEGER)  # serialNumber
    reader.take(_SEQUENCE)  # signature
    issuer = reader.take(_SEQUENCE)
    reader.take(_SEQUENCE)  # validity
    return Names(issuer, reader.take(_SEQUENCE))


def crl_issuer(der: bytes) -> bytes:
    """The encoded issuer name of one DER certificate revocation list."""
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
        """Start and end of the contents of the element at the cursor, which must have this tag."""
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
