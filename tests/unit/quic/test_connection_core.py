"""The consumer's connection without I/O, against aioquic's own connection at the other end."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from aioquic.quic import events
from aioquic.quic.connection import QuicConnection

from hsframework.errors import StreamError
from hsframework_quic.consumer import connection as core
from hsframework_quic.consumer.endings import ConnectionEnded
from hsframework_quic.consumer.later import LATER
from tests.unit.quic.joined import Ends, client_configuration, joined
from tests.unit.quic.pair import Pair, opened


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


def test_closing_goes_on_while_the_peer_acknowledges(pair: Pair) -> None:
    """Fewer bytes left than before: wait on; all acknowledged: finished; nothing moved: later."""
    stream = opened(pair.own.streams.try_open(False))
    pair.own.streams.try_send(stream, memoryview(bytes(200_000)))
    before = pair.own.undelivered()
    assert before == 200_000
    assert pair.own.try_finished(before) is LATER
    for data in pair.own.output(pair.now):
        pair.peer.receive_datagram(data, pair.address, pair.now)
    pair.now += 0.03
    pair.run_peer()
    for data, _ in pair.peer.datagrams_to_send(pair.now):
        pair.own.receive(data, pair.now)
    assert 0 < pair.own.undelivered() < before
    assert pair.own.try_finished(before) is False
    pair.settle()
    assert pair.own.try_finished(before) is True
    pair.own.check_delivered()


def first_flight() -> bytes:
    """Return a new client's first datagram."""
    newcomer = QuicConnection(configuration=client_configuration())
    newcomer.connect(("192.0.2.1", 4433), 0.0)
    return newcomer.datagrams_to_send(0.0)[0][0]


def test_a_peer_that_died_makes_room_for_its_successor(ends: Ends) -> None:
    """A new client writes from its address: it is asked for a sign of life, and gives none."""
    pair = Pair(ends, client=False)
    pair.settle()
    pair.own.receive(first_flight(), pair.now)
    asked = pair.own.output(pair.now)
    assert asked
    pair.own.receive(first_flight(), pair.now)
    assert pair.own.output(pair.now) == []
    due = pair.own.timer()
    while pair.own.ending is None:
        assert due is not None
        pair.now = max(pair.now, due)
        pair.own.on_timer(pair.now)
        pair.own.output(pair.now)
        due = pair.own.timer()
    assert pair.own.ending.errno == errno.ECONNRESET
    assert not pair.own.ending.orderly
    assert "new client" in str(pair.own.ending)


def test_a_living_peer_keeps_its_connection(ends: Ends) -> None:
    """It acknowledges, however often others write from its address; a client asks nobody."""
    pair = Pair(ends, client=False)
    for _ in range(3):
        pair.own.receive(first_flight(), pair.now)
        pair.settle()
        pair.now += 10
        pair.settle()
    assert pair.own.ending is None
    stream = opened(pair.own.streams.try_open(False))
    pair.own.streams.try_send(stream, memoryview(b"still here"))
    pair.settle()
    assert pair.data(stream.id) == b"still here"


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


def test_what_the_adapter_leans_on() -> None:
    """aioquic still writes its limits in the two methods that the adapter stands before."""
    assert callable(QuicConnection._write_stream_limits)
    assert callable(QuicConnection._write_connection_limits)
