"""Codec for whole messages of a family: netlink header, generic netlink header, attributes; and for errors.

::

    nlmsghdr     u32 length, u16 type, u16 flags, u32 sequence number, u32 port      (RFC 3549 section 2.3.2)
    genlmsghdr   u8 command, u8 version, u16 0                                       (generic netlink families only)
    attributes

The kernel assigns the message type of a generic netlink family, so it is an argument of the codec; the command is the
operation's number.  The message type of a raw family is the operation's number.  An error is NLMSG_ERROR: s32 errno
(negative; 0 acknowledges), the header of the message that it answers, then optionally NLMSGERR_ATTR_MSG with a text.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any, Literal

from hsframework.errors import MessageError
from hsframework.netlink.attributes import AttributeCodec, Values, attribute_codec
from hsframework.netlink.spec import Specification

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x001
NLM_F_ACK = 0x004
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
NLMSGERR_ATTR_MSG = 1

Form = Literal["request", "reply", "event"]
"""Form of an operation's message: sent to the service, sent back by it, or sent by it unasked."""

_HEADER = struct.Struct("=IHHII")
_GENERIC = struct.Struct("=IHHIIBBH")
_ERROR = struct.Struct("=i")
_ATTRIBUTE = struct.Struct("=HH")


@dataclass(slots=True)
class Message:
    """A decoded message."""

    operation: str
    values: Values
    sequence: int
    flags: int = 0
    port: int = 0
    error: int | None = None
    """Positive errno of an error, 0 for an acknowledgement, None for any other message."""
    data: bytes = field(default=b"", repr=False, compare=False)
    """The undecoded message; empty for an error, and for one from the kernel."""

    def wanted(self, name: str) -> Any:
        """Return a value that the message must have.  Raises MessageError if it has none."""
        value = self.values.get(name)
        if value is None:
            raise MessageError(f"{self.operation}: {name} is missing")
        return value


class MessageCodec:
    """A strict codec for one family.

    ``message_type``: the number of a generic netlink family.  ``receives``: the forms of messages that this side
    receives: requests for the service, replies and events for an agent or a consumer.  An operation may have several.
    """

    def __init__(
        self,
        specification: Specification,
        *,
        message_type: int = 0,
        receives: tuple[Form, ...] = ("reply", "event"),
    ) -> None:
        self.specification = specification
        self._generic = specification.protocol == "genetlink"
        self._body = 20 if self._generic else 16
        self._type = message_type
        self._out: dict[str, tuple[int, AttributeCodec]] = {}
        self._in: dict[int, tuple[str, AttributeCodec, frozenset[str]]] = {}
        for operation in specification.operations.values():
            codec = attribute_codec(specification, operation.attribute_set)
            self._out[operation.name] = (operation.value, codec)
            allowed: frozenset[str] = frozenset()
            known = False
            for form in receives:
                names: frozenset[str] | None = getattr(operation, form)
                if names is not None:
                    allowed, known = allowed | names, True
            if known:
                self._in[operation.value] = (operation.name, codec, allowed)

    def encode(
        self,
        operation: str,
        values: Mapping[str, Any],
        *,
        sequence: int = 0,
        flags: int = 0,
        port: int = 0,
        encoded: bytes = b"",
    ) -> bytes:
        """Encode one message; ``encoded``: further attributes, already encoded.

        Raises MessageError for an unknown operation, and for values that its attribute set does not allow.
        """
        entry = self._out.get(operation)
        if entry is None:
            raise MessageError(f"{self.specification.name}: there is no operation {operation!r}")
        number, codec = entry
        attributes = codec.encode(values)
        if encoded:
            attributes += encoded
        try:
            if self._generic:
                return _GENERIC.pack(20 + len(attributes), self._type, flags, sequence, port, number, 1, 0) + attributes
            return _HEADER.pack(16 + len(attributes), number, flags, sequence, port) + attributes
        except struct.error:
            raise MessageError(f"flags {flags}, sequence {sequence} or port {port} do not fit into a header") from None

    def decode(self, data: bytes) -> Message:
        """Decode ``data`` as exactly one message.  Raises MessageError."""
        if len(data) < 16:
            raise MessageError(f"a message of {len(data)} bytes: its header alone has 16")
        length, kind, flags, sequence, port = _HEADER.unpack_from(data)
        if length != len(data):
            raise MessageError(f"a message says that it has {length} bytes and has {len(data)}")
        if kind == NLMSG_ERROR:
            return decode_error(data)
        number = kind
        if self._generic:
            if kind != self._type or length < 20:
                raise MessageError(f"type {kind}, {length} bytes: not a message of family {self.specification.name}")
            number = data[16]
            if data[18] or data[19]:
                raise MessageError(f"{self.specification.name}: the reserved half of the generic header is not 0")
        entry = self._in.get(number)
        if entry is None:
            raise MessageError(f"{self.specification.name}: operation {number} is not one that is sent to this side")
        name, codec, allowed = entry
        values = codec.decode(data, self._body)
        if not allowed.issuperset(values):
            surplus = ", ".join(sorted(set(values) - allowed))
            raise MessageError(f"{self.specification.name}.{name}: not allowed in this message: {surplus}")
        return Message(name, values, sequence, flags, port, None, data)

    def without_first(self, message: Message, name: str) -> bytes:
        """Return the encoded attributes of a decoded message without the first, which must be ``name``.

        They can be passed on as ``encoded``.  b"" if the first attribute is another one.
        """
        first, end = self._out[message.operation][1].first(message.data, self._body)
        return message.data[end:] if first == name else b""


def split(data: bytes) -> Iterator[bytes]:
    """Yield the messages of one datagram of the kernel.  Raises MessageError for one that is cut off."""
    offset = 0
    while offset < len(data):
        if len(data) - offset < 16:
            raise MessageError(f"{len(data) - offset} bytes left over, too few for a message")
        length = _HEADER.unpack_from(data, offset)[0]
        if length < 16 or offset + length > len(data):
            raise MessageError(f"a message of length {length} with {len(data) - offset} bytes left")
        yield data[offset : offset + length]
        offset += length + (-length & 3)


def type_of(data: bytes) -> int:
    """Return ``nlmsg_type`` of a message with a whole header."""
    return int.from_bytes(data[4:6], sys.byteorder)


def sequence_of(data: bytes) -> int:
    """Return the sequence number of an encoded message; 0 if it is too short to have one."""
    return int.from_bytes(data[8:12], sys.byteorder)


def sequence_numbers(most: int = 0xFFFFFFFF) -> Iterator[int]:
    """Return the numbers 1 to ``most``, over and over.  0 is the number of a message that is not answered."""
    return chain.from_iterable(repeat(range(1, most + 1)))


def with_sequence(data: bytes, sequence: int) -> bytes:
    """Return an encoded message with another sequence number."""
    return data[:8] + sequence.to_bytes(4, sys.byteorder) + data[12:]


def with_acknowledgement(data: bytes, sequence: int) -> bytes:
    """Return an encoded message with another sequence number and NLM_F_ACK: a success is answered, too."""
    flags = int.from_bytes(data[6:8], sys.byteorder) | NLM_F_ACK
    return data[:6] + flags.to_bytes(2, sys.byteorder) + sequence.to_bytes(4, sys.byteorder) + data[12:]


def without_sequence(data: bytes) -> bytes:
    """Return an encoded message without its sequence number: equal for messages that differ in it only."""
    return data[:8] + data[12:]


def framed(kind: int, body: bytes, *, sequence: int, flags: int) -> bytes:
    """Return a message of a family without a spec: the netlink header, and its body behind it."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body


def body_of(data: bytes, kind: int, least: int, service: str) -> bytes:
    """Return the body of an answer of a family without a spec.

    Raises MessageError for one of another type, or with fewer bytes than ``least``.  ``service``: for its text.
    """
    if type_of(data) != kind or len(data) < _HEADER.size + least:
        raise MessageError(f"{service} answers with type {type_of(data)} and {len(data)} bytes")
    return data[_HEADER.size :]


def encode_error(number: int, sequence: int, text: str = "") -> bytes:
    """Encode the error that answers the request with this sequence number.

    ``number``: a positive errno, or 0 to acknowledge.  ``text``: for people, at most 1024 bytes of it.
    """
    payload = _ERROR.pack(-number) + _HEADER.pack(16, 0, 0, sequence, 0)
    flags = NLM_F_CAPPED
    if text:
        message = text.encode(errors="replace")[:1024] + b"\0"
        size = 4 + len(message)
        payload += _ATTRIBUTE.pack(size, NLMSGERR_ATTR_MSG) + message + b"\0" * (-size & 3)
        flags |= NLM_F_ACK_TLVS
    return framed(NLMSG_ERROR, payload, sequence=sequence, flags=flags)


def decode_error(data: bytes) -> Message:
    """Decode a whole NLMSG_ERROR of any family.  Raises MessageError."""
    if len(data) < 36:
        raise MessageError(f"an error message of {len(data)} bytes is cut off")
    _, _, flags, sequence, port = _HEADER.unpack_from(data)
    number = -_ERROR.unpack_from(data, 16)[0]
    if not 0 <= number <= 4095:
        raise MessageError(f"an error message with the errno {number}")
    echoed = 20 + (16 if flags & NLM_F_CAPPED else max(16, _HEADER.unpack_from(data, 20)[0]))
    values: Values = {}
    if flags & NLM_F_ACK_TLVS:
        values.update(_extended_acknowledgement(data[echoed + (-echoed & 3) :]))
    return Message("error", values, sequence, flags, port, error=number)


def _extended_acknowledgement(data: bytes) -> Values:
    """Decode the text of an extended acknowledgement; other attributes, which the kernel may add, are ignored."""
    values: Values = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > len(data):
            raise MessageError("an extended acknowledgement is cut off")
        if kind == NLMSGERR_ATTR_MSG:
            values["message"] = data[offset + 4 : offset + length].rstrip(b"\0").decode(errors="replace")
        offset += length + (-length & 3)
    return values
