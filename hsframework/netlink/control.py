"""Generic netlink's controller: a family's number, its multicast groups, and the attributes of its operations.

The kernel refuses a whole request for one attribute that it does not know, so the attributes that it accepts are read
from the kernel itself (CTRL_CMD_GETPOLICY, Linux 5.10).
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
"""Message type of the controller, the only fixed one of generic netlink (linux/genetlink.h)."""


@dataclass(frozen=True, slots=True)
class Family:
    """A generic netlink family of the running kernel."""

    name: str
    number: int
    """Type of the family's messages."""
    groups: Mapping[str, int]
    """Numbers of its multicast groups, by name."""


def _controller() -> KernelCodec:
    return KernelCodec(builtin_specification("nlctrl"), message_type=GENL_ID_CTRL)


def find_family(sock: RequestSocket, name: str) -> Family | None:
    """Return the family of this name, or None if the kernel has none.  Raises NetlinkError.

    The kernel loads the family's module for this, if it has one and the caller may.
    """
    try:
        answers = sock.request(_controller(), "getfamily", {"family-name": name})
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return _family(answers[0])


def loaded_family(sock: RequestSocket, name: str) -> Family | None:
    """Return the family of this name, or None if it is not loaded.  Raises NetlinkError.

    No module is loaded, and so no program is run.
    """
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
    """Return the names of the attributes that this kernel accepts in an operation's request.  Raises NetlinkError.

    For a kernel without CTRL_CMD_GETPOLICY they are those that the spec lists.
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
