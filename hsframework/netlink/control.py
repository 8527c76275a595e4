"""Generic netlink's controller: a family's number, its multicast groups, and which attributes its operations take.

What the running kernel accepts is asked of it and never guessed: one attribute that it does not know makes it refuse a
whole request (CTRL_CMD_GETPOLICY, Linux 5.10).
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass

from hsframework.netlink.attributes import lenient_codec, walk
from hsframework.netlink.kernel_codec import KernelCodec
from hsframework.netlink.messages import Message
from hsframework.netlink.socket import NetlinkError, RequestSocket
from hsframework.netlink.spec import Specification, builtin_specification

GENL_ID_CTRL = 16


@dataclass(frozen=True, slots=True)
class Family:
    """A generic netlink family of the running kernel.  ``groups``: numbers by name."""

    name: str
    number: int
    groups: Mapping[str, int]


def _controller() -> KernelCodec:
    return KernelCodec(builtin_specification("nlctrl"), message_type=GENL_ID_CTRL)


def find_family(sock: RequestSocket, name: str) -> Family | None:
    """The family of this name; None: this kernel has none.  Raises NetlinkError.

    A family whose module is not loaded is loaded by the question, where the kernel can and the caller may.
    """
    try:
        answers = sock.request(_controller(), "getfamily", {"family-name": name})
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return _family(answers[0])


def loaded_family(sock: RequestSocket, name: str) -> Family | None:
    """The same, of the families that are there now: no module is loaded, so no program is run.  Raises NetlinkError."""
    for message in sock.dump(_controller(), "getfamily", {}):
        if message.values.get("family-name") == name:
            return _family(message)
    return None


def _family(message: Message) -> Family:
    values = message.values
    codec = lenient_codec(builtin_specification("nlctrl"), "group")
    groups = (codec.decode(payload) for _, payload in walk(values.get("mcast-groups", b"")))
    return Family(values["family-name"], values["family-id"], {group["name"]: group["id"] for group in groups})


def accepted_attributes(
    sock: RequestSocket, family: Family, specification: Specification, operation: str
) -> frozenset[str]:
    """The names of the attributes that an operation's request may hold on this kernel.  Raises NetlinkError.

    A kernel without CTRL_CMD_GETPOLICY is taken at the spec's word.
    """
    wanted = specification.operations[operation]
    known = specification.sets[wanted.attribute_set].attributes.values()
    try:
        numbers = _policy(sock, family, wanted.value)
    except NetlinkError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        return wanted.request or frozenset()
    return frozenset(attribute.name for attribute in known if attribute.value in numbers)


def _policy(sock: RequestSocket, family: Family, operation: int) -> frozenset[int]:
    codec = lenient_codec(builtin_specification("nlctrl"), "op-policy")
    policies: dict[int, set[int]] = {}
    number: int | None = None
    for message in sock.dump(_controller(), "getpolicy", {"family-id": family.number, "op": operation}):
        for item, payload in walk(message.values.get("op-policy", b"")):
            if item == operation:
                forms = codec.decode(payload)
                number = forms.get("do", forms.get("dump"))
        for policy, payload in walk(message.values.get("policy", b"")):
            policies.setdefault(policy, set()).update(attribute for attribute, _ in walk(payload))
    return frozenset() if number is None else frozenset(policies.get(number, ()))
