"""A writer of DER, for certificates and lists that no builder makes."""

from __future__ import annotations

INTEGER, BITS, OCTETS, OID, SEQUENCE, SET = 0x02, 0x03, 0x04, 0x06, 0x30, 0x31
TRUE = bytes.fromhex("0101ff")


def element(tag: int, *contents: bytes) -> bytes:
    """Return a DER element."""
    inside = b"".join(contents)
    size = len(inside)
    if size < 0x80:
        return bytes((tag, size)) + inside
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + inside


def integer(number: int) -> bytes:
    """Return an INTEGER of either sign."""
    bits = (number if number >= 0 else ~number).bit_length()
    return element(INTEGER, number.to_bytes(bits // 8 + 1, "big", signed=True))


def identifier(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER."""
    first, second, *others = map(int, dotted.split("."))
    contents = b""
    for number in (40 * first + second, *others):
        part = bytes((number & 0x7F,))
        while number := number >> 7:
            part = bytes((number & 0x7F | 0x80,)) + part
        contents += part
    return element(OID, contents)


def extension(dotted: str, value: bytes, critical: bytes = b"") -> bytes:
    """Return an extension; ``critical``: the encoded boolean, or nothing."""
    return element(SEQUENCE, identifier(dotted), critical, element(OCTETS, value))
