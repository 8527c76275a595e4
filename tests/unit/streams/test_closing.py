"""The end of a stream over asyncio while others wait on it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from hsframework.errors import StreamError
from hsframework.streams import AsyncioStream, UserSpaceChannel
from hsframework.testing.network import tcp_pair
from tests.unit.streams.test_streams import LARGE, Lines

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    near, far = tcp_pair()
    with near, far:
        yield near, far


async def turns(number: int = 3) -> None:
    """Give every task that can go on its turn."""
    for _ in range(number):
        await asyncio.sleep(0)


def watched(sock: socket.socket) -> bool:
    """Return True if the loop watches this fd."""
    loop = asyncio.get_running_loop()
    return bool(loop.remove_reader(sock.fileno()) or loop.remove_writer(sock.fileno()))


def test_close_ends_a_waiting_receive(pair: Pair) -> None:
    """The task that waits gets StreamError, and the next call too."""

    async def scene() -> None:
        stream = AsyncioStream(UserSpaceChannel(pair[0], Lines()))
        reading = asyncio.ensure_future(stream.receive())
        await turns()
        await stream.close()
        with pytest.raises(StreamError, match="the stream is closed"):
            await asyncio.wait_for(reading, 10)
        with pytest.raises(StreamError, match="the stream is closed"):
            await stream.receive()
        assert not watched(pair[0])

    asyncio.run(scene())


def test_the_next_connection_with_the_number_is_heard() -> None:
    """close() has left the loop when it returns: a connection that gets the fd's number reads its own data."""

    async def scene() -> None:
        near, far = tcp_pair()
        stream = AsyncioStream(UserSpaceChannel(near, Lines()))
        reading = asyncio.ensure_future(stream.receive())
        await turns()
        number = near.fileno()
        await stream.close()
        near.close()
        far.close()
        second, other = tcp_pair()
        if second.fileno() != number:
            assert other.fileno() == number
            second, other = other, second
        with second, other:
            later = AsyncioStream(UserSpaceChannel(second, Lines()))
            hearing = asyncio.ensure_future(later.receive())
            await turns()
            other.sendall(b"hello\n")
            assert await asyncio.wait_for(hearing, 10) == b"hello"
            with pytest.raises(StreamError):
                await reading

    asyncio.run(scene())


def test_data_that_arrives_with_the_end_is_not_read_from_a_closed_stream(pair: Pair) -> None:
    """A receive that was woken and has not run yet when the stream is closed ends with StreamError too."""

    async def scene() -> None:
        stream = AsyncioStream(UserSpaceChannel(pair[0], Lines()))
        reading = asyncio.ensure_future(stream.receive())
        await turns()
        pair[1].sendall(b"late\n")
        next(iter(stream._waits))._wake()
        await stream.close()
        with pytest.raises(StreamError, match="the stream is closed"):
            await asyncio.wait_for(reading, 10)

    asyncio.run(scene())


def test_a_close_that_is_cancelled_ends_the_sender_too(pair: Pair) -> None:
    """A peer that reads nothing holds send and close; once close is given up, nothing waits on the fd."""

    async def scene() -> None:
        stream = AsyncioStream(UserSpaceChannel(pair[0], Lines()))
        sending = asyncio.ensure_future(stream.send(LARGE * 8))
        await turns()
        closing = asyncio.ensure_future(stream.close())
        await turns()
        assert not sending.done()
        assert not closing.done()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert not watched(pair[0])
        with pytest.raises(StreamError, match="the stream is closed"):
            await asyncio.wait_for(sending, 10)

    asyncio.run(scene())
