"""The blocking connection over real sockets, with aioquic's own connection at the other end."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from hsframework.errors import StreamError
from hsframework.interface import Connection as ConnectionInterface, Stream
from hsframework_quic.consumer.blocking import QuicConnection
from hsframework_quic.consumer.connection import Connection
from hsframework_quic.consumer.endings import ConnectionEnded, Undelivered
from tests.unit.quic.echo_peer import EchoPeer
from tests.unit.quic.joined import Ends, joined, sockets

MIB = 1 << 20


@pytest.fixture
def ends() -> Iterator[Ends]:
    with joined() as both:
        yield both


@pytest.fixture
def peer(ends: Ends) -> Iterator[EchoPeer]:
    with EchoPeer(ends.server, ends.server_socket) as running:
        yield running


@pytest.fixture
def own(ends: Ends, peer: EchoPeer) -> Iterator[QuicConnection]:
    ends.client_socket.settimeout(20)
    with QuicConnection(Connection(ends.client), ends.client_socket) as connection:
        yield connection


def receive_all(stream: Stream) -> bytes:
    data = bytearray()
    while part := stream.receive():
        data += part
    return bytes(data)


def test_it_is_a_stream_and_a_connection(own: QuicConnection) -> None:
    """The interface's Connection, and with send, send_eof and receive a plain byte stream."""
    assert isinstance(own, ConnectionInterface)
    own.send(b"one stream")
    own.send_eof()
    assert receive_all(own) == b"one stream"


def test_one_mebibyte_each_way(own: QuicConnection) -> None:
    """A thread sends while another receives."""
    sent = os.urandom(MIB)

    def send() -> None:
        own.send(sent)
        own.send_eof()

    thread = threading.Thread(target=send)
    own.send(b"")
    thread.start()
    received = receive_all(own)
    thread.join()
    assert received == sent


def test_one_mebibyte_through_loss(own: QuicConnection, peer: EchoPeer) -> None:
    """Every seventh datagram that we send is lost, and everything arrives."""
    peer.drop_every = 7
    test_one_mebibyte_each_way(own)


def test_streams_from_many_threads(own: QuicConnection) -> None:
    """Ten threads, a stream each, one connection."""
    results: dict[int, bool] = {}

    def converse(number: int) -> None:
        data = os.urandom(50_000)
        with own.open_stream() as stream:
            stream.send(data)
            stream.send_eof()
            results[number] = receive_all(stream) == data

    threads = [threading.Thread(target=converse, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(range(10), True)


def test_unidirectional_streams(own: QuicConnection) -> None:
    """Data on one of ours comes back on one of the peer's."""
    with own.open_stream(unidirectional=True) as stream:
        stream.send(b"one way")
    incoming = own.accept_stream(unidirectional=True)
    assert incoming is not None
    assert (incoming.id, receive_all(incoming)) == (3, b"one way")


def test_datagrams(own: QuicConnection) -> None:
    """There and back."""
    own.send_datagram(b"unreliable")
    assert own.receive_datagram() == b"unreliable"


def test_key_updates_of_both_sides(own: QuicConnection, peer: EchoPeer) -> None:
    """Ours, theirs, and data under each."""
    for _ in range(3):
        own.update_keys()
        own.send_datagram(b"ours")
        assert own.receive_datagram() == b"ours"
    peer.ask("keys")
    own.ping()
    own.send_datagram(b"theirs")
    assert own.receive_datagram() == b"theirs"


def test_close_delivers_first(own: QuicConnection, peer: EchoPeer) -> None:
    """Data sent before close arrives, and then code 0; the owner's socket stays open."""
    peer.drop_every, peer.drop_until = 3, 60
    own.send(bytes(100_000))
    own.close()
    assert peer.wait().error_code == 0
    assert peer.quic._streams == {} or peer.quic._streams[0].receiver.is_finished
    assert own.socket.fileno() >= 0
    own.close()
    with pytest.raises(ConnectionEnded) as caught:
        own.send(b"x")
    assert caught.value.errno == errno.EBADF


def test_close_says_what_was_not_delivered(own: QuicConnection, peer: EchoPeer, no_patience: None) -> None:
    """A peer that acknowledges nothing more: an error with the number of bytes, and everything is released."""
    own.send(b"first")
    assert own.receive() == b"first"
    peer.drop_every = 1
    own.send(bytes(100_000))
    with pytest.raises(Undelivered, match="100000 bytes were not delivered") as caught:
        own.close()
    assert (caught.value.size, caught.value.errno) == (100_000, errno.ETIMEDOUT)
    own.close()


def test_an_error_of_the_block_goes_before_one_of_its_end(
    own: QuicConnection, peer: EchoPeer, no_patience: None
) -> None:
    """Leaving the block raises Undelivered, unless the block itself has raised."""
    peer.drop_every = 1
    with pytest.raises(ZeroDivisionError), own:
        own.send(b"lost")
        raise ZeroDivisionError


def test_close_with_a_code(own: QuicConnection, peer: EchoPeer) -> None:
    """Code and reason reach the peer."""
    own.send(b"x")
    own.close(42, "because")
    event = peer.wait()
    assert (event.error_code, event.reason_phrase) == (42, "because")


def test_the_peer_closes(own: QuicConnection, peer: EchoPeer) -> None:
    """A call that waits learns of it at once."""
    own.send(b"x")
    assert own.receive() == b"x"
    peer.ask("close 7 reason")
    with pytest.raises(ConnectionEnded, match="reason") as caught:
        own.receive()
    assert caught.value.ending.code == 7


def test_the_peer_is_gone(own: QuicConnection, peer: EchoPeer) -> None:
    """Its port answers that nobody listens: ECONNREFUSED once the probes have said so."""
    peer.ask("die")
    peer._thread.join()
    own.send(b"is anybody there")
    with pytest.raises(ConnectionEnded) as caught:
        own.receive()
    assert caught.value.errno == errno.ECONNREFUSED


def test_timeouts(own: QuicConnection) -> None:
    """A socket's timeout ends a wait; non-blocking means BlockingIOError; the connection lives on."""
    own.socket.settimeout(0.05)
    with pytest.raises(TimeoutError):
        own.receive_datagram()
    own.socket.settimeout(0)
    with pytest.raises(BlockingIOError):
        own.receive_datagram()
    own.socket.settimeout(20)
    own.ping()


def test_work_without_data(own: QuicConnection) -> None:
    """``run`` keeps a connection alive for which the application has nothing."""
    own.keep_alive(0.01)
    own.run(0.1)
    assert own.ending is None
    own.ping()


def test_a_waiting_thread_hears_of_close(own: QuicConnection) -> None:
    """Closing in one thread ends the wait of another."""
    caught: list[StreamError] = []
    started = threading.Event()

    def wait() -> None:
        started.set()
        try:
            own.receive_datagram()
        except StreamError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    started.wait()
    own.close()
    thread.join(20)
    assert [error.errno for error in caught] == [errno.EBADF]


def test_no_descriptor_is_left(ends: Ends, peer: EchoPeer) -> None:
    """Closed or forgotten, a connection leaves no open file behind."""

    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = count()
    own = QuicConnection(Connection(ends.client), ends.client_socket)
    assert count() > before
    own.close()
    assert count() == before
    own = QuicConnection(Connection(ends.client), ends.client_socket)
    del own
    assert count() == before


def test_the_wrong_socket(ends: Ends) -> None:
    """A socket that is not connected, or no datagram socket, is refused with what is wanted."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        pytest.raises(StreamError, match="connected UDP") as caught,
    ):
        QuicConnection(Connection(ends.client), sock)
    assert caught.value.errno == errno.ENOTCONN
    one, other = socket.socketpair()
    with one, other, pytest.raises(StreamError, match="not a datagram"):
        QuicConnection(Connection(ends.client), one)


def test_ipv6() -> None:
    """Sockets of the other family."""
    one, other = sockets("::1")
    with (
        one,
        other,
        joined() as ends,
        EchoPeer(ends.server, other),
        QuicConnection(Connection(ends.client), one) as own,
    ):
        own.send(b"six")
        assert own.receive() == b"six"
