"""Netlink sockets hear the kernel alone: tried in NETLINK_USERSOCK, in which anybody may send anything to anybody."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from hsframework.netlink import socket as netlink
from hsframework.netlink.socket import NotificationSocket, RequestSocket

USERSOCK = 2
GROUP = 1
MESSAGE = struct.pack("=IHHII", 16, 0x20, 0, 1, 0)


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, USERSOCK) as made:
        made.bind((0, 0))
        yield made


def port_of(made: RequestSocket | NotificationSocket) -> int:
    port: int = made._socket.getsockname()[0]
    return port


@pytest.mark.parametrize("kind", [RequestSocket, NotificationSocket])
def test_nobody_answers_in_the_kernels_place(
    kind: type[RequestSocket] | type[NotificationSocket], stranger: socket.socket
) -> None:
    """A message of another socket's is refused to its sender, and takes no room."""
    made = kind(USERSOCK)
    try:
        with pytest.raises(ConnectionRefusedError):
            stranger.sendto(MESSAGE, (port_of(made), 0))
    finally:
        made.close()


def test_announcements_of_others(stranger: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Announcements of a stranger are passed over, nonsense too; and no flood of them holds the reader up."""
    monkeypatch.setattr(netlink, "_NOTIFICATIONS_AT_ONCE", 3)
    made = NotificationSocket(USERSOCK)
    try:
        made.join(GROUP)
        for data in (MESSAGE, b"nonsense", MESSAGE, MESSAGE):
            # It goes to the group, and then to the kernel, which takes nothing in this family.
            with pytest.raises(ConnectionRefusedError):
                stranger.sendto(data, (0, 1 << GROUP - 1))
        assert made.drain() == []
        assert made._socket.recv(100) == MESSAGE
    finally:
        made.close()
