"""Codec for the attribute sets of a spec.

It is strict in both directions, as the kernel is for a family without ``GENL_DONT_VALIDATE_STRICT``.  An attribute that
the set does not list, a length that does not fit its type, a nest without ``NLA_F_NESTED``, missing padding, and a
repeated attribute that is not ``multi-attr`` raise :class:`hsframework.errors.MessageError` with the attribute's name.

A *lenient* codec decodes messages of a kernel that may be newer than the spec, or older than strict nests: it ignores
unknown attributes and flags, and decodes strings that are not UTF-8 to surrogate escapes.  It encodes strictly.

Values in Python: integers are ``int``, strings ``str`` (NUL-terminated on the wire), binary ``bytes`` (or ``Secret``),
flags ``True``, nests ``dict``; a ``multi-attr`` attribute is a list of these.  An attribute has at most 65,531 bytes.

A codec is compiled from its set: encoding an attribute takes one function call, decoding an integer none.  Small nests
without secrets (tags) are often the same, so the last ones decoded are cached.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Any, NamedTuple

from hsframework.errors import MessageError
from hsframework.interface import Secret
from hsframework.netlink.spec import INTEGER_TYPES, Attribute, Specification

NLA_F_NESTED = 0x8000
NLA_F_NET_BYTEORDER = 0x4000
NLA_TYPE_MASK = 0x3FFF
MAX_PAYLOAD = 0xFFFF - 4
"""Bytes of an attribute's value; ``nla_len`` counts the header too."""
REMEMBERED_NESTS = 256
REMEMBERED_SIZE = 96
"""Bytes of a nest that is remembered, at most."""

_HEADER = struct.Struct("=HH")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
_END_OF_TEXT = tuple(b"\0" + padding for padding in _PADDING)
_NO_SIZE = -1

Values = dict[str, Any]
_Encoder = Callable[[Any], bytes]
_Decoder = Callable[[bytes], Any]


class _Decoding(NamedTuple):
    """The decoder of one attribute: ``unpack`` in place if it has ``size`` bytes with its header, else ``read``."""

    name: str
    multi: bool
    size: int
    unpack: Callable[[bytes, int], tuple[int, ...]]
    read: _Decoder


class AttributeCodec:
    """A strict codec for one attribute set of a spec."""

    def __init__(self, specification: Specification, set_name: str) -> None:
        self.name = f"{specification.name}.{set_name}"
        self._encoders: dict[str, tuple[_Encoder, bool]] = {}
        self._decoders: dict[int, _Decoding] = {}
        # Unpacking a named tuple takes several times as long as unpacking a plain one.
        self._plain_decoders: dict[int, tuple[Any, ...]] = {}
        attributes = specification.sets[set_name].attributes.values()
        self.is_flat = not any(each.nested or each.sensitive or each.multi for each in attributes)
        """True if there are no nests, lists and secrets in it."""
        for attribute in attributes:
            wire_type = attribute.value | (NLA_F_NESTED if attribute.nested else 0)
            encoder, decoding = self._functions(specification, attribute, wire_type)
            self._encoders[attribute.name] = encoder, attribute.multi
            self._decoders[wire_type] = decoding
            self._plain_decoders[wire_type] = tuple(decoding)

    def first(self, data: bytes, start: int) -> tuple[str, int]:
        """Return name and end, padding included, of the attribute at offset ``start`` of decoded ``data``."""
        length, wire_type = _HEADER.unpack_from(data, start)
        return self._decoders[wire_type].name, start + length + (-length & 3)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the set's attributes."""
        return tuple(self._encoders)

    def encode(self, values: Mapping[str, Any]) -> bytes:
        """Encode attributes in the order of ``values``; None and False are left out.  Raises MessageError."""
        parts: list[bytes] = []
        encoders = self._encoders
        for name, value in values.items():
            if value is None or value is False:
                continue
            entry = encoders.get(name)
            if entry is None:
                raise MessageError(f"{self.name}: there is no attribute {name!r}")
            encoder, multi = entry
            if multi:
                if not isinstance(value, (list, tuple)):
                    raise MessageError(f"{self.name}.{name}: not a list")
                parts.extend(map(encoder, value))
            else:
                parts.append(encoder(value))
        return b"".join(parts)

    def decode(self, data: bytes, start: int = 0) -> Values:
        """Decode all of ``data`` from offset ``start`` on.  Raises MessageError."""
        values: Values = {}
        get, header = self._plain_decoders.get, _HEADER.unpack_from
        offset, end = start, len(data)
        while offset < end:
            if end - offset < 4:
                raise MessageError(f"{self.name}: {end - offset} bytes left over, too few for an attribute")
            length, wire_type = header(data, offset)
            behind = offset + length
            if length < 4 or behind > end:
                raise MessageError(f"{self.name}: an attribute of length {length} with {end - offset} bytes left")
            entry = get(wire_type)
            if entry is None:
                raise MessageError(self._refused(wire_type))
            name, multi, size, unpack, read = entry
            value = unpack(data, offset + 4)[0] if length == size else read(data[offset + 4 : behind])
            if multi:
                if name in values:
                    values[name].append(value)
                else:
                    values[name] = [value]
            elif name in values:
                raise MessageError(f"{self.name}.{name}: the attribute is there twice")
            else:
                values[name] = value
            offset = behind + (-length & 3)
        if offset > end:
            raise MessageError(f"{self.name}: the last attribute's padding is missing")
        return values

    def _functions(
        self, specification: Specification, attribute: Attribute, wire_type: int
    ) -> tuple[_Encoder, _Decoding]:
        where = f"{self.name}.{attribute.name}"
        if attribute.nested is not None:
            encoder, decoder = _nest(self._inner(specification, attribute.nested), wire_type, where)
        elif attribute.type in INTEGER_TYPES:
            return _integer(INTEGER_TYPES[attribute.type], attribute, wire_type, where)
        elif attribute.type == "string":
            encoder, decoder = _string(wire_type, where, self._not_utf_8)
        elif attribute.type == "flag":
            encoder, decoder = _flag(wire_type, where)
        else:
            encoder, decoder = _binary(attribute.sensitive, wire_type, where)
        return encoder, _Decoding(attribute.name, attribute.multi, _NO_SIZE, _HEADER.unpack_from, decoder)

    _not_utf_8 = "strict"

    @staticmethod
    def _inner(specification: Specification, set_name: str) -> AttributeCodec:
        return attribute_codec(specification, set_name)

    def _refused(self, wire_type: int) -> str:
        number = wire_type & NLA_TYPE_MASK
        for known, entry in self._decoders.items():
            if known & NLA_TYPE_MASK == number:
                return f"{self.name}.{entry.name}: the flags 0x{wire_type & ~NLA_TYPE_MASK:04x} are wrong for its type"
        return f"{self.name}: unknown attribute {number}"


class LenientCodec(AttributeCodec):
    """A codec for messages of a kernel that may be newer than the spec, or older than strict nests."""

    def decode(self, data: bytes, start: int = 0) -> Values:
        """Decode the attributes that the spec lists; the last of a repeated one counts.  Raises MessageError."""
        known = {number & NLA_TYPE_MASK: entry for number, entry in self._decoders.items()}
        values: Values = {}
        for number, payload in walk(data[start:]):
            entry = known.get(number)
            if entry is None:
                continue
            value = entry.read(payload)
            if entry.multi:
                values.setdefault(entry.name, []).append(value)
            else:
                values[entry.name] = value
        return values

    _not_utf_8 = "surrogateescape"

    @staticmethod
    def _inner(specification: Specification, set_name: str) -> AttributeCodec:
        return lenient_codec(specification, set_name)


@cache
def attribute_codec(specification: Specification, set_name: str) -> AttributeCodec:
    """Return the strict codec of a set, compiled once for each specification object."""
    return AttributeCodec(specification, set_name)


@cache
def lenient_codec(specification: Specification, set_name: str) -> LenientCodec:
    """Return the lenient codec of a set, compiled once for each specification object."""
    return LenientCodec(specification, set_name)


def walk(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield ``(number, payload)`` of each attribute without a spec, also of arrays, where the numbers are indices.

    Raises MessageError for an attribute that is cut off.
    """
    offset = 0
    while offset + 4 <= len(data):
        length, wire_type = _HEADER.unpack_from(data, offset)
        if length < 4 or offset + length > len(data):
            raise MessageError(f"an attribute of length {length} with {len(data) - offset} bytes left")
        yield wire_type & NLA_TYPE_MASK, data[offset + 4 : offset + length]
        offset += length + (-length & 3)


def attributes_from(data: bytes, lowest: int) -> bytes:
    """Return the attributes with numbers from ``lowest`` on, encoded as they are.

    Raises MessageError for an attribute that is cut off.
    """
    found = []
    offset = 0
    for number, payload in walk(data):
        length = 4 + len(payload)
        if number >= lowest:
            found.append(data[offset : offset + length] + _PADDING[length & 3])
        offset += length + (-length & 3)
    return b"".join(found)


def encoded_nest(number: int, payload: bytes) -> bytes:
    """Encode a nest whose attributes are encoded already.  Raises MessageError if they are too long."""
    if len(payload) > MAX_PAYLOAD:
        raise _too_long(f"nest {number}", len(payload))
    return _HEADER.pack(len(payload) + 4, number | NLA_F_NESTED) + payload


def _too_long(where: str, size: int) -> MessageError:
    return MessageError(f"{where}: {size} bytes are more than an attribute's {MAX_PAYLOAD}")


def _nest(inner: AttributeCodec, wire_type: int, where: str) -> tuple[_Encoder, _Decoder]:
    pack = _HEADER.pack

    def encode(value: Any) -> bytes:
        if type(value) is not dict and not isinstance(value, Mapping):
            raise MessageError(f"{where}: not a mapping")
        payload = inner.encode(value)  # a multiple of 4
        if len(payload) > MAX_PAYLOAD:
            raise _too_long(where, len(payload))
        return pack(len(payload) + 4, wire_type) + payload

    if not inner.is_flat:
        return encode, inner.decode
    remembered = lru_cache(REMEMBERED_NESTS)(inner.decode)

    def decode(data: bytes) -> Values:
        return remembered(data).copy() if len(data) <= REMEMBERED_SIZE else inner.decode(data)

    return encode, decode


def _integer(code: str, attribute: Attribute, wire_type: int, where: str) -> tuple[_Encoder, _Decoding]:
    value_alone = struct.Struct("=" + code)
    size = value_alone.size
    length, pack = 4 + size, struct.Struct(f"=HH{code}{-size & 3}x").pack

    def encode(value: Any) -> bytes:
        try:
            return pack(length, wire_type, value)
        except struct.error:
            shown = value if isinstance(value, int) else f"a value of type {type(value).__name__}"
            raise MessageError(f"{where}: {shown} does not fit") from None

    def read(data: bytes) -> int:
        if len(data) != size:
            raise MessageError(f"{where}: {len(data)} bytes where {size} are wanted")
        value: int = value_alone.unpack(data)[0]
        return value

    return encode, _Decoding(attribute.name, attribute.multi, length, value_alone.unpack_from, read)


def _string(wire_type: int, where: str, not_utf_8: str) -> tuple[_Encoder, _Decoder]:
    pack = _HEADER.pack

    def encode(value: Any) -> bytes:
        if not isinstance(value, str) or "\0" in value:
            raise MessageError(f"{where}: not a text without NUL")
        try:
            payload = value.encode()
        except UnicodeEncodeError:
            raise MessageError(f"{where}: not a text that UTF-8 can hold") from None
        length = len(payload) + 5
        if length > 0xFFFF:
            raise _too_long(where, length - 4)
        return pack(length, wire_type) + payload + _END_OF_TEXT[length & 3]

    def decode(data: bytes) -> str:
        try:
            text = data.decode("utf-8", not_utf_8)
        except UnicodeDecodeError:
            raise MessageError(f"{where}: not UTF-8") from None
        if text.endswith("\0"):
            text = text[:-1]
        if "\0" in text:
            raise MessageError(f"{where}: a NUL within the text")
        return text

    return encode, decode


def _flag(wire_type: int, where: str) -> tuple[_Encoder, _Decoder]:
    framed = _HEADER.pack(4, wire_type)

    def encode(value: Any) -> bytes:
        if value is not True:
            raise MessageError(f"{where}: a flag is True, or left out")
        return framed

    def decode(data: bytes) -> bool:
        if data:
            raise MessageError(f"{where}: a flag with {len(data)} bytes")
        return True

    return encode, decode


def _binary(sensitive: bool, wire_type: int, where: str) -> tuple[_Encoder, _Decoder]:
    pack = _HEADER.pack

    def encode(value: Any) -> bytes:
        if isinstance(value, Secret):
            value = value.reveal()
        elif isinstance(value, (bytearray, memoryview)):
            value = bytes(value)
        elif not isinstance(value, bytes):
            raise MessageError(f"{where}: not bytes")
        length = len(value) + 4
        if length > 0xFFFF:
            raise _too_long(where, length - 4)
        return b"".join((pack(length, wire_type), value, _PADDING[length & 3]))

    return encode, (Secret if sensitive else bytes)
