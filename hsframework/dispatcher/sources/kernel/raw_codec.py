"""Codec for the messages of the raw-netlink form.  It leaves nests encoded, because their contents have dialects.

Unknown attributes are ignored, because the module may be newer than the spec.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hsframework.errors import MessageError
from hsframework.netlink.attributes import encoded_nest, lenient_codec
from hsframework.netlink.messages import NLMSG_ERROR, Message, MessageCodec, decode_error, sequence_of, type_of
from hsframework.netlink.spec import Attribute, Specification

_SET = "message"
_HEADER_SIZE = 16


class RawCodec:
    """A codec for :class:`~hsframework.netlink.socket.RequestSocket`.  The value of a nest is its encoded attributes.

    ``specification``: of a raw family whose messages have the attribute set ``message``.
    """

    def __init__(self, specification: Specification) -> None:
        attributes = specification.sets[_SET].attributes
        self._name = specification.name
        self._codec = MessageCodec(specification)
        self._operations = {operation.value: operation.name for operation in specification.operations.values()}
        self._nests = {name: attribute.value for name, attribute in attributes.items() if attribute.nested}
        plain = {name: _as_bytes(attribute) for name, attribute in attributes.items()}
        open_set = replace(specification.sets[_SET], attributes=plain)
        self._attributes = lenient_codec(replace(specification, sets={_SET: open_set}), _SET)

    def encode(self, operation: str, values: Mapping[str, Any], *, sequence: int = 0, flags: int = 0) -> bytes:
        """Encode one message.  Raises MessageError for an operation or a value that the spec does not allow."""
        plain = {name: value for name, value in values.items() if name not in self._nests}
        nests = b"".join(
            encoded_nest(self._nests[name], value) for name, value in values.items() if name in self._nests
        )
        return self._codec.encode(operation, plain, sequence=sequence, flags=flags, encoded=nests)

    def decode(self, data: bytes) -> Message:
        """Decode one whole message.  Raises MessageError."""
        kind = type_of(data)
        if kind == NLMSG_ERROR:
            return decode_error(data)
        if kind not in self._operations:
            raise MessageError(f"{self._name}: there is no operation {kind}")
        return Message(self._operations[kind], self._attributes.decode(data, _HEADER_SIZE), sequence_of(data))


def _as_bytes(attribute: Attribute) -> Attribute:
    return replace(attribute, type="binary", nested=None) if attribute.nested else attribute
