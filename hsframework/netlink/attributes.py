"""Attribute sets to bytes and back, by a spec.

Strict both ways, as the kernel is for a family without ``GENL_DONT_VALIDATE_STRICT``: an attribute that the set does
not list, a length that its type does not have, a nest without ``NLA_F_NESTED``, padding that is cut off, an attribute
twice that is not ``multi-attr``: :class:`hsframework.errors.MessageError`, with the attribute's name.

A *lenient* codec is for what a kernel sends, which may be newer than the spec, or older than strict nests: it passes
over what it does not know, does not look at flags, and takes strings that are not UTF-8 (as surrogate escapes), which
it would not send.

Values in Python: integers ``int``, strings ``str`` (NUL-terminated on the wire), binary ``bytes`` (or ``Secret``),
flags ``True``, nests ``dict``; a ``multi-attr`` attribute is a list of these.  An attribute is at most 65,531 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from hsframework.errors import MessageError
from hsframework.interface import Secret
from hsframework.netlink.spec import INTEGER_TYPES, Attribute, Specification

NLA_F_NESTED = 0x8000
NLA_F_NET_BYTEORDER = 0x4000
NLA_TYPE_MASK = 0x3FFF
MAX_PAYLOAD = 0xFFFF - 4

_HEADER = struct.Struct("=HH")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")

Values = dict[str, Any]
_Encoder = Callable[[Any], bytes]
_Decoder = Callable[[bytes], Any]


class AttributeCodec:
    """One attribute set of one spec, compiled."""

    def __init__(self, specification: Specification, set_name: str) -> None:
        self.name = f"{specification.name}.{set_name}"
        self._encoders: dict[str, tuple[_Encoder, bool]] = {}
        self._decoders: dict[int, tuple[str, _Decoder, bool]] = {}
        for attribute in specification.sets[set_name].attributes.values():
            encoder, decoder = self._functions(specification, attribute, f"{self.name}.{attribute.name}")
            wire_type = attribute.value | (NLA_F_NESTED if attribute.nested else 0)
            self._encoders[attribute.name] = (
                _framed(encoder, wire_type, f"{self.name}.{attribute.name}"),
                attribute.multi,
            )
            self._decoders[wire_type] = (attribute.name, decoder, attribute.multi)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the set's attributes."""
        return tuple(self._encoders)

    def encode(self, values: Mapping[str, Any]) -> bytes:
        """The attributes in the order of ``values``; a value of None is left out.  Raises MessageError."""
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

    def decode(self, data: bytes) -> Values:
        """All of ``data``.  Raises MessageError."""
        values: Values = {}
        decoders = self._decoders
        offset, end = 0, len(data)
        while offset < end:
            if end - offset < 4:
                raise MessageError(f"{self.name}: {end - offset} bytes left over, too few for an attribute")
            length, wire_type = _HEADER.unpack_from(data, offset)
            if length < 4 or offset + length > end:
                raise MessageError(f"{self.name}: an attribute of length {length} with {end - offset} bytes left")
            entry = decoders.get(wire_type)
            if entry is None:
                raise MessageError(self._refused(wire_type))
            name, decoder, multi = entry
            value = decoder(data[offset + 4 : offset + length])
            if multi:
                values.setdefault(name, []).append(value)
            elif name in values:
                raise MessageError(f"{self.name}.{name}: the attribute is there twice")
            else:
                values[name] = value
            offset += length + (-length & 3)
        if offset > end:
            raise MessageError(f"{self.name}: the last attribute's padding is missing")
        return values

    def _functions(self, specification: Specification, attribute: Attribute, where: str) -> tuple[_Encoder, _Decoder]:
        if attribute.nested is not None:
            return _nest(attribute_codec(specification, attribute.nested), where)
        return _scalar(attribute, where)

    def _refused(self, wire_type: int) -> str:
        number = wire_type & NLA_TYPE_MASK
        for known, (name, _, _) in self._decoders.items():
            if known & NLA_TYPE_MASK == number:
                return f"{self.name}.{name}: the flags 0x{wire_type & ~NLA_TYPE_MASK:04x} are wrong for its type"
        return f"{self.name}: unknown attribute {number}"


class LenientCodec(AttributeCodec):
    """For what a kernel sends: newer than the spec, or older than strict nests."""

    def decode(self, data: bytes) -> Values:
        """What the spec knows of ``data``; of an attribute that comes twice, the last.  Raises MessageError."""
        known = {number & NLA_TYPE_MASK: entry for number, entry in self._decoders.items()}
        values: Values = {}
        for number, payload in walk(data):
            if number not in known:
                continue
            name, decoder, multi = known[number]
            if multi:
                values.setdefault(name, []).append(decoder(payload))
            else:
                values[name] = decoder(payload)
        return values

    def _functions(self, specification: Specification, attribute: Attribute, where: str) -> tuple[_Encoder, _Decoder]:
        if attribute.nested is not None:
            return _nest(lenient_codec(specification, attribute.nested), where)
        return _scalar(attribute, where, "surrogateescape")


@cache
def attribute_codec(specification: Specification, set_name: str) -> AttributeCodec:
    """The codec of a set, built once for a specification object."""
    return AttributeCodec(specification, set_name)


@cache
def lenient_codec(specification: Specification, set_name: str) -> LenientCodec:
    """The lenient codec of a set, built once for a specification object."""
    return LenientCodec(specification, set_name)


def walk(data: bytes) -> Iterator[tuple[int, bytes]]:
    """``(number, payload)`` of each attribute, whatever it is: for arrays, whose numbers are indices.

    Raises MessageError for what is cut off.
    """
    offset = 0
    while offset + 4 <= len(data):
        length, wire_type = _HEADER.unpack_from(data, offset)
        if length < 4 or offset + length > len(data):
            raise MessageError(f"an attribute of length {length} with {len(data) - offset} bytes left")
        yield wire_type & NLA_TYPE_MASK, data[offset + 4 : offset + length]
        offset += length + (-length & 3)


def _framed(encoder: _Encoder, wire_type: int, where: str) -> _Encoder:
    pack = _HEADER.pack

    def framed(value: Any) -> bytes:
        payload = encoder(value)
        length = len(payload) + 4
        if length > 0xFFFF:
            raise MessageError(f"{where}: {len(payload)} bytes are more than an attribute's {MAX_PAYLOAD}")
        return pack(length, wire_type) + payload + _PADDING[length & 3]

    return framed


def _scalar(attribute: Attribute, where: str, not_utf_8: str = "strict") -> tuple[_Encoder, _Decoder]:
    if attribute.type in INTEGER_TYPES:
        return _integer(INTEGER_TYPES[attribute.type], where)
    if attribute.type == "string":
        return _string(where, not_utf_8)
    if attribute.type == "flag":
        return _flag(where)
    return _binary(attribute.sensitive, where)


def _nest(inner: AttributeCodec, where: str) -> tuple[_Encoder, _Decoder]:
    def encode(value: Any) -> bytes:
        if not isinstance(value, Mapping):
            raise MessageError(f"{where}: not a mapping")
        return inner.encode(value)

    return encode, inner.decode


def _integer(code: str, where: str) -> tuple[_Encoder, _Decoder]:
    layout = struct.Struct("=" + code)

    def encode(value: Any) -> bytes:
        try:
            return layout.pack(value)
        except struct.error:
            shown = value if isinstance(value, int) else f"a value of type {type(value).__name__}"
            raise MessageError(f"{where}: {shown} does not fit") from None

    def decode(data: bytes) -> int:
        if len(data) != layout.size:
            raise MessageError(f"{where}: {len(data)} bytes where {layout.size} are wanted")
        value: int = layout.unpack(data)[0]
        return value

    return encode, decode


def _string(where: str, not_utf_8: str) -> tuple[_Encoder, _Decoder]:
    def encode(value: Any) -> bytes:
        if not isinstance(value, str) or "\0" in value:
            raise MessageError(f"{where}: not a text without NUL")
        try:
            return value.encode() + b"\0"
        except UnicodeEncodeError:
            raise MessageError(f"{where}: not a text that UTF-8 can hold") from None

    def decode(data: bytes) -> str:
        if data[-1:] == b"\0":
            data = data[:-1]
        if b"\0" in data:
            raise MessageError(f"{where}: a NUL within the text")
        try:
            return data.decode(errors=not_utf_8)
        except UnicodeDecodeError:
            raise MessageError(f"{where}: not UTF-8") from None

    return encode, decode


def _flag(where: str) -> tuple[_Encoder, _Decoder]:
    def encode(value: Any) -> bytes:
        if value is not True:
            raise MessageError(f"{where}: a flag is True, or left out")
        return b""

    def decode(data: bytes) -> bool:
        if data:
            raise MessageError(f"{where}: a flag with {len(data)} bytes")
        return True

    return encode, decode


def _binary(sensitive: bool, where: str) -> tuple[_Encoder, _Decoder]:
    def encode(value: Any) -> bytes:
        if isinstance(value, Secret):
            return value.reveal()
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise MessageError(f"{where}: not bytes")
        return bytes(value)

    return encode, (Secret if sensitive else bytes)
