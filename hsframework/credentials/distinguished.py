"""Comparison of distinguished names (RFC 5280 section 7.1).

Two encodings are one name if they have the same relative names in the same order, whatever the string types, the case
and the runs of blanks of their values.  A look-up by the bytes of a name would miss a certificate or a revocation list
whose authority spells its name in another string type.  So all look-ups go by :func:`comparable`.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from hsframework.credentials.der import name_attributes

_STRING_TYPES = {
    0x0C: "utf-8",  # UTF8String
    0x12: "ascii",  # NumericString
    0x13: "ascii",  # PrintableString
    0x14: "latin-1",  # TeletexString
    0x16: "ascii",  # IA5String
    0x1A: "ascii",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}
MAX_ATTRIBUTES = 128
"""Attributes of one name."""
_TEXT = b"\x00"
"""Marks a normalised value; no DER tag is zero."""


@lru_cache(maxsize=4096)
def comparable(name: bytes) -> bytes:
    """Return a form of an encoded name that is equal for equal names.

    ``name``: DER with tag and length.  Raises ``ValueError`` for bytes that are not such a structure.
    """
    relative_names = []
    left = MAX_ATTRIBUTES
    for attributes in name_attributes(name):
        left -= len(attributes)
        if left < 0:
            raise ValueError(f"a name has more than {MAX_ATTRIBUTES} attributes")
        values = sorted({_sized(oid) + _sized(_value(tag, contents)) for oid, tag, contents in attributes})
        relative_names.append(_sized(b"".join(values)))
    return b"".join(relative_names)


def normal_text(text: str) -> str:
    """Return ``text`` without differences of case, of compatible characters and of blanks (RFC 4518 section 2)."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.casefold())
    return " ".join(text.casefold().split())


def _value(tag: int, contents: bytes) -> bytes:
    encoding = _STRING_TYPES.get(tag)
    if encoding is not None:
        try:
            return _TEXT + normal_text(contents.decode(encoding)).encode()
        except UnicodeError:
            pass  # compared as bytes below, with its tag
    return bytes((tag,)) + contents


def _sized(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part
