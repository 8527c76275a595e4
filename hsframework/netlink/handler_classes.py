"""Handler classes of the kernel's ``handshake`` family, as the running kernel names them.

The kernel has an array of multicast groups, by handler class (``handshake_nl_mcgrps``, net/handshake/netlink.c), and
generic netlink numbers the groups of a family consecutively, in the order of their array.  So the handler class of a
group is its distance from the first group.
"""

from __future__ import annotations

from hsframework.netlink.control import Family

NO_CLASS = 0
"""A handler class of which there are no requests."""


def handler_classes(family: Family) -> dict[str, int]:
    """Return the handler class of each group that has requests, by the group's name."""
    first = min(family.groups.values(), default=0)
    return {group: number - first for group, number in family.groups.items() if number - first != NO_CLASS}
