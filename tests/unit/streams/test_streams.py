"""The core's streams over a session that is none of TLS's: lines of text, where ``?`` wants to be answered by ``!``."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from hsframework.errors import StreamError
from hsframework.streams import AsyncioStream, BlockingStream, UserSpaceChannel

Pair = tuple[socket.socket, socket.socket]
LARGE = b"x" * (2 << 20)


class Lines:
    """A UserSpaceSession.  ``.`` is the goodbye, ``#`` breaks the session."""

    def __init__(self) -> None:
        self.peer_closed = False
        self._owed = 0
        self._rest = b""
        self._broken = False
        self._closed = False

    @property
    def owes_output(self) -> bool:
        return bool(self._owed)

    def encrypt(self, data: bytes) -> bytes:
        if self._closed:
            raise StreamError("closed for sending")
        return data + b"\n" if data else b""

    def decrypt(self, data: bytes) -> bytes:
        if self._broken:
            raise StreamError("broken")
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = []
        for line in lines:
            self._owed += line == b"?"
            self.peer_closed = self.peer_closed or line == b"."
            self._broken = self._broken or line == b"#"
            found.append(b"" if line in (b"?", b"!", b".", b"#") or self._broken else line)
        return b"".join(found)

    def receive_eof(self) -> None:
        if not self.peer_closed:
            raise StreamError("cut off")

    def data_to_send(self) -> bytes:
        owed, self._owed = self._owed, 0
        return b"!\n" * owed

    def close(self) -> bytes:
        first, self._closed = not self._closed, True
        return b".\n" if first else b""


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Both ends of a connection whose buffers hold far less than LARGE, and do not grow."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        near = socket.create_connection(server.getsockname())
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        far, _ = server.accept()
    with near, far:
        for end in (near, far):
            end.settimeout(30)
        yield near, far


@pytest.fixture
def stream(pair: Pair) -> BlockingStream:
    return BlockingStream(UserSpaceChannel(pair[0], Lines()))


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (part := sock.recv(size - len(data))):
        data += part
    return data


def test_data_and_goodbyes(stream: BlockingStream, pair: Pair) -> None:
    """Both directions, each with its own end; a piece of any size is kept for the next call."""
    stream.send(b"question")
    assert pair[1].recv(100) == b"question\n"
    pair[1].sendall(b"ans")
    pair[1].sendall(b"wer\n.\n")
    assert (stream.receive(4), stream.receive(), stream.receive(), stream.receive()) == (b"answ", b"er", b"", b"")
    assert stream.peer_closed
    stream.send_eof()
    stream.send_eof()
    with pytest.raises(StreamError, match="closed for sending"):
        stream.send(b"more")
    stream.close()
    stream.close()
    assert pair[1].recv(100) == b".\n"
    with pytest.raises(StreamError, match="the stream is closed"):
        stream.receive()
    assert stream.socket.fileno() >= 0


def test_what_is_owed_goes_out_while_reading(stream: BlockingStream, pair: Pair) -> None:
    """The answer is there before the data is returned, and in front of our own data."""
    pair[1].sendall(b"?\n?\nhello\n")
    assert stream.receive() == b"hello"
    stream.send(b"ours")
    assert read_exactly(pair[1], 9) == b"!\n!\nours\n"


def test_errors(stream: BlockingStream, pair: Pair) -> None:
    """Data in front of an error is delivered, and the error comes each time after."""
    pair[1].sendall(b"good\n#\nbad\n")
    assert stream.receive() == b"good"
    for _ in range(2):
        with pytest.raises(StreamError, match="broken"):
            stream.receive()


def test_cut_off(stream: BlockingStream, pair: Pair) -> None:
    """The end of the connection is the session's to judge."""
    pair[1].shutdown(socket.SHUT_WR)
    with pytest.raises(StreamError, match="cut off"):
        stream.receive()


def test_timeouts(stream: BlockingStream, pair: Pair) -> None:
    """settimeout bounds each wait; what a send had queued goes out with the next, in order and once."""
    pair[0].settimeout(0.01)
    with pytest.raises(TimeoutError):
        stream.receive()
    with pytest.raises(TimeoutError):
        stream.send(LARGE)
    pair[0].setblocking(False)
    with pytest.raises(BlockingIOError):
        stream.receive()
    pair[0].settimeout(30)
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(read_exactly, pair[1], len(LARGE) + 6)
        stream.send(b"last")
        assert reading.result(30) == LARGE + b"\nlast\n"


def test_a_thread_for_each_direction(stream: BlockingStream, pair: Pair) -> None:
    """One sends more than fits while the other receives and answers."""
    with ThreadPoolExecutor(2) as threads:
        sending = threads.submit(stream.send, LARGE)
        pair[1].sendall(b"?\nhello\n")
        assert stream.receive() == b"hello"
        heard = read_exactly(pair[1], len(LARGE) + 3)
        sending.result(30)
    assert heard == LARGE + b"\n!\n"


def test_asyncio(pair: Pair) -> None:
    """The same on a loop: an answer while sending, and a send that is cancelled loses and repeats nothing."""

    async def scene() -> None:
        channel = UserSpaceChannel(pair[0], Lines())
        stream = AsyncioStream(channel)
        cancelled = asyncio.ensure_future(stream.send(LARGE))
        waiting = asyncio.ensure_future(stream.send(b"second"))
        while not channel._outgoing:
            await asyncio.sleep(0)
        pair[1].sendall(b"?\nhello\n")
        assert await stream.receive() == b"hello"
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        reading = asyncio.ensure_future(asyncio.to_thread(read_exactly, pair[1], len(LARGE) + 1 + 7 + 2))
        await waiting
        await stream.send_eof()
        heard = await reading
        assert heard.replace(b"!\n", b"") == LARGE + b"\nsecond\n"
        await stream.close()
        with pytest.raises(StreamError):
            await stream.send(b"more")

    asyncio.run(asyncio.wait_for(scene(), 60))
