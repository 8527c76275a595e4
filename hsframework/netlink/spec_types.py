"""Types of a checked netlink spec: the family, its operations and its attribute sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

INTEGER_TYPES: Mapping[str, str] = {
    "u8": "B",
    "s8": "b",
    "u16": "H",
    "s16": "h",
    "u32": "I",
    "s32": "i",
    "u64": "Q",
    "s64": "q",
}
"""Integer attribute types and their struct codes; all in the host's byte order."""

MAX_NESTING = 8
"""Levels of nested attributes."""
NLMSG_MIN_TYPE = 0x10
"""Lowest message type of a family; those below are netlink's own (linux/netlink.h)."""
Protocol = Literal["genetlink", "netlink-raw"]


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a set."""

    name: str
    value: int
    """Number on the wire, 1 to 16383."""
    type: str
    """A key of ``INTEGER_TYPES``, or ``string``, ``binary``, ``flag``, ``nest``."""
    multi: bool = False
    """True if it may be repeated."""
    nested: str | None = None
    """Attribute set of a nest."""
    enum: str | None = None
    """Definition with the names of its values."""
    sensitive: bool = False
    """True if its value is a secret, by NAME.sensitive.yaml beside the spec."""
    doc: str = ""


@dataclass(frozen=True, slots=True)
class AttributeSet:
    """A set of attributes by name; both names and numbers are unique in it."""

    name: str
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a family.

    ``request``, ``reply`` and ``event``: the attributes that are allowed in each form of its message; None: there is no
    such form.  ``admin``: True if the caller needs CAP_NET_ADMIN.
    """

    name: str
    value: int
    attribute_set: str
    request: frozenset[str] | None = None
    reply: frozenset[str] | None = None
    event: frozenset[str] | None = None
    admin: bool = False
    doc: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Specification:
    """The checked spec of one family.  Compared and hashed by identity, so that codecs can be cached by it."""

    name: str
    protocol: Protocol
    protonum: int | None
    doc: str
    sets: Mapping[str, AttributeSet]
    operations: Mapping[str, Operation]
    groups: tuple[str, ...]
    enums: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    group_numbers: Mapping[str, int] = field(default_factory=dict)
    """Numbers of a raw family's multicast groups; those of a generic family are the running kernel's to give."""
