"""The endpoint: exactly what was asked for, whatever the segments look like."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import select
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from hsframework.agent.endpoint import DatagramEndpoint, StreamEndpoint, lingers, make_endpoint
from hsframework.agent.readiness import Readiness
from hsframework.errors import HandshakeError, PluginError
from hsframework.failures import Failure, HandshakeFailed


@contextlib.asynccontextmanager
async def stream_endpoint() -> AsyncIterator[tuple[StreamEndpoint, socket.socket]]:
    """Yield an endpoint on one end of a stream pair, and its peer, which is blocking."""
    ours, theirs = socket.socketpair()
    readiness = Readiness(asyncio.get_running_loop())
    endpoint = StreamEndpoint(ours, readiness)
    with theirs:
        theirs.settimeout(20)
        try:
            yield endpoint, theirs
        finally:
            endpoint.close()
            readiness.close()


def watched() -> set[int]:
    """Return the fds in any epoll of this process."""
    text = ""
    for path in Path("/proc/self/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            text += path.read_text()
    return {int(number) for number in re.findall(r"^tfd:\s+(\d+)", text, re.MULTILINE)}


async def turns(number: int = 3) -> None:
    """Let the loop go round."""
    for _ in range(number):
        await asyncio.sleep(0)


@settings(max_examples=150, deadline=None)
@given(
    bodies=st.lists(st.binary(max_size=40), min_size=1, max_size=4),
    trailing=st.binary(max_size=20),
    splits=st.sets(st.integers(min_value=1, max_value=200)),
)
def test_every_split_and_what_follows_stays(bodies: list[bytes], trailing: bytes, splits: set[int]) -> None:
    """However the stream is cut into segments, each record is read whole and what follows the last is in the socket."""
    records = [len(body).to_bytes(2, "big") + body for body in bodies]
    stream = b"".join(records) + trailing
    cuts = [0, *sorted(cut for cut in splits if cut < len(stream)), len(stream)]

    async def read(endpoint: StreamEndpoint) -> list[bytes]:
        return [await endpoint.receive_record(2, lambda header: int.from_bytes(header, "big")) for _ in records]

    async def test() -> None:
        async with stream_endpoint() as (endpoint, peer):
            task = asyncio.create_task(read(endpoint))
            for begin, end in zip(cuts, cuts[1:], strict=False):
                peer.sendall(stream[begin:end])
                await turns(2)
            assert await task == records
            assert rest(endpoint) == trailing

    asyncio.run(test())


def rest(endpoint: StreamEndpoint) -> bytes:
    """Return the data that is left in the socket."""
    try:
        return endpoint.socket.recv(4096)
    except BlockingIOError:
        return b""


async def test_header_that_is_refused_ends_the_reading() -> None:
    """An error that body_size raises passes through, and only the header was taken."""

    def refuse(header: bytes) -> int:
        raise HandshakeError(f"no record begins with {header.hex()}", errno=71)

    async with stream_endpoint() as (endpoint, peer):
        peer.sendall(b"\xff\xffrest")
        with pytest.raises(HandshakeError, match="ffff"):
            await endpoint.receive_record(2, refuse)
        assert rest(endpoint) == b"rest"


async def test_nothing_is_read_for_nothing() -> None:
    """Zero bytes are there at once; a negative number is the caller's fault."""
    async with stream_endpoint() as (endpoint, _):
        assert await endpoint.receive_exactly(0) == b""
        with pytest.raises(ValueError):
            await endpoint.receive_exactly(-1)


@pytest.mark.parametrize("sent", [b"", b"\x00", b"\x00\x05abc"])
async def test_end_of_stream_is_peer_gone(sent: bytes) -> None:
    """A peer that closes before, within or after the header is gone."""
    async with stream_endpoint() as (endpoint, peer):
        peer.sendall(sent)
        reading = asyncio.create_task(endpoint.receive_record(2, lambda header: header[1]))
        await turns()
        peer.close()
        with pytest.raises(HandshakeFailed) as caught:
            await reading
        assert caught.value.failure is Failure.PEER_GONE


async def test_reset_is_peer_gone_for_reads_and_writes() -> None:
    """A connection that is reset fails both ways with the same documented failure."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    readiness = Readiness(asyncio.get_running_loop())
    endpoint = StreamEndpoint(ours, readiness)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    with pytest.raises(HandshakeFailed) as read:
        await endpoint.receive_exactly(1)
    with pytest.raises(HandshakeFailed) as written:
        await endpoint.send(b"x")
    assert (read.value.failure, written.value.failure) == (Failure.PEER_GONE, Failure.PEER_GONE)
    endpoint.close()
    readiness.close()


async def test_send_waits_for_a_slow_reader_and_sends_all() -> None:
    """More than the socket takes at once arrives whole and in order."""
    data = bytes(range(256)) * 8192

    async with stream_endpoint() as (endpoint, peer):
        loop = asyncio.get_running_loop()
        sending = asyncio.create_task(endpoint.send(data))
        await turns()
        assert not sending.done()
        peer.setblocking(False)
        got = b""
        while len(got) < len(data):
            got += await loop.sock_recv(peer, 65536)
        await sending
        assert got == data
        peer.setblocking(True)


async def test_data_that_nobody_waits_for_does_not_keep_waking_the_loop() -> None:
    """Once a read was satisfied, data that lies in the socket makes no event."""
    async with stream_endpoint() as (endpoint, peer):
        reading = asyncio.create_task(endpoint.receive_exactly(1))
        await turns()
        peer.sendall(b"xfor the consumer")
        assert await reading == b"x"
        await turns(5)
        with select.epoll() as outer:
            outer.register(endpoint._readiness._epoll, select.EPOLLIN)
            assert not outer.poll(0)
        assert await endpoint.receive_exactly(3) == b"for"


async def test_cancelled_wait_leaves_nothing_and_a_later_read_works() -> None:
    """A read that was cancelled in mid-wait does not stand in the way of the next one."""
    async with stream_endpoint() as (endpoint, peer):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(endpoint.receive_exactly(1), 0.001)
        peer.sendall(b"y")
        assert await endpoint.receive_exactly(1) == b"y"


async def test_a_wait_that_was_given_up_can_be_taken_up() -> None:
    """It waits anew, and is watched no longer than that; given up once more, it is out of epoll with the close."""
    async with stream_endpoint() as (endpoint, peer):
        number = endpoint.socket.fileno()

        async def given_up() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(endpoint.receive_exactly(1), 0.001)
            assert number in watched()

        await given_up()
        reading = asyncio.create_task(endpoint.receive_exactly(1))
        await turns()
        peer.sendall(b"y")
        assert await asyncio.wait_for(reading, 20) == b"y"
        assert number not in watched()
        await given_up()
        with endpoint.socket.dup():
            endpoint.close()
            assert number not in watched()


async def test_two_waiting_reads_are_an_error() -> None:
    """Two coroutines cannot wait for one endpoint: the bytes would go to either."""
    async with stream_endpoint() as (endpoint, peer):
        first = asyncio.create_task(endpoint.receive_exactly(1))
        await turns()
        with pytest.raises(RuntimeError):
            await endpoint.receive_exactly(1)
        peer.sendall(b"z")
        assert await first == b"z"


async def test_close_leaves_the_loop_before_the_fd_is_gone() -> None:
    """With a copy of the socket elsewhere, a closed endpoint is out of epoll, its waiters are cancelled, and a new
    socket under the same number can be watched."""
    async with stream_endpoint() as (endpoint, peer):
        number = endpoint.socket.fileno()
        with endpoint.socket.dup() as copy:
            reading = asyncio.create_task(endpoint.receive_exactly(1))
            await turns()
            assert number in watched()
            endpoint.close()
            assert number not in watched()
            await turns()
            assert reading.cancelled()
            peer.sendall(b"still connected")
            assert copy.recv(5) == b"still"
        with pytest.raises(PluginError):
            await endpoint.receive_exactly(1)


async def test_a_handshaker_that_closes_its_socket_harms_no_other() -> None:
    """The number is the next socket's: its wait goes on when the first endpoint is left."""
    async with stream_endpoint() as (endpoint, _):
        number = endpoint.socket.fileno()
        with endpoint.socket.dup():
            reading = asyncio.create_task(endpoint.receive_exactly(1))
            await turns()
            endpoint.socket.close()
            near, far = socket.socketpair()
            with far:
                assert near.fileno() == number
                other = StreamEndpoint(near, endpoint._readiness)
                waiting = asyncio.create_task(other.receive_exactly(1))
                await turns()
                endpoint.leave()
                await turns()
                assert reading.cancelled()
                far.send(b"x")
                assert await asyncio.wait_for(waiting, 20) == b"x"
                other.close()


async def test_datagrams() -> None:
    """One datagram a read, an empty one too; the stream's reads are refused."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    readiness = Readiness(asyncio.get_running_loop())
    endpoint = make_endpoint(ours, readiness)
    assert isinstance(endpoint, DatagramEndpoint)
    with theirs:
        for item in (b"one", b"", b"three"):
            theirs.send(item)
        assert [await endpoint.receive_datagram() for _ in range(3)] == [b"one", b"", b"three"]
        reading = asyncio.create_task(endpoint.receive_datagram())
        await turns()
        theirs.send(b"four")
        assert await reading == b"four"
        await endpoint.send(b"five")
        assert theirs.recv(100) == b"five"
        with pytest.raises(TypeError):
            await endpoint.receive_exactly(1)
        with pytest.raises(TypeError):
            await endpoint.receive_record(1, len)
    endpoint.close()
    readiness.close()


async def test_datagrams_until() -> None:
    """A wait with an end: TimeoutError then, a datagram before; what is there already is taken after the end too."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    readiness = Readiness(loop)
    endpoint = make_endpoint(ours, readiness)
    with theirs:
        for until in (loop.time() - 1, loop.time() + 0.01):
            with pytest.raises(TimeoutError):
                await endpoint.receive_datagram(until=until)
        reading = asyncio.create_task(endpoint.receive_datagram(until=loop.time() + 20))
        await turns()
        theirs.send(b"one")
        assert await reading == b"one"
        theirs.send(b"two")
        assert await endpoint.receive_datagram(until=loop.time() - 1) == b"two"
    endpoint.close()
    readiness.close()


async def test_datagram_refused_is_peer_gone() -> None:
    """Nobody listens at the peer's port: that is told, and not waited for."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        address = gone.getsockname()
    ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ours.connect(address)
    readiness = Readiness(asyncio.get_running_loop())
    endpoint = DatagramEndpoint(ours, readiness)
    await endpoint.send(b"anyone?")
    with pytest.raises(HandshakeFailed) as caught:
        await asyncio.wait_for(endpoint.receive_datagram(), 20)
    assert caught.value.failure is Failure.PEER_GONE
    endpoint.close()
    readiness.close()


class Told(socket.socket):
    """A socket for which an ICMP message "too big" has come: the next call says so, and nothing else."""

    told = False

    def _tell(self) -> None:
        if not self.told:
            self.told = True
            raise OSError(errno.EMSGSIZE, "Message too long")

    def recv(self, *arguments: int) -> bytes:
        self._tell()
        return super().recv(*arguments)

    def send(self, *arguments: Any) -> int:
        self._tell()
        return super().send(*arguments)


async def test_word_of_a_smaller_path_does_not_end_a_handshake() -> None:
    """RFC 9000 section 14.2.1: forged or not, it is no end; the next datagrams pass in both directions."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock = Told(fileno=ours.detach())
    readiness = Readiness(asyncio.get_running_loop())
    endpoint = DatagramEndpoint(sock, readiness)
    with theirs:
        await endpoint.send(b"one")
        assert theirs.recv(100) == b"one"
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        await endpoint.send(bytes(1 << 20))  # too large, whatever is tried: lost
        await endpoint.send(b"two")
        assert theirs.recv(100) == b"two"
        sock.told = False
        theirs.send(b"three")
        assert await endpoint.receive_datagram() == b"three"
    endpoint.close()
    readiness.close()


async def test_stream_has_no_datagrams() -> None:
    """The other way round."""
    async with stream_endpoint() as (endpoint, _):
        with pytest.raises(TypeError):
            await endpoint.receive_datagram()


def test_lingering_sockets_are_recognised() -> None:
    """SO_LINGER with a time makes the last close block; without one it does not."""
    with socket.socket() as sock:
        assert not lingers(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 5))
        assert lingers(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert not lingers(sock)


async def test_a_peek_after_a_send_waits_and_finds_what_was_there_already() -> None:
    """The answer may come before it is waited for, in pieces, or never (the peer has gone)."""
    async with stream_endpoint() as (endpoint, peer):
        peer.sendall(b"early")
        await endpoint.send(b"question")
        assert await endpoint.peek(100) == b"early"
        endpoint.take(5)
        await endpoint.send(b"question")
        waiting = asyncio.create_task(endpoint.peek(100))
        await turns()
        assert not waiting.done()
        peer.sendall(b"late")
        assert await waiting == b"late"
        await endpoint.send(b"question")
        assert await endpoint.peek(2) == b"la"
        endpoint.take(4)
        await endpoint.send(b"question")
        peer.close()
        with pytest.raises(HandshakeFailed, match=r"closed the connection|reset"):
            await endpoint.peek(100)


class Short:
    """A socket, or what watches it, that fails a few times for want of the kernel's memory."""

    def __init__(self, real: Any, name: str, failures: int) -> None:
        self._real = real
        self._name = name
        self.failures = failures

    def __getattr__(self, name: str) -> Any:
        if name == self._name and self.failures:
            self.failures -= 1
            return self._fail
        return getattr(self._real, name)

    def _fail(self, *_: object, **__: object) -> None:
        raise OSError(errno.ENOBUFS, "short")


@pytest.mark.parametrize(("part", "name"), [("_readiness", "wait"), ("_socket", "recv"), ("_socket", "send")])
async def test_a_shortage_of_memory_passes(monkeypatch: pytest.MonkeyPatch, part: str, name: str) -> None:
    """A call that the kernel has no memory for is made again: the handshake goes on, and no plugin is blamed."""
    async with stream_endpoint() as (endpoint, peer):
        short = Short(getattr(endpoint, part), name, 1)
        monkeypatch.setattr(endpoint, part, short)
        reading = asyncio.create_task(endpoint.receive_exactly(5))
        await turns()
        await endpoint.send(b"world")
        peer.sendall(b"hello")
        assert await reading == b"hello"
        assert peer.recv(10) == b"world"
        assert not short.failures
        monkeypatch.undo()


async def test_a_shortage_while_peeking_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes that wait are returned once there is memory for it, and stay where they are."""
    async with stream_endpoint() as (endpoint, peer):
        short = Short(endpoint._socket, "recv", 2)
        monkeypatch.setattr(endpoint, "_socket", short)
        peer.sendall(b"hello")
        assert await endpoint.peek(100) == b"hello"
        assert not short.failures
        assert await endpoint.receive_exactly(5) == b"hello"
        monkeypatch.undo()
