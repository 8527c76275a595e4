"""Endpoints in memory keep the rules of the real ones."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, strategies as st

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Endpoint
from hsframework.testing.memory import MemoryDatagrams, MemoryStream

STREAM: Callable[[], Endpoint] = MemoryStream
DATAGRAMS: Callable[[], Endpoint] = MemoryDatagrams


@given(st.binary(max_size=40), st.binary(max_size=20), st.lists(st.integers(1, 10), max_size=60))
def test_records_whatever_the_pieces(body: bytes, rest: bytes, sizes: list[int]) -> None:
    """The record and nothing else is taken, however it comes."""

    async def scene() -> None:
        endpoint = MemoryStream()
        reading = asyncio.ensure_future(endpoint.receive_record(1, lambda header: header[0]))
        data = bytes([len(body)]) + body + rest
        for size in [*sizes, len(data)]:
            endpoint.feed(data[:size])
            data = data[size:]
            await asyncio.sleep(0)
        assert await reading == bytes([len(body)]) + body
        assert endpoint.rest == rest

    asyncio.run(scene())


def test_peek_and_take() -> None:
    """Looking takes nothing, and no more is taken than there is."""

    async def scene() -> None:
        endpoint = MemoryStream()
        endpoint.feed(b"hello")
        assert await endpoint.peek(3) == b"hel"
        assert await endpoint.peek(30) == b"hello"
        endpoint.take(4)
        assert endpoint.rest == b"o"
        with pytest.raises(BlockingIOError):
            endpoint.take(2)

    asyncio.run(scene())


def test_the_end_is_the_peers() -> None:
    """Reads that wait, and sends that follow, fail with PEER_GONE; what came before is still there."""

    async def scene() -> None:
        stream, datagrams = MemoryStream(), MemoryDatagrams()
        stream.feed(b"he")
        for read in (stream.receive_exactly(5), datagrams.receive_datagram()):
            reading = asyncio.ensure_future(read)
            await asyncio.sleep(0)
            stream.feed_end()
            datagrams.feed_end()
            with pytest.raises(HandshakeFailed) as caught:
                await reading
            assert caught.value.failure is Failure.PEER_GONE
        for endpoint in (stream, datagrams):
            with pytest.raises(HandshakeFailed):
                await endpoint.send(b"x")

    asyncio.run(scene())


def test_datagrams() -> None:
    """One at a time, cut to what is asked for, and empty ones too."""

    async def scene() -> None:
        endpoint = MemoryDatagrams()
        for data in (b"hello", b"", b"rest"):
            endpoint.feed(data)
        assert [await endpoint.receive_datagram(3), await endpoint.receive_datagram()] == [b"hel", b""]
        assert endpoint.rest == [b"rest"]
        await endpoint.send(b"answer")
        assert endpoint.sent == [b"answer"]

    asyncio.run(scene())


@pytest.mark.parametrize(
    "call",
    [
        MemoryStream().receive_datagram,
        lambda: MemoryDatagrams().receive_exactly(1),
        lambda: MemoryDatagrams().receive_record(1, len),
        lambda: MemoryDatagrams().peek(1),
    ],
)
def test_the_other_kinds_methods(call: Callable[[], Coroutine[Any, Any, bytes]]) -> None:
    """TypeError, as with the real ones."""
    with pytest.raises(TypeError, match="socket"):
        asyncio.run(call())


def test_the_socket() -> None:
    """A real one of the kind, for options; closed with the endpoint."""
    for make, kind in ((MemoryStream, socket.SOCK_STREAM), (MemoryDatagrams, socket.SOCK_DGRAM)):
        endpoint = make()
        sock = endpoint.socket
        assert sock.type == kind
        assert endpoint.socket is sock
        endpoint.close()
        assert sock.fileno() < 0
