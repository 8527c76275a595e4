"""The netlink spec of a protocol as data; :mod:`hsframework.netlink.spec` reads it from YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a set."""

    name: str
    """Unique in its set."""
    value: int
    """Number on the wire, 1 to 16383; unique in its set."""
    type: str
    """``u8`` to ``u64``, ``s8`` to ``s64``, ``string``, ``binary``, ``flag`` or ``nest``."""
    multi: bool = False
    """True if a message may have it several times."""
    nested: str | None = None
    """Name of the set within a ``nest``."""
    enum: str | None = None
    """Name of the definition that lists its values."""
    sensitive: bool = False
    """True if its value is key material, which the codec hands out as a :class:`~hsframework.interface.Secret`."""
    doc: str = ""
    """Its text in the YAML file."""


@dataclass(frozen=True, slots=True)
class AttributeSet:
    """The attributes of a message or of a nest."""

    name: str
    """Unique in the family."""
    attributes: Mapping[str, Attribute]
    """The attributes by name, in the order of the file."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a family, with the attributes that are allowed in each form of its message."""

    name: str
    """Unique in the family."""
    value: int
    """Number on the wire: 1 to 255 in generic netlink, else ``nlmsg_type``, 16 to 65535."""
    attribute_set: str
    """Name of the set that its attributes are of."""
    request: frozenset[str] | None = None
    """Names of the attributes of the request; None: there is no such form, here and below."""
    reply: frozenset[str] | None = None
    """Names of the attributes of the reply."""
    event: frozenset[str] | None = None
    """Names of the attributes of the message to a multicast group."""
    admin: bool = False
    """True if it needs CAP_NET_ADMIN (the flag ``admin-perm``)."""
    doc: str = ""
    """Its text in the YAML file."""


@dataclass(frozen=True, slots=True, eq=False)
class Specification:
    """One family, checked.  Compared and hashed by identity, so that a cache of codecs can use it as a key."""

    name: str
    """Name of the family."""
    protocol: Literal["genetlink", "netlink-raw"]
    """Generic netlink, or a netlink family of its own."""
    protonum: int | None
    """Number of a netlink family of its own."""
    doc: str
    """Its text in the YAML file."""
    sets: Mapping[str, AttributeSet]
    """The attribute sets by name."""
    operations: Mapping[str, Operation]
    """The operations by name."""
    groups: tuple[str, ...]
    """Names of the multicast groups."""
    enums: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """The definitions by name, each with its values by name."""
    group_numbers: Mapping[str, int] = field(default_factory=dict)
    """Numbers of a raw family's multicast groups by name; the running kernel gives those of a generic family."""
