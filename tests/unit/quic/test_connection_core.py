"""The consumer's connection without I/O, against aioquic's own connection at the other end."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aioquic.quic import events
from aioquic.quic.connection import QuicConnection

from hsframework.errors import StreamError
from hsframework_quic.consumer import connection as core
from hsframework_quic.consumer.connection import Connection
from hsframework_quic.consumer.endings import ConnectionEnded, StreamAborted
from hsframework_quic.consumer.later import LATER
from hsframework_quic.consumer.stream_state import StreamState
from hsframework_quic.consumer.streams import MAX_UNACCEPTED, SEND_BUFFER
from tests.unit.quic.joined import Ends, joined

MIB = 1 << 20


class Pair:
    """Our connection and aioquic's, with a clock of their own that only moves when it is told to."""

    def __init__(self, ends: Ends, *, client: bool = True) -> None:
        self.now = time.monotonic()
        own, self.peer = (ends.client, ends.server) if client else (ends.server, ends.client)
        self.own = Connection(own)
        self.address = self.peer.get_peer_address()
        self.events: list[events.QuicEvent] = []
        self.lose: Callable[[bytes], bool] = lambda datagram: False

    def settle(self) -> None:
        """Carry datagrams, and let delayed acknowledgements run off, until neither side has anything more to send."""
        while True:
            self.now += 0.03
            if (due := self.own.timer()) is not None and due <= self.now:
                self.own.on_timer(self.now)
            self.run_peer()
            out = self.own.output(self.now)
            for data in out:
                if not self.lose(data):
                    self.peer.receive_datagram(data, self.address, self.now)
            while (event := self.peer.next_event()) is not None:
                self.events.append(event)
            back = [data for data, _ in self.peer.datagrams_to_send(self.now)]
            for data in back:
                self.own.receive(data, self.now)
            if not out and not back:
                return

    def run_peer(self) -> None:
        if (due := self.peer.get_timer()) is not None and due <= self.now:
            self.peer.handle_timer(self.now)

    def got(self, kind: type[Any]) -> list[Any]:
        """Events of one kind at the peer."""
        return [event for event in self.events if isinstance(event, kind)]

    def data(self, stream_id: int) -> bytes:
        return b"".join(event.data for event in self.got(events.StreamDataReceived) if event.stream_id == stream_id)


@pytest.fixture
def ends() -> Iterator[Ends]:
    with joined() as both:
        yield both


@pytest.fixture
def pair(ends: Ends) -> Pair:
    return Pair(ends)


def opened(result: object) -> StreamState:
    assert isinstance(result, StreamState)
    return result


def test_both_ways(pair: Pair) -> None:
    """What is sent on a stream comes out at the peer in order with its end, and the other way round."""
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


def test_a_peer_waits_for_the_application() -> None:
    """What nobody reads stays within the window; reading opens it again, and everything arrives."""
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


def test_datagrams(pair: Pair) -> None:
    """Both ways, up to the size that fits; one byte more is EMSGSIZE."""
    size = pair.own.max_datagram_size
    assert size is not None
    assert pair.own.try_send_datagram(bytes(size)) is True
    with pytest.raises(StreamError) as caught:
        pair.own.try_send_datagram(bytes(size + 1))
    assert caught.value.errno == errno.EMSGSIZE
    pair.peer.send_datagram_frame(b"to us")
    pair.settle()
    assert pair.got(events.DatagramFrameReceived)[0].data == bytes(size)
    assert pair.own.try_receive_datagram() == b"to us"
    assert pair.own.try_receive_datagram() is LATER


def test_datagrams_that_nobody_takes(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are dropped, and our own wait when the peer does not let them out."""
    monkeypatch.setattr(core, "MAX_DATAGRAMS", 3)
    for number in range(5):
        pair.peer.send_datagram_frame(bytes([number]))
        pair.settle()
    assert [pair.own.try_receive_datagram() for _ in range(3)] == [b"\2", b"\3", b"\4"]
    for _ in range(3):
        assert pair.own.try_send_datagram(b"x") is True
    assert pair.own.try_send_datagram(b"x") is LATER


def test_a_peer_without_datagrams() -> None:
    """EOPNOTSUPP, and nothing is sent that would end the connection."""
    with joined(server_options={"max_datagram_frame_size": None}) as ends:
        pair = Pair(ends)
        assert pair.own.max_datagram_size is None
        with pytest.raises(StreamError) as caught:
            pair.own.try_send_datagram(b"x")
    assert caught.value.errno == errno.EOPNOTSUPP


def test_key_updates(pair: Pair) -> None:
    """One after the other: a second waits for the first to be acknowledged; data flows under each."""
    stream = opened(pair.own.streams.try_open(False))
    for number in range(3):
        assert pair.own.try_update_keys() is True
        assert pair.own.try_update_keys() is LATER
        pair.own.streams.try_send(stream, memoryview(b"%d" % number))
        pair.settle()
    pair.peer.request_key_update()
    pair.peer.send_stream_data(stream.id, b"back")
    pair.settle()
    assert pair.data(stream.id) == b"012"
    assert pair.own.streams.try_receive(stream, 9) == b"back"


def test_a_key_update_waits_for_that_of_the_peer(pair: Pair) -> None:
    """RFC 9001 section 6.1: the peer has changed the keys, and nothing that we sent under them is acknowledged yet."""
    for _ in range(2):
        pair.peer.request_key_update()
        pair.peer.send_ping(1)
        for data, _ in pair.peer.datagrams_to_send(pair.now):
            pair.own.receive(data, pair.now)
        assert pair.own.try_update_keys() is LATER
        pair.settle()
        assert pair.own.try_update_keys() is True
        pair.settle()
    assert pair.own.ending is None


def test_keys_change_by_themselves(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before the cipher's limit, with no call of the application's."""
    monkeypatch.setattr(core, "PACKETS_PER_KEY", 50)
    stream = opened(pair.own.streams.try_open(False))
    before = pair.peer._cryptos[_one_rtt()].recv.key_phase
    for _ in range(4):
        pair.own.streams.try_send(stream, memoryview(bytes(40_000)))
        pair.settle()
    phases = pair.own._quic._cryptos[_one_rtt()]
    assert pair.own._packets < 150
    assert pair.data(stream.id) == bytes(160_000)
    assert before == 0
    assert phases.send.key_phase == pair.peer._cryptos[_one_rtt()].recv.key_phase


def _one_rtt() -> Any:
    from aioquic.tls import Epoch

    return Epoch.ONE_RTT


def test_ping_and_keep_alive(pair: Pair) -> None:
    """An acknowledged PING is told once; with keep-alive a silent connection outlives its idle timeout."""
    number = pair.own.ping()
    assert pair.own.try_answered(number) is LATER
    pair.settle()
    assert pair.own.try_answered(number) is True
    pair.own.keep_alive(20.0)
    for _ in range(20):
        pair.now += 20.0
        pair.settle()
    assert pair.own.ending is None


def test_idle_timeout(pair: Pair) -> None:
    """A peer that is silent for too long: ETIMEDOUT, everywhere."""
    pair.now += 61
    pair.own.on_timer(pair.now)
    with pytest.raises(ConnectionEnded) as caught:
        pair.own.streams.try_accept(None)
    assert caught.value.errno == errno.ETIMEDOUT
    assert pair.own.output(pair.now) == []
    assert pair.own.timer() is None


def test_our_close(pair: Pair) -> None:
    """The peer is told code and reason; what is tried afterwards is EBADF."""
    pair.own.close(5, "enough")
    pair.settle()
    pair.now += 60
    pair.settle()
    (event,) = pair.got(events.ConnectionTerminated)
    assert (event.error_code, event.reason_phrase, event.frame_type) == (5, "enough", None)
    with pytest.raises(ConnectionEnded) as caught:
        pair.own.streams.try_open(False)
    assert caught.value.errno == errno.EBADF


def test_their_close(pair: Pair) -> None:
    """Known at once and not after the draining period.

    What came before can be read, then code and reason are raised.
    """
    stream = opened(pair.own.streams.try_open(False))
    pair.own.streams.try_send(stream, memoryview(b"x"))
    pair.settle()
    pair.peer.send_stream_data(stream.id, b"last words")
    pair.settle()
    pair.peer.close(0x1234, reason_phrase="tired\n")
    for data, _ in pair.peer.datagrams_to_send(pair.now):
        pair.own.receive(data, pair.now)
    assert pair.own.streams.try_receive(stream, 99) == b"last words"
    with pytest.raises(ConnectionEnded) as caught:
        pair.own.streams.try_receive(stream, 99)
    ending = caught.value.ending
    assert (ending.code, ending.reason, ending.application, ending.by_peer) == (0x1234, "tired\n", True, True)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConnectionEnded):
        pair.own.streams.try_accept(None)


def test_an_orderly_end_of_accepting(pair: Pair) -> None:
    """A peer that closes with code 0 ends the loop that accepts its streams; a stream without its end is an error."""
    stream = opened(pair.own.streams.try_open(False))
    pair.own.streams.try_send(stream, memoryview(b"x"))
    pair.settle()
    pair.peer.close()
    for data, _ in pair.peer.datagrams_to_send(pair.now):
        pair.own.receive(data, pair.now)
    assert pair.own.streams.try_accept(None) is None
    with pytest.raises(ConnectionEnded):
        pair.own.streams.try_receive(stream, 1)


def test_stateless_reset(pair: Pair) -> None:
    """The token of the connection id in use ends the connection at once; any other tail does not."""
    token = pair.own._inside.reset_token
    assert len(token) == 16
    pair.own.receive(b"\x40" + bytes(30) + bytes(16), pair.now)
    pair.own.receive(b"\x40" + token, pair.now)  # 17 bytes: too short for one
    assert pair.own.ending is None
    pair.own.receive(b"\x40" + bytes(30) + token, pair.now)
    with pytest.raises(ConnectionEnded, match="stateless reset") as caught:
        pair.own.streams.try_open(False)
    assert caught.value.errno == errno.ECONNRESET
    assert pair.own.output(pair.now) == []


def test_a_peer_that_breaks_the_protocol(pair: Pair) -> None:
    """EPROTO here, and the peer is told."""
    pair.peer._handshake_done_pending = False
    pair.peer._remote_max_streams_bidi = 1 << 20
    pair.peer.send_stream_data(4 * 5000 + 1, b"beyond every limit")
    pair.settle()
    with pytest.raises(ConnectionEnded) as caught:
        pair.own.streams.try_open(False)
    assert caught.value.errno == errno.EPROTO
    pair.now += 60
    pair.settle()
    assert pair.got(events.ConnectionTerminated)[0].error_code == 4


@pytest.mark.parametrize("where", ["receive_datagram", "datagrams_to_send", "handle_timer"])
def test_a_fault_within_aioquic(pair: Pair, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """EIO to whoever waits, and the peer is told; what is the fault's own text stays out of it."""

    def fail(*_: object, **__: object) -> None:
        raise KeyError("secret")

    with monkeypatch.context() as patch:
        patch.setattr(pair.own._quic, where, fail)
        pair.peer.send_ping(1)
        (datagram, _), *_ = pair.peer.datagrams_to_send(pair.now)
        pair.own.receive(datagram, pair.now)
        pair.own.output(pair.now)
        pair.own.on_timer(pair.own.timer() or pair.now)
    assert pair.own.timer() is None
    with pytest.raises(ConnectionEnded, match="KeyError") as caught:
        pair.own.streams.try_open(False)
    assert caught.value.errno == errno.EIO
    assert "secret" not in str(caught.value)
    pair.settle()
    pair.now += 60
    pair.run_peer()
    pair.settle()
    assert pair.got(events.ConnectionTerminated)[0].error_code == 1


def test_a_port_where_nobody_listens(pair: Pair) -> None:
    """One ICMP message may be left over; several without a datagram between them mean that the peer is gone."""
    for _ in range(2):
        pair.own.refused()
    pair.peer.send_ping(1)
    pair.settle()
    for _ in range(2):
        pair.own.refused()
    assert pair.own.ending is None
    pair.own.refused()
    with pytest.raises(ConnectionEnded) as caught:
        pair.own.streams.try_open(False)
    assert caught.value.errno == errno.ECONNREFUSED


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


def test_what_the_adapter_leans_on() -> None:
    """aioquic still writes its limits in the two methods that the adapter stands before."""
    assert callable(QuicConnection._write_stream_limits)
    assert callable(QuicConnection._write_connection_limits)
