"""A channel whose peer does not read, or no longer: order, bounds, and what is received before it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator

from hsframework.local.channel import AsyncChannel, PacketChannel
from hsframework.local.packets import MAX_BATCH, messages_of
from tests.unit.local.messages import message

WAIT = 10.0


class Link:
    """A channel, and the plain socket at its other end."""

    def __init__(self, buffer: int | None = None, *, holds_back: bool = False) -> None:
        ours, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.far.setblocking(False)
        if buffer is not None:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        self.received: list[bytes] = []
        self.ended: list[Exception | None] = []
        self.channel = AsyncChannel(
            ours, lambda data, _: self.received.append(data), self.ended.append, holds_back=holds_back
        )

    def fill(self) -> int:
        """Send messages with rising numbers until one had to be queued, and return how many."""
        number = 0
        while not self.channel._queue:
            self.channel.send(message(b"%04d" % number))
            number += 1
        return number

    def read(self) -> list[bytes]:
        """Read all packets that are there."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.far.recv(1 << 18))
        return found

    async def drained(self) -> list[bytes]:
        """Read until nothing is queued."""
        found = self.read()
        while self.channel._queue:
            await asyncio.sleep(0)
            found += self.read()
        return found + self.read()

    async def until_ended(self) -> Exception | None:
        async with asyncio.timeout(WAIT):
            while not self.ended:
                await asyncio.sleep(0)
        return self.ended[0]


@contextlib.asynccontextmanager
async def link(buffer: int | None = None, *, holds_back: bool = False) -> AsyncIterator[Link]:
    before = len(os.listdir("/proc/self/fd"))
    made = Link(buffer, holds_back=holds_back)
    try:
        yield made
    finally:
        made.channel.close()
        made.far.close()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_nothing_overtakes_what_is_queued() -> None:
    """Once a message waits, those behind it wait too, sent at once or soon, also where there would be room by now."""
    async with link() as made:
        number = made.fill()
        first = [made.far.recv(1000)]
        made.channel.send(message(b"%04d" % number))
        made.channel.send_soon(message(b"%04d" % (number + 1)))
        made.channel.send_gathered()
        arrived = first + await made.drained()
        assert arrived == [message(b"%04d" % it) for it in range(number + 2)]


async def test_a_peer_that_does_not_read_is_not_read() -> None:
    """By an end that holds back, from a number of queued packets on; what it had sent is received afterwards."""
    async with link(holds_back=True) as made:
        made.fill()
        while len(made.channel._queue) < PacketChannel.HIGH_WATER - 1:
            made.channel.send(message(b"more"))
        made.far.send(message(b"one"))
        while not made.received:
            await asyncio.sleep(0)
        made.channel.send(message(b"more"))
        made.far.send(message(b"two"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert made.received == [message(b"one")]
        await made.drained()
        async with asyncio.timeout(WAIT):
            while len(made.received) < 2:
                await asyncio.sleep(0)
        assert made.received == [message(b"one"), message(b"two")]


async def test_an_end_that_does_not_hold_back_reads_on() -> None:
    """However much is queued for its peer: so the peer's queue empties, and it reads again."""
    async with link() as made:
        made.fill()
        while len(made.channel._queue) < 2 * PacketChannel.HIGH_WATER:
            made.channel.send(message(b"more"))
        made.far.send(message(b"one"))
        async with asyncio.timeout(WAIT):
            while not made.received:
                await asyncio.sleep(0)


async def test_a_send_that_fails_ends_the_channel() -> None:
    """Its peer reads no longer, and need not have closed: the error is reported once, and not within the send."""
    for soon in (False, True):
        async with link() as made:
            made.far.shutdown(socket.SHUT_RD)
            if soon:
                made.channel.send_soon(message(b"x"))
                made.channel.send_gathered()
            else:
                made.channel.send(message(b"x"))
            assert not made.ended
            assert isinstance(await made.until_ended(), BrokenPipeError)
            assert made.channel.closed
            assert len(made.ended) == 1


async def test_what_a_peer_had_sent_is_received_before_the_end() -> None:
    """All of it, as far as the bound goes, although the failed send shows first that the peer is gone."""
    async with link() as made:
        for number in range(150):
            made.far.send(message(b"%04d" % number))
        made.far.shutdown(socket.SHUT_RD)
        made.channel.send(message(b"x"))
        await made.until_ended()
        assert made.received == [message(b"%04d" % number) for number in range(150)]
        assert PacketChannel.LAST_PACKETS > 150 > PacketChannel.BURST


async def test_a_peer_that_closes_on_queued_packets_has_ended() -> None:
    """All that it had sent is received first; all that was queued for it is dropped, and the end is reported once."""
    async with link() as made:
        made.fill()
        made.far.send(message(b"last word"))
        made.far.close()
        await made.until_ended()
        assert made.received == [message(b"last word")]
        assert len(made.ended) == 1
        assert not made.channel._queue


async def test_each_packet_may_be_as_long_as_the_first() -> None:
    """All that goes into the first fits into the next as well; a byte more begins another packet."""
    async with link(8192) as made:
        most = made.channel._most_gathered
        half = message(bytes(most // 2 - 16))
        other = message(bytes(most - len(half) - 16))
        for _ in range(3):
            made.channel.send_soon(half)
            made.channel.send_soon(other)
            made.channel.send_soon(message(b""))
            made.channel.send_gathered()
            assert [len(packet) for packet in await made.drained()] == [most, 16]


async def test_a_packet_has_so_many_messages_at_most() -> None:
    """One more begins another packet, in the order in which they were sent."""
    async with link() as made:
        sent = [message(b"%04d" % number) for number in range(2 * MAX_BATCH + 1)]
        for data in sent:
            made.channel.send_soon(data)
        made.channel.send_gathered()
        packets = [messages_of(packet) for packet in made.read()]
        assert [len(packet) for packet in packets] == [MAX_BATCH, MAX_BATCH, 1]
        assert [data for packet in packets for data in packet] == sent
