"""Codec for messages to and from the kernel, on pyroute2 classes that are built from the spec.

Only pyroute2's codec is used: its sockets run an event loop of their own, and do not survive an overrun.  Unknown
attributes are ignored, because the kernel may be newer than the spec.  Our own codec
(:mod:`hsframework.netlink.messages`) is strict and faster, for messages of untrusted processes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from hsframework.errors import MessageError
from hsframework.netlink.messages import NLMSG_ERROR, Message, decode_error, sequence_of, type_of
from hsframework.netlink.pyroute2_classes import message, message_class, values as values_of
from hsframework.netlink.pyroute2_codec import NetlinkDecodeError
from hsframework.netlink.spec import Operation, Specification

_GENERIC_COMMAND = 16
"""Offset of the command in a message of generic netlink."""


class KernelCodec:
    """A codec for one family.  ``message_type``: the number of a generic netlink family."""

    def __init__(self, specification: Specification, *, message_type: int = 0) -> None:
        self.specification = specification
        self._generic = specification.protocol == "genetlink"
        self._type = message_type
        self._operations = {operation.value: operation for operation in specification.operations.values()}

    def encode(self, operation: str, values: Mapping[str, Any], *, sequence: int = 0, flags: int = 0) -> bytes:
        """Encode one message.  Raises MessageError for an operation or a value that the spec does not allow."""
        if operation not in self.specification.operations:
            raise MessageError(f"{self.specification.name}: there is no operation {operation!r}")
        made = message(self.specification, operation, values)
        made["header"].update(flags=flags, sequence_number=sequence)
        if self._generic:
            made["header"]["type"] = self._type
        try:
            made.encode()
        except struct.error:
            raise MessageError(f"{self.specification.name}.{operation}: a number does not fit") from None
        return bytes(made.data)

    def decode(self, data: bytes) -> Message:
        """Decode one whole message.  Raises MessageError."""
        if type_of(data) == NLMSG_ERROR:
            return decode_error(data)
        operation = self._operation(data)
        set_name = operation.attribute_set
        try:
            decoded = message_class(self.specification, set_name)(data)
            decoded.decode()
            values = values_of(self.specification, set_name, decoded, pass_over_unknown=True)
        except (NetlinkDecodeError, struct.error) as error:
            raise MessageError(f"{self.specification.name}.{operation.name}: {error}") from None
        header = decoded["header"]
        return Message(operation.name, values, sequence_of(data), header["flags"], header["pid"])

    def _operation(self, data: bytes) -> Operation:
        kind = type_of(data)
        if self._generic and (kind != self._type or len(data) <= _GENERIC_COMMAND):
            raise MessageError(f"type {kind}, {len(data)} bytes: not a message of family {self.specification.name}")
        number = data[_GENERIC_COMMAND] if self._generic else kind
        if number not in self._operations:
            raise MessageError(f"{self.specification.name}: there is no operation {number}")
        return self._operations[number]
