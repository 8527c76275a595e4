"""Packets of several messages, and what becomes of those that break the rules."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, strategies as st

from hsframework.errors import MessageError
from hsframework.local import channel as channel_module
from hsframework.local.channel import AsyncChannel, PacketChannel
from hsframework.local.packets import (
    MAX_BATCH,
    MAX_PACKET,
    joined,
    messages_of,
    receive_packet,
    send_packet,
    taken_apart,
)
from tests.unit.local.messages import message


class Ends:
    """A channel, and the plain socket at its other end."""

    def __init__(self) -> None:
        ours, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.heard: list[tuple[bytes, int | None]] = []
        self.ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.channel = AsyncChannel(ours, lambda data, fd: self.heard.append((data, fd)), self.ended.set_result)

    async def hears(self, number: int) -> list[bytes]:
        """Wait for so many messages."""
        async with asyncio.timeout(10):
            while len(self.heard) < number:
                await asyncio.sleep(0)
        return [data for data, _ in self.heard]

    def close_fds(self) -> None:
        """Close what came with the messages, and forget these."""
        for _, fd in self.heard:
            if fd is not None:
                os.close(fd)
        self.heard.clear()

    def close(self) -> None:
        self.close_fds()
        self.channel.close()
        self.far.close()


def inode(fd: int | None) -> int | None:
    """Return the inode, by which a copy of an fd is known."""
    return None if fd is None else os.fstat(fd).st_ino


async def test_what_is_sent_soon_goes_in_one_packet() -> None:
    """Messages of one turn of the loop share a packet, in their order, and before what is sent at once."""
    ends = Ends()
    for number in range(3):
        ends.channel.send_soon(message(b"%d" % number * 4))
    ends.channel.send(message(b"last"))
    assert messages_of(ends.far.recv(MAX_PACKET)) == [message(b"%d" % number * 4) for number in range(3)]
    assert ends.far.recv(MAX_PACKET) == message(b"last")
    ends.channel.send_soon(message(b"lone"))
    await asyncio.sleep(0)
    assert ends.far.recv(MAX_PACKET) == message(b"lone")
    ends.close()


async def test_a_packet_does_not_grow_without_limit() -> None:
    """More messages than go into a packet, and larger ones, make several; none is lost at the end of a channel."""
    ends = Ends()
    sent = [message(b"%04d" % number) for number in range(MAX_BATCH + 10)]
    sent += [message(bytes(100_000)) for _ in range(3)]
    ends.far.settimeout(10)
    received: list[bytes] = []
    for data in sent:
        ends.channel.send_soon(data)
        await asyncio.sleep(0) if len(data) > 1000 else None
        if len(data) > 1000:
            while len(received) < sent.index(data) + 1:
                received += messages_of(ends.far.recv(MAX_PACKET))
    ends.channel.send_soon(message(b"bye!"))
    ends.channel.close()
    while data := ends.far.recv(MAX_PACKET):
        received += messages_of(data)
    assert [len(data) for data in received] == [len(data) for data in [*sent, message(b"bye!")]]
    ends.close()


async def test_messages_of_one_packet_are_heard_one_by_one() -> None:
    """As if each had come alone."""
    ends = Ends()
    sent = [message(b"a"), message(b""), message(b"ccc")]
    send_packet(ends.far, b"".join(sent))
    assert await ends.hears(3) == sent
    ends.close()


async def test_fds_share_a_packet() -> None:
    """Each message has its own fd, or none; the sender keeps its copies, and a lone message needs no mark."""
    ends = Ends()
    with tempfile.TemporaryFile() as one, tempfile.TemporaryFile() as two:
        sent = [(message(b"a"), one.fileno()), (message(b"b"), None), (message(b"c"), two.fileno())]
        for data, fd in sent:
            ends.channel.send_soon(data, fd)
        await asyncio.sleep(0)
        data, fds = receive_packet(ends.far)
        items = taken_apart(data, fds)
        assert [len(item) for item, _ in items] == [17, 17, 17]
        assert [inode(fd) for _, fd in items] == [inode(fd) for _, fd in sent]
        send_packet(ends.far, data, *fds)
        for fd in fds:
            os.close(fd)
        await ends.hears(3)
        assert [inode(fd) for _, fd in ends.heard] == [inode(fd) for _, fd in sent]
        ends.close_fds()
        ends.channel.send_soon(*sent[0])
        ends.channel.send_gathered()
        data, fds = receive_packet(ends.far)
        assert (data, [inode(fd) for fd in fds]) == (message(b"a"), [inode(one.fileno())])
        os.close(fds[0])
    ends.close()


async def test_packets_with_fds_wait_for_a_slow_reader() -> None:
    """A packet that does not go out at once is kept with its fds, in order; one that is never sent is closed."""
    ends = Ends()
    with tempfile.TemporaryFile() as file:
        for number in range(600):
            ends.channel.send_soon(message(b"%03d" % number), file.fileno())
            if number % 3 == 0:
                ends.channel.send_gathered()
        await asyncio.sleep(0)
        ends.far.settimeout(10)
        heard: list[bytes] = []
        while len(heard) < 300:
            data, fds = receive_packet(ends.far)
            for item, fd in taken_apart(data, fds):
                assert inode(fd) == inode(file.fileno())
                assert fd is not None
                os.close(fd)
                heard.append(item[16:])
            await asyncio.sleep(0)
        assert heard == [b"%03d" % number for number in range(len(heard))]
    ends.close()


@pytest.mark.parametrize(
    ("marks", "fds"),
    [
        ([False], 2),
        ([False, False], 1),
        ([True, False], 2),
        ([True, True], 1),
        ([False] * (MAX_BATCH + 1), 0),
        ([True] * (MAX_BATCH + 1), MAX_BATCH + 1),
    ],
)
async def test_packets_that_break_the_rules(marks: list[bool], fds: int) -> None:
    """Fds that are nobody's, messages without theirs, too many messages: the connection ends, every fd is closed."""
    ends = Ends()
    fd = os.open(os.devnull, os.O_RDONLY)
    packet = joined([(message(b"xxxx"), fd if marked else None) for marked in marks])
    send_packet(ends.far, packet, *[fd] * fds)
    os.close(fd)
    assert isinstance(await asyncio.wait_for(ends.ended, 10), MessageError)
    assert not ends.heard
    ends.close()


def test_marks_without_fds_mean_nothing() -> None:
    """A flag alone makes no fd: each message arrives without one, and its reader says what is missing."""
    marked = joined([(message(b"a"), 1), (message(b"b"), 1)])
    assert [fd for _, fd in taken_apart(marked, [])] == [None, None]


async def test_one_connection_does_not_keep_the_loop() -> None:
    """After so many messages others have their turn, however they are packed."""
    ends = Ends()
    for _ in range(4):
        send_packet(ends.far, message(b"x") * 24)
    await ends.hears(1)
    assert len(ends.heard) < AsyncChannel.BURST + 24
    await ends.hears(96)
    ends.close()


@given(
    st.lists(st.tuples(st.binary(max_size=12), st.booleans()), max_size=6),
    st.binary(max_size=20),
    st.one_of(st.none(), st.integers(0, 7)),
)
def test_no_fd_is_lost(messages: list[tuple[bytes, bool]], rest: bytes, number: int | None) -> None:
    """Each fd of any packet comes out once, with a message that has one, or is closed."""
    items = [(message(payload), 1 if marked else None) for payload, marked in messages]
    data = joined(items) + rest
    fds = [100 + index for index in range(sum(marked for _, marked in messages) if number is None else number)]
    closed: list[int] = []
    try:
        parts = taken_apart(data, fds, closed.append)
    except MessageError:
        assert closed == fds
    else:
        assert not closed
        assert [fd for _, fd in parts if fd is not None] == fds
        assert b"".join(part for part, _ in parts) == data
        if len(items) > 1 and fds:
            assert [fd is not None for _, fd in parts[: len(items)]] == [marked for _, marked in messages]


async def test_a_handler_that_fails_costs_no_fd() -> None:
    """The fds that a handler was given are its own; the rest of the packet's are closed."""
    ours, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    def fails(data: bytes, fd: int | None) -> None:
        assert fd is not None
        os.close(fd)
        raise ValueError("no sense")

    channel = AsyncChannel(ours, fails, lambda _: None)
    with far, tempfile.TemporaryFile() as file:
        send_packet(far, joined([(message(b"a"), 1)] * 8), *[file.fileno()] * 8)
        async with asyncio.timeout(10):
            while not told:
                await asyncio.sleep(0)
    channel.close()


async def test_a_packet_is_handed_on_whole() -> None:
    """Its messages come together, each with its fd; the next packet's come in another call."""
    ours, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    heard: list[Sequence[tuple[bytes, int | None]]] = []
    ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    PacketChannel(ours, heard.append, ended.set_result)
    with far, tempfile.TemporaryFile() as file:
        send_packet(far, joined([(message(b"a"), None), (message(b"b"), 1), (message(b"c"), None)]), file.fileno())
        send_packet(far, message(b"d"))
        far.shutdown(socket.SHUT_WR)
        assert await asyncio.wait_for(ended, 20) is None
        (first, b, third), (last,) = heard
        assert [inode(b[1]), first[1], third[1], last[1]] == [inode(file.fileno()), None, None, None]
        assert [first[0], third[0], last[0]] == [message(b"a"), message(b"c"), message(b"d")]
        assert b[1] is not None
        os.close(b[1])


async def test_a_small_send_buffer_is_minded() -> None:
    """Messages that go one by one go together, too: a packet is no larger than the buffer takes."""
    ends = Ends()
    ends.channel.close()
    ours, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    failed: list[Exception | None] = []
    channel = AsyncChannel(ours, lambda data, fd: None, failed.append)
    far.settimeout(10)
    sent = [message(bytes(6000)) for _ in range(16)]
    for data in sent:
        channel.send_soon(data)
    heard: list[bytes] = []
    while len(heard) < len(sent):
        for _ in range(3):
            await asyncio.sleep(0)
        heard += messages_of(far.recv(MAX_PACKET))
    assert heard == sent
    assert not failed
    channel.close()
    far.close()
    ends.close()


@given(st.lists(st.binary(max_size=40), max_size=8), st.binary(max_size=40))
def test_taking_a_packet_apart(payloads: list[bytes], rest: bytes) -> None:
    """Packets of any form are taken apart without loss or invention, and whole messages come out whole."""
    whole = [message(payload) for payload in payloads]
    data = b"".join(whole) + rest
    parts = messages_of(data)
    assert b"".join(parts) == data
    assert parts[: len(whole)] == whole


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.ENOBUFS])
async def test_a_shortage_of_memory_delays_and_loses_nothing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Packets that the kernel has no memory for are sent a little later, in their order and with their fds."""
    failures = iter([OSError(number, "short")] * 3)

    def short(sock: socket.socket, data: bytes, *fds: int) -> None:
        for error in failures:
            raise error
        send_packet(sock, data, *fds)

    monkeypatch.setattr(channel_module, "send_packet", short)
    ends = Ends()
    with tempfile.TemporaryFile() as file:
        ends.channel.send(message(b"first"), file.fileno())
        ends.channel.send_soon(message(b"second"))
        ends.channel.send(message(b"third"))
        async with asyncio.timeout(10):
            while not select.select([ends.far], [], [], 0)[0]:
                await asyncio.sleep(0)
        heard = [receive_packet(ends.far) for _ in range(3)]
        assert [data for data, _ in heard] == [message(word) for word in (b"first", b"second", b"third")]
        ((fd,), *rest) = [fds for _, fds in heard]
        assert (inode(fd), rest) == (inode(file.fileno()), [[], []])
        os.close(fd)
    assert not ends.ended.done()
    ends.close()


async def test_a_shortage_of_memory_for_reading_delays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that the kernel cannot watch for want of memory is watched a little later."""
    loop = asyncio.get_running_loop()
    add_reader, failures = loop.add_reader, iter([OSError(errno.ENOMEM, "short")])

    def short(fd: int, call: Callable[[], None]) -> None:
        for error in failures:
            raise error
        add_reader(fd, call)

    monkeypatch.setattr(loop, "add_reader", short)
    ends = Ends()
    ends.far.send(message(b"hello"))
    assert await ends.hears(1) == [message(b"hello")]
    ends.close()
