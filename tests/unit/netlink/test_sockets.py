"""Netlink sockets receive from the kernel alone: tried in NETLINK_USERSOCK, in which anybody may send to anybody."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

import pytest

from hsframework.netlink import socket as netlink
from hsframework.netlink.socket import NetlinkError, NotificationSocket, RequestSocket

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


class Queue:
    """A socket with datagrams of the kernel's and failures, played."""

    def __init__(self, *answers: bytes | OSError) -> None:
        self.answers = list(answers)

    def recvfrom(self, size: int) -> tuple[bytes, tuple[int, int]]:
        if not self.answers:
            raise BlockingIOError
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer, (0, 0)


def test_each_notification_is_returned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, also behind an overrun, up to the first moment at which none waits."""
    made = NotificationSocket(USERSOCK)
    try:
        second = struct.pack("=IHHII", 16, 0x21, 0, 2, 0)
        overrun = OSError(errno.ENOBUFS, "overrun")
        with monkeypatch.context() as patched:
            patched.setattr(made, "_socket", Queue())
            assert made.drain() == []
            patched.setattr(made, "_socket", Queue(MESSAGE, overrun, second))
            assert made.drain() == [MESSAGE, second]
            patched.setattr(made, "_socket", Queue(OSError(errno.EBADF, "gone")))
            with pytest.raises(NetlinkError, match="notifications: EBADF"):
                made.drain()
    finally:
        made.close()


def test_families_that_the_kernel_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generic netlink is there on every kernel, and number 99 on none; without /proc no family is."""
    assert netlink.has_family(16)
    assert not netlink.has_family(99)

    def unreadable(*_: object, **__: object) -> None:
        raise OSError(errno.EACCES, "no")

    monkeypatch.setattr("builtins.open", unreadable)
    assert not netlink.has_family(16)


def test_answers_to_one_side_do_not_quote_the_request() -> None:
    """An acknowledgement is short, and an error explains itself, as the options of the socket say."""
    with netlink.open_netlink(16) as made:
        for option in (10, 11):
            assert made.getsockopt(270, option) == 1


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
