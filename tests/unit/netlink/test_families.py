"""Families of the running kernel: asked for by name, and looked for among those that are there."""

from __future__ import annotations

from hsframework.netlink.control import GENL_ID_CTRL, find_family, loaded_family
from hsframework.netlink.socket import NETLINK_GENERIC, RequestSocket


def test_both_ways_give_the_same() -> None:
    """The controller, which every kernel has; and none of a name that no kernel has."""
    sock = RequestSocket(NETLINK_GENERIC)
    try:
        found = loaded_family(sock, "nlctrl")
        assert found is not None
        assert found.number == GENL_ID_CTRL
        assert "notify" in found.groups
        assert found == find_family(sock, "nlctrl")
        assert loaded_family(sock, "no-such-family") is None
    finally:
        sock.close()
