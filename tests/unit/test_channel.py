"""Packets of several messages, and what becomes of those that break the rules."""

from __future__ import annotations

import asyncio
import os
import socket
import struct

import pytest
from hypothesis import given, strategies as st

from hsframework.channel import MAX_BATCH, MAX_PACKET, AsyncChannel, messages_of, send_packet
from hsframework.errors import MessageError


def message(payload: bytes) -> bytes:
    """A message with nothing but its length and a payload."""
    return struct.pack("=IHHII", 16 + len(payload), 0x20, 0, 1, 0) + payload


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

    def close(self) -> None:
        self.channel.close()
        self.far.close()


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


@pytest.mark.parametrize("number", [2, MAX_BATCH + 1])
async def test_packets_that_break_the_rules(number: int) -> None:
    """Several messages with an fd, or too many: the connection ends, and the fd is closed."""
    ends = Ends()
    fd = os.open(os.devnull, os.O_RDONLY)
    send_packet(ends.far, message(b"x") * number, fd if number == 2 else None)
    os.close(fd)
    assert isinstance(await asyncio.wait_for(ends.ended, 10), MessageError)
    assert not ends.heard
    ends.close()


@given(st.lists(st.binary(max_size=40), max_size=8), st.binary(max_size=40))
def test_taking_a_packet_apart(payloads: list[bytes], rest: bytes) -> None:
    """Whatever comes, nothing is lost or made up, and whole messages come out whole."""
    whole = [message(payload) for payload in payloads]
    data = b"".join(whole) + rest
    parts = messages_of(data)
    assert b"".join(parts) == data
    assert parts[: len(whole)] == whole
