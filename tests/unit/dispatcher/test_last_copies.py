"""Closing what users sent never holds up the dispatcher: the last close of a socket with SO_LINGER blocks."""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
import threading
from collections.abc import Callable

import pytest

from hsframework.dispatcher.custody import Closer, Custody
from hsframework.dispatcher.policy import Policy
from hsframework.errors import RequestRefused
from hsframework.local.channel import AsyncChannel
from tests.support.house import REQUEST, codec, connected_pair, house
from tests.support.lingering import lingering

GARBAGE = b"x" * 40


def one_fd(sock: socket.socket, fd: int) -> None:
    sock.sendmsg([GARBAGE], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])


def many_fds(sock: socket.socket, fd: int) -> None:
    sock.sendmsg([GARBAGE], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd] * 253))])


def unread_behind_an_error(sock: socket.socket, fd: int) -> None:
    with open(os.devnull, "rb") as file:
        many_fds(sock, file.fileno())
        one_fd(sock, fd)


def submit(sock: socket.socket, fd: int) -> None:
    data = codec.encode("submit", REQUEST, sequence=1)
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])


@pytest.mark.parametrize("send", [one_fd, many_fds, unread_behind_an_error, submit])
@pytest.mark.parametrize("path", ["consumer.sock", "agent.sock"])
def test_a_stranger_cannot_block_the_loop(
    send: Callable[[socket.socket, int], None], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last copy of a lingering socket in a message that is refused is closed, and the loop goes on meanwhile."""
    monkeypatch.setattr(Policy, "is_privileged", lambda self, peer: False)

    one, two = lingering()
    blocked: list[bool] = []

    def unblock() -> None:
        blocked.append(True)
        two.close()

    async def test() -> None:
        async with house() as home:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            sock.connect(str(home.folder / path))
            send(sock, one.fileno())
            one.close()
            # Two rounds of the loop, behind whatever it does with the message.
            consumer = await home.consumer()
            await consumer.ask("cancel", {"request-id": 1})
            await consumer.ask("cancel", {"request-id": 1})
            # The thread's close waits for this end.
            two.close()
            sock.close()

    watchdog = threading.Timer(4, unblock)
    watchdog.start()
    asyncio.run(test())
    watchdog.cancel()
    assert not blocked, "the loop was blocked until the peer had gone"


def test_one_socket_that_blocks_holds_up_no_other() -> None:
    """While one close blocks a second thread closes the others."""
    one, two = lingering()
    closer = Closer(patience=0.0)
    closer.close(one.detach())
    with connected_pair() as (ours, theirs):
        theirs.settimeout(20)
        for _ in range(3):
            closer.close(os.dup(ours.fileno()))
        closer.close(ours.detach())
        assert theirs.recv(1) == b""
    two.close()
    closer.stop()


@pytest.mark.parametrize(("linger", "apart"), [((0, 0), False), ((0, 5), False), ((1, 0), False), ((1, 5), True)])
def test_a_trusted_socket_is_closed_apart_where_closing_may_block(linger: tuple[int, int], apart: bool) -> None:
    """SO_LINGER with a time blocks; one that is off does not, nor one that resets at once.  Anybody else's: always."""
    for trusted in (True, False):
        with connected_pair() as (ours, _):
            handed: list[int] = []
            custody = Custody(os.dup(ours.fileno()), handed.append, trusted=trusted)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", *linger))
            custody.release()
            assert len(handed) == (1 if apart or not trusted else 0)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 0, 0))
            for fd in handed:
                os.close(fd)


def test_sockets_of_any_family_have_an_address() -> None:
    """The first part of a netlink address is a number; such a socket is taken or refused, and no fault."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        closed: list[int] = []
        try:
            custody = Custody(os.dup(sock.fileno()), closed.append)
        except RequestRefused:
            pass
        else:
            assert custody.peer_host == "0"
            custody.release()
        assert len(closed) == 1
        os.close(closed[0])


def test_last_words_are_heard() -> None:
    """Data that a peer sent before it closed arrives, though it left messages unread and we were sending to it."""

    async def test(send_first: bool) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        heard: list[bytes] = []
        closed: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        channel = AsyncChannel(ours, lambda data, fd: heard.append(data), closed.set_result)
        channel.send(b"never read")
        theirs.send(b"one")
        theirs.send(b"two")
        theirs.close()
        if send_first:
            channel.send(b"into the void")
            channel.send(b"again")
        await asyncio.wait_for(closed, 20)
        assert heard == [b"one", b"two"]

    for send_first in (False, True):
        asyncio.run(test(send_first))
