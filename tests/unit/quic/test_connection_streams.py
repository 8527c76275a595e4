"""The streams of the consumer's connection without I/O, against aioquic's own connection at the other end."""

from __future__ import annotations

import errno

import pytest
from aioquic.quic import events

from hsframework.errors import StreamError
from hsframework_quic.consumer.endings import StreamAborted
from hsframework_quic.consumer.later import LATER
from hsframework_quic.consumer.streams import MAX_UNACCEPTED, SEND_BUFFER
from tests.unit.quic.joined import Ends, joined
from tests.unit.quic.pair import Pair, opened

MIB = 1 << 20


def test_both_ways(pair: Pair) -> None:
    """Data on a stream comes out at the peer in order with its end, and the other way round."""
    stream = opened(pair.own.streams.try_open(False))
    assert pair.own.streams.try_send(stream, memoryview(b"hello")) == 5
    pair.own.streams.send_eof(stream)
    pair.settle()
    assert pair.data(stream.id) == b"hello"
    assert pair.got(events.StreamDataReceived)[-1].end_stream
    pair.peer.send_stream_data(stream.id, b"world", end_stream=True)
    pair.settle()
    assert pair.own.streams.try_receive(stream, 3) == b"wor"
    assert pair.own.streams.try_receive(stream, 3) == b"ld"
    assert pair.own.streams.try_receive(stream, 3) == b""


@pytest.mark.parametrize("client", [True, False])
def test_kinds_of_streams(ends: Ends, client: bool) -> None:
    """Streams of either side and kind; what a direction does not allow is EBADF."""
    pair = Pair(ends, client=client)
    one_way = opened(pair.own.streams.try_open(True))
    pair.own.streams.try_send(one_way, memoryview(b"x"))
    with pytest.raises(StreamError) as caught:
        pair.own.streams.try_receive(one_way, 1)
    assert caught.value.errno == errno.EBADF
    theirs = pair.peer.get_next_available_stream_id(is_unidirectional=True)
    pair.peer.send_stream_data(theirs, b"y", end_stream=True)
    pair.settle()
    assert pair.data(one_way.id) == b"x"
    assert pair.own.streams.try_accept(False) is LATER
    incoming = opened(pair.own.streams.try_accept(None))
    assert (incoming.id, pair.own.streams.try_receive(incoming, 9)) == (theirs, b"y")
    with pytest.raises(StreamError) as caught:
        pair.own.streams.try_send(incoming, memoryview(b"no"))
    assert caught.value.errno == errno.EBADF


def test_sending_waits_for_the_peer(pair: Pair) -> None:
    """No more than SEND_BUFFER is taken over while the peer acknowledges nothing; then the rest is."""
    stream = opened(pair.own.streams.try_open(False))
    data = memoryview(bytes(3 * SEND_BUFFER))
    assert pair.own.streams.try_send(stream, data) == SEND_BUFFER
    assert pair.own.streams.try_send(stream, data) is LATER
    pair.settle()
    assert pair.own.streams.try_send(stream, data) == SEND_BUFFER


def test_the_last_byte_of_room_is_used(pair: Pair) -> None:
    """With one byte of room one is taken over; with none the caller waits, unless it has nothing to send."""
    stream = opened(pair.own.streams.try_open(False))
    assert pair.own.streams.try_send(stream, memoryview(bytes(SEND_BUFFER - 1))) == SEND_BUFFER - 1
    assert pair.own.streams.try_send(stream, memoryview(b"xy")) == 1
    assert pair.own.streams.try_send(stream, memoryview(b"y")) is LATER
    assert pair.own.streams.try_send(stream, memoryview(b"")) == 0


def test_data_of_a_stopped_stream_takes_no_room() -> None:
    """Data that was under way when the stream was stopped is dropped, and its credit given back for other streams."""
    window = 3 * 1024
    with joined({"max_data": window, "max_stream_data": window}) as ends:
        pair = Pair(ends)
        pair.peer.send_stream_data(1, b"x")
        pair.settle()
        stopped = opened(pair.own.streams.try_accept(None))
        pair.own.streams.stop(stopped, 7)
        # The peer has sent all of it, with its end, before it reads that.
        pair.peer.send_stream_data(1, bytes(window - 1), end_stream=True)
        for data, _address in pair.peer.datagrams_to_send(pair.now):
            pair.own.receive(data, pair.now)
        pair.settle()
        assert not stopped.chunks
        pair.peer.send_stream_data(5, bytes(window), end_stream=True)
        pair.settle()
        other = opened(pair.own.streams.try_accept(None))
        received = b""
        while part := pair.own.streams.try_receive(other, window):
            assert isinstance(part, bytes), "no credit is left"
            received += part
            pair.settle()
        assert received == bytes(window)


def test_a_peer_waits_for_the_application() -> None:
    """Data that nobody reads stays within the window; reading opens it again, and everything arrives."""
    window = 64 * 1024
    with joined({"max_data": 4 * window, "max_stream_data": window}) as ends:
        pair = Pair(ends)
        stream = opened(pair.own.streams.try_open(False))
        pair.own.streams.try_send(stream, memoryview(b"go"))
        pair.settle()
        sent = bytes(range(256)) * (MIB // 256)
        pair.peer.send_stream_data(stream.id, sent, end_stream=True)
        pair.settle()
        assert sum(map(len, stream.chunks)) == window
        received = bytearray()
        while data := pair.own.streams.try_receive(stream, 10_000):
            if data is LATER:
                pair.settle()
                continue
            assert isinstance(data, bytes)
            received += data
            assert sum(map(len, stream.chunks)) <= window
        assert received == sent


def test_the_connection_window_spans_streams() -> None:
    """Unread data of all streams together stays within the connection's window, also when streams are given up."""
    window = 64 * 1024
    with joined({"max_data": window, "max_stream_data": window}) as ends:
        pair = Pair(ends)
        for _ in range(4):
            stream_id = pair.peer.get_next_available_stream_id()
            pair.peer.send_stream_data(stream_id, bytes(window // 2))
            pair.settle()
        streams = [opened(pair.own.streams.try_accept(None)) for _ in range(2)]
        assert pair.own.streams.try_accept(None) is LATER
        pair.own.streams.stop(streams[0], 7)
        pair.settle()
        assert pair.got(events.StopSendingReceived)[0].error_code == 7
        assert opened(pair.own.streams.try_accept(None)).id == 9
        pair.peer.reset_stream(streams[1].id, 8)
        pair.settle()
        assert opened(pair.own.streams.try_accept(None)).id == 13
        with pytest.raises(StreamAborted) as caught:
            pair.own.streams.try_receive(streams[1], 1)
        assert (caught.value.code, caught.value.errno) == (8, errno.ECONNRESET)


def test_streams_that_nobody_accepts(pair: Pair) -> None:
    """A peer cannot make us keep any number of streams: it gets no credit for new ones until some are accepted."""
    for _ in range(1000):
        stream_id = pair.peer.get_next_available_stream_id(is_unidirectional=True)
        pair.peer.send_stream_data(stream_id, b"", end_stream=True)
    pair.settle()
    accepted = 0
    waiting = len(pair.own.streams._incoming[True])
    assert waiting < 3 * MAX_UNACCEPTED
    while (stream := pair.own.streams.try_accept(None)) is not LATER:
        assert pair.own.streams.try_receive(opened(stream), 1) == b""
        accepted += 1
        pair.settle()
    assert accepted == 1000
    assert len(pair.own.streams._streams) < 600


def test_the_peer_limits_our_streams(pair: Pair) -> None:
    """The 129th stream waits until the peer allows it, which it does when others end."""
    streams = [opened(pair.own.streams.try_open(False)) for _ in range(128)]
    assert pair.own.streams.try_open(False) is LATER
    for stream in streams[:100]:
        pair.own.streams.try_send(stream, memoryview(b"x"))
        pair.own.streams.send_eof(stream)
    pair.settle()
    for stream in streams[:100]:
        pair.peer.send_stream_data(stream.id, b"", end_stream=True)
    pair.settle()
    pair.settle()
    assert opened(pair.own.streams.try_open(False)).id == 128 * 4


def test_stopped_by_the_peer(pair: Pair) -> None:
    """A writer that the peer has stopped gets EPIPE and its code."""
    stream = opened(pair.own.streams.try_open(False))
    pair.own.streams.try_send(stream, memoryview(b"x"))
    pair.settle()
    pair.peer.stop_stream(stream.id, 9)
    pair.settle()
    with pytest.raises(StreamAborted) as caught:
        pair.own.streams.try_send(stream, memoryview(b"x"))
    assert (caught.value.code, caught.value.errno) == (9, errno.EPIPE)
    pair.own.streams.send_eof(stream)


@pytest.mark.parametrize("client", [True, False])
def test_the_first_stream(ends: Ends, client: bool) -> None:
    """The client opens number 0; a server waits for it, and does not get it from accept a second time."""
    pair = Pair(ends, client=client)
    if client:
        assert opened(pair.own.streams.try_main()).id == 0
        assert opened(pair.own.streams.try_main()).id == 0
    else:
        assert pair.own.streams.try_main() is LATER
        pair.peer.send_stream_data(0, b"first")
        pair.settle()
        assert opened(pair.own.streams.try_main()).id == 0
        assert pair.own.streams.try_accept(None) is LATER


def test_a_server_that_speaks_first(ends: Ends) -> None:
    """A client that only waits on the first stream lets the server know of it; the server's side finds it opened."""
    own = Pair(ends)
    assert opened(own.own.streams.try_main()).id == 0
    own.settle()
    own.peer.send_stream_data(0, b"welcome")
    own.settle()
    assert own.own.streams.try_receive(opened(own.own.streams.try_main()), 99) == b"welcome"
    with joined() as others:
        server = Pair(others, client=False)
        server.peer.send_stream_data(0, b"")
        server.peer._streams[0].max_stream_data_local_sent = 0
        server.settle()
        stream = opened(server.own.streams.try_main())
        server.own.streams.try_send(stream, memoryview(b"welcome"))
        server.settle()
        assert server.data(0) == b"welcome"


def test_streams_come_in_order(pair: Pair) -> None:
    """A stream opens those before it, which are accepted first, whatever arrives first."""
    for number, data in ((1, b""), (5, b""), (9, b"x")):
        pair.peer.send_stream_data(number, data)
    pair.settle()
    assert [opened(pair.own.streams.try_accept(None)).id for _ in range(3)] == [1, 5, 9]


def test_loss(pair: Pair) -> None:
    """Every third datagram is lost on the way, and all data arrives."""
    count = 0

    def every_third(datagram: bytes) -> bool:
        nonlocal count
        count += 1
        return count % 3 == 0

    pair.lose = every_third
    stream = opened(pair.own.streams.try_open(False))
    pair.own.streams.try_send(stream, memoryview(bytes(200_000)))
    pair.own.streams.send_eof(stream)
    pair.settle()  # or the first timer may be the idle timeout
    while pair.own.try_finished() is LATER:
        pair.now = max(pair.now, pair.own.timer() or 0)
        pair.settle()
    assert pair.data(stream.id) == bytes(200_000)
