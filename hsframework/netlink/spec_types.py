"""Numbers of netlink that a spec is checked by."""

from __future__ import annotations

from collections.abc import Mapping

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
