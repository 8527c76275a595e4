"""Readers for the names in certificates and revocation lists, which do not parse the rest.

A system bundle has some 150 anchors, and a handshake needs one of them.  The readers follow the outermost structure of
RFC 5280 sections 4.1 and 5.1 far enough to index by name and key identifier.  Certificates that are then used are
parsed strictly by ``cryptography`` and by OpenSSL, which repeats every comparison on which trust depends.

All functions raise ``ValueError`` for input that is not such a structure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_INTEGER, _OCTET_STRING, _SEQUENCE, _EXPLICIT_VERSION, _EXTENSIONS = 0x02, 0x04, 0x30, 0xA0, 0xA3
_SUBJECT_KEY_IDENTIFIER = bytes.fromhex("0603551d0e")
"""The object identifier 2.5.29.14, with tag and length."""

RSA_ENCRYPTION = bytes.fromhex("300d06092a864886f70d0101010500")
RSASSA_PSS = bytes.fromhex("300b06092a864886f70d01010a")
"""Algorithms of RSA keys, as DER; the second without parameters (RFC 4055 section 3.1)."""


class Names(NamedTuple):
    """Issuer and subject of a certificate, as DER with tag and length."""

    issuer: bytes
    subject: bytes


def certificate_names(der: bytes) -> Names:
    """Return issuer and subject of a DER certificate."""
    reader = _after_serial_number(der)
    reader.take(_SEQUENCE)  # signature
    issuer = reader.take(_SEQUENCE)
    reader.take(_SEQUENCE)  # validity
    return Names(issuer, reader.take(_SEQUENCE))


def _after_serial_number(der: bytes) -> _Reader:
    """Return a cursor within a certificate, behind its serial number."""
    reader = _Reader(der, 0, len(der)).enter(_SEQUENCE).enter(_SEQUENCE)
    reader.skip_optional(_EXPLICIT_VERSION)
    reader.take(_INTEGER)
    return reader


def key_algorithm(der: bytes) -> bytes:
    """Return the algorithm of the key in a DER certificate, as DER with its parameters."""
    reader = _after_serial_number(der)
    for _ in range(4):  # signature, issuer, validity, subject
        reader.take(_SEQUENCE)
    return reader.enter(_SEQUENCE).take(_SEQUENCE)


def private_key_info(algorithm: bytes, key: bytes) -> bytes:
    """Return a PrivateKeyInfo (RFC 5958, version 0): the ``algorithm`` as DER, and the contents of the key."""
    version = bytes((_INTEGER, 1, 0))
    return _element(_SEQUENCE, version + algorithm + _element(_OCTET_STRING, key))


def _element(tag: int, contents: bytes) -> bytes:
    size = len(contents)
    if size < 0x80:
        return bytes((tag, size)) + contents
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + contents


def subject_key_id(der: bytes) -> bytes | None:
    """Return the subject key identifier of a DER certificate, or None if it has none."""
    reader = _after_serial_number(der)
    outer = next(((start, end) for tag, start, end in reader.elements() if tag == _EXTENSIONS), None)
    if outer is None:
        return None
    for extension in _Reader(der, *outer).enter(_SEQUENCE).children():
        if der.startswith(_SUBJECT_KEY_IDENTIFIER, extension.offset):
            values = [der[start:end] for tag, start, end in extension.elements() if tag == _OCTET_STRING]
            return _Reader(values[0], 0, len(values[0])).contents(_OCTET_STRING) if values else None
    return None


def name_attributes(name: bytes) -> Iterator[list[tuple[bytes, int, bytes]]]:
    """Yield the attributes of each relative name of a name: object identifier, tag and contents of the value."""
    for relative in _Reader(name, 0, len(name)).enter(_SEQUENCE).children():
        attributes = []
        for attribute in relative.children():
            parts = [(tag, name[start:end]) for tag, start, end in attribute.elements()]
            if len(parts) != 2:
                raise ValueError("an attribute of a name is not a type and a value")
            attributes.append((parts[0][1], *parts[1]))
        yield attributes


def policy_mappings(value: bytes) -> tuple[tuple[str, str], ...]:
    """Return the pairs in a policyMappings extension, as dotted object identifiers: the issuer's and the subject's."""
    pairs = []
    for pair in _Reader(value, 0, len(value)).enter(_SEQUENCE).children():
        ours, theirs = (_dotted(value[start:end]) for _, start, end in pair.elements())
        pairs.append((ours, theirs))
    return tuple(pairs)


def _dotted(contents: bytes) -> str:
    """Return an encoded object identifier in dotted form (X.690 section 8.19)."""
    numbers, number = [], 0
    for octet in contents:
        number = number << 7 | octet & 0x7F
        if not octet & 0x80:
            numbers.append(number)
            number = 0
    if not numbers or contents[-1] & 0x80:
        raise ValueError("not an object identifier")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


class ListParts(NamedTuple):
    """The parts of a DER certificate revocation list; of long ones the places, since a copy takes time."""

    issuer: bytes
    """Name of the issuer, as DER with tag and length."""
    signed: tuple[int, int]
    """Start and end of what is signed."""
    entries: tuple[int, int]
    """Start and end of the revoked certificates; equal if there are none."""
    one_algorithm: bool
    """True if the algorithm in the signed part is that of the signature (RFC 5280 section 5.1.1.2)."""


def list_parts(der: bytes) -> ListParts:
    """Return the parts of a DER certificate revocation list (RFC 5280 section 5.1)."""
    whole = _Reader(der, 0, len(der)).enter(_SEQUENCE)
    begin, reader = whole.offset, whole.enter(_SEQUENCE)
    whole.skip(_SEQUENCE)
    reader.skip_optional(_INTEGER)  # version
    algorithm, issuer = reader.take(_SEQUENCE), reader.take(_SEQUENCE)
    entries = (reader.offset, reader.offset)
    for tag, start, end in reader.elements():  # one or two dates, the entries, extensions
        if tag == _SEQUENCE:
            entries = (start, end)
    return ListParts(issuer, (begin, whole.offset), entries, algorithm == whole.take(_SEQUENCE))


class _Reader:
    """A cursor over the elements of ``data[offset:end]``."""

    __slots__ = ("_data", "_end", "_offset")

    def __init__(self, data: bytes, offset: int, end: int) -> None:
        self._data, self._offset, self._end = data, offset, end

    @property
    def offset(self) -> int:
        """Position of the cursor in the whole input."""
        return self._offset

    def elements(self) -> Iterator[tuple[int, int, int]]:
        """Yield tag, start of the contents, and end of each element that is left."""
        while (begin := self._offset) < self._end:
            start, self._offset = self._header(None)
            yield self._data[begin], start, self._offset

    def children(self) -> Iterator[_Reader]:
        """Yield a cursor over the contents of each element that is left."""
        for _, start, end in self.elements():
            yield _Reader(self._data, start, end)

    def contents(self, tag: int) -> bytes:
        """Return the contents of the element at the cursor."""
        start, end = self._header(tag)
        return self._data[start:end]

    def _header(self, tag: int | None) -> tuple[int, int]:
        """Return start and end of the contents of the element at the cursor.  Raises ValueError for another tag."""
        data, offset = self._data, self._offset
        if offset + 2 > self._end or (tag is not None and data[offset] != tag):
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
        self.skip(tag)
        return self._data[begin : self._offset]

    def skip(self, tag: int) -> None:
        _, self._offset = self._header(tag)

    def skip_optional(self, tag: int) -> None:
        if self._offset < self._end and self._data[self._offset] == tag:
            self.take(tag)
