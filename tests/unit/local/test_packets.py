"""One packet: its largest size, its fds, and what the kernel has cut off."""

from __future__ import annotations

import array
import errno
import os
import socket
from collections.abc import Iterator

import pytest

from hsframework.errors import MessageError
from hsframework.local.packets import MAX_PACKET, receive_packet, send_packet
from tests.unit.local.messages import message

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two ends, of which the first sends packets of any size; no fd is left in the end."""
    before = len(os.listdir("/proc/self/fd"))
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, two:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MAX_PACKET)
        yield one, two
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_longest_packet(pair: Pair) -> None:
    """It is sent and received whole."""
    data = message(bytes(MAX_PACKET - 16))
    send_packet(pair[0], data)
    assert receive_packet(pair[1]) == (data, [])


def test_a_packet_that_is_too_long_is_not_sent(pair: Pair) -> None:
    """By one byte: nothing of it leaves."""
    with pytest.raises(MessageError, match=f"a message of {MAX_PACKET + 1} bytes; at most {MAX_PACKET}"):
        send_packet(pair[0], bytes(MAX_PACKET + 1))
    pair[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        receive_packet(pair[1])


@pytest.mark.parametrize("with_fd", [False, True])
def test_a_packet_that_was_cut_off_is_refused(pair: Pair, with_fd: bool) -> None:
    """By one byte; its fd is closed, by the function that is given for that."""
    fds = [pair[0].fileno()] if with_fd else []
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if with_fd else []
    if pair[0].sendmsg([bytes(MAX_PACKET + 1)], rights) != MAX_PACKET + 1:
        pytest.fail("this kernel does not send packets of that size; lower MAX_PACKET")
    closed: list[int] = []
    with pytest.raises(MessageError, match=f"a message of more than {MAX_PACKET} bytes"):
        receive_packet(pair[1], lambda fd: (closed.append(fd), os.close(fd))[0])  # type: ignore[func-returns-value]
    assert len(closed) == len(fds)


def test_fds_that_were_cut_off_are_refused(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that came are closed; a message without one of its fds is none."""
    monkeypatch.setattr("hsframework.local.packets._CONTROL_SIZE", socket.CMSG_SPACE(4))
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pair[0].fileno()] * 4))]
    pair[0].sendmsg([message(b"x")], rights)
    with pytest.raises(MessageError, match="file descriptors were cut off"):
        receive_packet(pair[1])


def test_fds_come_in_their_order_and_are_not_inherited(pair: Pair) -> None:
    """Each is a new fd of the same file, close-on-exec."""
    send_packet(pair[0], message(b"x"), pair[0].fileno(), pair[1].fileno())
    data, fds = receive_packet(pair[1])
    assert data == message(b"x")
    assert [os.fstat(fd).st_ino for fd in fds] == [os.fstat(sock.fileno()).st_ino for sock in pair]
    assert not any(os.get_inheritable(fd) for fd in fds)
    for fd in fds:
        os.close(fd)


def test_a_peer_that_has_closed(pair: Pair) -> None:
    """Reading gives an empty packet, and sending an error without a signal."""
    pair[1].close()
    with pytest.raises(OSError, match=os.strerror(errno.EPIPE)):
        send_packet(pair[0], message(b"x"))
    assert receive_packet(pair[0]) == (b"", [])
