"""Generic netlink by hand, for tests that must not rest on the code that they test.

Attributes are (type, payload) pairs in the order in which they came; a nest's payload is parsed by ``attributes``
again.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

NETLINK_GENERIC = 16
GENL_ID_CTRL = 16
CTRL_CMD_GETFAMILY, CTRL_CMD_GETPOLICY = 3, 10
CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME, CTRL_ATTR_OPS, CTRL_ATTR_MCAST_GROUPS = 1, 2, 6, 7
CTRL_ATTR_POLICY, CTRL_ATTR_OP_POLICY, CTRL_ATTR_OP = 8, 9, 10
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 1, 4, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLA_TYPE_MASK = 0x3FFF
Attributes = list[tuple[int, bytes]]


def attribute(kind: int, payload: bytes) -> bytes:
    """Encode one attribute, padded."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def attributes(data: bytes) -> Attributes:
    """Return the attributes in ``data``; the flags in their types are dropped."""
    found: Attributes = []
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found.append((kind & NLA_TYPE_MASK, data[4:length]))
        data = data[(length + 3) & ~3 :]
    return found


@dataclass(frozen=True, slots=True)
class Family:
    """Family as the kernel describes it.  ``operations``: number → flags."""

    identifier: int
    groups: dict[str, int]
    operations: dict[int, int]


class GenericNetlink:
    """A socket that asks and waits.  Errors are OSErrors with the kernel's number."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_GENERIC)
        self.socket.bind((0, 0))
        self.socket.settimeout(10)
        self._sequence = 0

    def ask(self, family: int, command: int, payload: bytes = b"", *, dump: bool = False) -> list[Attributes]:
        """Return the attributes of each message of the answer."""
        self._sequence += 1
        flags = NLM_F_REQUEST | (NLM_F_DUMP if dump else NLM_F_ACK)
        body = struct.pack("=BBH", command, 1, 0) + payload
        self.socket.send(struct.pack("=IHHII", 16 + len(body), family, flags, self._sequence, 0) + body)
        answers: list[Attributes] = []
        while True:
            for kind, content in self._messages():
                if kind == NLMSG_DONE:
                    return answers
                if kind == NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", content)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return answers
                answers.append(attributes(content[4:]))

    def _messages(self) -> Iterator[tuple[int, bytes]]:
        data = self.socket.recv(1 << 18)
        while data:
            length, kind = struct.unpack_from("=IH", data)
            yield kind, data[16:length]
            data = data[(length + 3) & ~3 :]

    def family(self, name: str) -> Family:
        """Return the family's description.  Raises FileNotFoundError where the kernel has no such family."""
        (answer,) = self.ask(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, attribute(CTRL_ATTR_FAMILY_NAME, name.encode() + b"\0"))
        fields = dict(answer)
        operations = [dict(attributes(nest)) for _, nest in attributes(fields.get(CTRL_ATTR_OPS, b""))]
        groups = [dict(attributes(nest)) for _, nest in attributes(fields.get(CTRL_ATTR_MCAST_GROUPS, b""))]
        return Family(
            identifier=int.from_bytes(fields[CTRL_ATTR_FAMILY_ID][:2], "little"),
            groups={group[1].rstrip(b"\0").decode(): int.from_bytes(group[2], "little") for group in groups},
            operations={_number(operation[1]): _number(operation[2]) for operation in operations},
        )

    def policy(self, family: str) -> dict[int, dict[int, dict[int, bytes]]]:
        """Return the policies by CTRL_CMD_GETPOLICY: policy index → attribute type → the kernel's checks of it."""
        found: dict[int, dict[int, dict[int, bytes]]] = {}
        name = attribute(CTRL_ATTR_FAMILY_NAME, family.encode() + b"\0")
        for answer in self.ask(GENL_ID_CTRL, CTRL_CMD_GETPOLICY, name, dump=True):
            for index, per_attribute in attributes(dict(answer).get(CTRL_ATTR_POLICY, b"")):
                for kind, checks in attributes(per_attribute):
                    found.setdefault(index, {})[kind] = dict(attributes(checks))
        return found

    def operation_policies(self, family: str) -> dict[int, int]:
        """Return for each command the index of the policy of its do request."""
        name = attribute(CTRL_ATTR_FAMILY_NAME, family.encode() + b"\0")
        found: dict[int, int] = {}
        for answer in self.ask(GENL_ID_CTRL, CTRL_CMD_GETPOLICY, name, dump=True):
            for command, indexes in attributes(dict(answer).get(CTRL_ATTR_OP_POLICY, b"")):
                found[command] = _number(dict(attributes(indexes))[1])
        return found

    def __enter__(self) -> GenericNetlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def _number(payload: bytes) -> int:
    return int.from_bytes(payload, "little")


def numbers(found: Sequence[tuple[int, bytes]]) -> dict[int, int]:
    """Return the values of attributes that are all integers."""
    return {kind: _number(payload) for kind, payload in found}
