"""The asyncio connection over real sockets, with aioquic's own connection at the other end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator

import pytest

from hsframework.interface import AsyncConnection, AsyncStream
from hsframework_quic.consumer.asynchronous import AsyncQuicConnection
from hsframework_quic.consumer.connection import Connection
from hsframework_quic.consumer.endings import ConnectionEnded, Undelivered
from tests.unit.quic.echo_peer import EchoPeer
from tests.unit.quic.joined import joined

MIB = 1 << 20


@contextlib.asynccontextmanager
async def connection() -> AsyncIterator[tuple[AsyncQuicConnection, EchoPeer]]:
    """Yield our connection and its peer."""
    with joined() as ends, EchoPeer(ends.server, ends.server_socket) as peer:
        async with asyncio.timeout(60), AsyncQuicConnection(Connection(ends.client), ends.client_socket) as own:
            yield own, peer


async def receive_all(stream: AsyncStream) -> bytes:
    data = bytearray()
    while part := await stream.receive():
        data += part
    return bytes(data)


async def test_one_mebibyte_each_way() -> None:
    """Sent by one task while another receives, over what is a stream and a connection; every ninth datagram is lost."""
    async with connection() as (own, peer):
        assert isinstance(own, AsyncConnection)
        peer.drop_every = 9
        sent = os.urandom(MIB)

        async def send() -> None:
            await own.send(sent)
            await own.send_eof()

        _, received = await asyncio.gather(send(), receive_all(own))
        assert received == sent


async def test_many_streams_and_datagrams() -> None:
    """Two hundred streams, more than the peer allows at a time, unidirectional ones, and datagrams in between."""
    async with connection() as (own, _):

        async def converse(number: int) -> bool:
            async with await own.open_stream() as stream:
                await stream.send(b"%d" % number)
                await stream.send_eof()
                return await receive_all(stream) == b"%d" % number

        async def shout() -> bool:
            # Until it is heard: in this crowd the sockets' buffers run over, and datagrams are not sent again.
            hearing = asyncio.ensure_future(own.receive_datagram())
            while not hearing.done():
                await own.send_datagram(b"hey")
                await own.ping()
            return await hearing == b"hey"

        async def one_way() -> bool:
            stream = await own.open_stream(unidirectional=True)
            await stream.send(b"there")
            await stream.close()
            back = await own.accept_stream()
            return back is not None and await receive_all(back) == b"there"

        assert all(await asyncio.gather(*map(converse, range(200)), shout(), one_way()))


async def test_keys_and_pings() -> None:
    """Key updates of both sides with data between them."""
    async with connection() as (own, peer):
        for _ in range(3):
            await own.update_keys()
        peer.ask("keys")
        await own.ping()
        await own.send(b"x")
        assert await own.receive() == b"x"


async def test_cancelled_calls() -> None:
    """A wait that is cancelled leaves nothing behind, and loses no data."""
    async with connection() as (own, _):
        await own.send(b"1")
        assert await own.receive() == b"1"
        task = asyncio.create_task(own.receive())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await own.send(b"2")
        assert await own.receive() == b"2"


async def test_closes() -> None:
    """Theirs ends every wait with its code; the loop has nothing left to do."""
    async with connection() as (own, peer):
        await own.ping()
        waits = [asyncio.create_task(own.receive_datagram()) for _ in range(3)]
        await asyncio.sleep(0)
        peer.ask("close 3 done")
        for wait in waits:
            with pytest.raises(ConnectionEnded) as caught:
                await wait
            assert caught.value.ending.code == 3
        assert (await own.wait_ended()).reason == "done"


async def test_our_close() -> None:
    """Data that was sent arrives before it, and calls afterwards are EBADF."""
    async with connection() as (own, peer):
        await own.send(bytes(100_000))
        await own.close()
        await own.close()
        assert (await asyncio.to_thread(peer.wait)).error_code == 0
        with pytest.raises(ConnectionEnded) as caught:
            await own.send(b"x")
        assert caught.value.errno == errno.EBADF


async def test_our_close_says_what_was_not_delivered(no_patience: None) -> None:
    """A peer that acknowledges nothing more: an error with the number of bytes."""
    async with connection() as (own, peer):
        await own.ping()
        peer.drop_every = 1
        await own.send(bytes(100_000))
        with pytest.raises(Undelivered) as caught:
            await own.close()
        assert caught.value.size == 100_000


async def test_the_connection_works_by_itself() -> None:
    """With nobody calling, the loop answers the peer's probes and keeps the connection alive."""
    async with connection() as (own, peer):
        own.keep_alive(0.01)
        await own.ping()
        before = peer._arrived
        while peer._arrived < before + 5:
            await asyncio.sleep(0.01)
        assert own.ending is None


async def test_no_descriptor_is_left() -> None:
    """Closing gives back the copy of the socket."""
    with joined() as ends, EchoPeer(ends.server, ends.server_socket):
        before = len(os.listdir("/proc/self/fd"))
        own = AsyncQuicConnection(Connection(ends.client), ends.client_socket)
        await own.close()
        assert len(os.listdir("/proc/self/fd")) == before
