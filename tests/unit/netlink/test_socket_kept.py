"""A notification socket that another process has opened: its memberships live on."""

from __future__ import annotations

import os
import socket

import pytest

from hsframework.netlink.socket import NETLINK_GENERIC, NetlinkError, NotificationSocket

NOTIFY = 16
"""The group ``notify`` of generic netlink's controller, which anybody may join."""


def test_memberships_live_on() -> None:
    """The successor goes on with the socket, and is a member without joining."""
    first = NotificationSocket(NETLINK_GENERIC)
    first.join(NOTIFY)
    copy = os.dup(first.fileno())
    first.close()
    second = NotificationSocket.adopt(copy, NETLINK_GENERIC)
    assert second.memberships() == {NOTIFY}
    second.leave(NOTIFY)
    assert second.memberships() == frozenset()
    second.close()


def test_another_kind_of_socket() -> None:
    """One of another family, or none at all, is refused and closed."""
    for made in (socket.socket(), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)):
        fd = made.detach()
        with pytest.raises(NetlinkError, match="is none of netlink family"):
            NotificationSocket.adopt(fd, NETLINK_GENERIC)
        with pytest.raises(OSError):
            os.fstat(fd)
