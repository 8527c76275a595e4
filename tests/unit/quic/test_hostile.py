"""Input that no honest peer sends: no crash, no state kept, and never more than three bytes for one that came."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.tls import Epoch

from hsframework.failures import Failure, HandshakeFailed
from hsframework_quic.aioquic_adapter.handshaking import MAX_CRYPTO
from hsframework_quic.handshake.client import ClientHandshake
from hsframework_quic.handshake.packets import short_packet
from hsframework_quic.handshake.server import ClientFacts, ServerHandshake
from hsframework_quic.session import MAX_PACKET_BYTES, VERSION_1
from hsframework_quic.settings import Settings
from tests.support.quic_network import (
    START,
    Network,
    Ours,
    bare_server,
    client_options,
    our_client,
    our_server,
    server_options,
)
from tests.unit.quic.hostile import Meter, connection_of, crypto, first_flight, initial


def test_truncated_initials() -> None:
    """A first datagram cut anywhere begins nothing and is answered by nothing; the whole one works afterwards."""
    _, datagram = first_flight()
    for size in [*range(64), *range(64, len(datagram), 37)]:
        meter = Meter()
        meter.feed(datagram[:size])
        assert connection_of(meter.handshake) is None
        assert meter.sent == 0
        meter.feed(datagram)
        assert meter.sent > 0


def test_an_initial_that_does_not_decrypt() -> None:
    """A bit changed anywhere in the protected part: nothing is answered, and the right one still works."""
    _, datagram = first_flight()
    meter = Meter()
    for position in range(40, pull_quic_header(Buffer(data=datagram)).packet_length, 53):
        spoilt = bytearray(datagram)
        spoilt[position] ^= 0x10
        meter.feed(bytes(spoilt))
        assert meter.handshake.error is None
        connection = connection_of(meter.handshake)
        assert connection is None or not connection.begun
    meter.feed(datagram)
    assert meter.sent > 0


def test_a_short_destination_begins_nothing() -> None:
    """RFC 9000 section 7.2: at least 8 bytes."""
    meter = Meter()
    meter.feed(initial(crypto(b"x" * 300), destination=b"1234567"))
    assert connection_of(meter.handshake) is None


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (crypto(b"\x02\0\0\x04abcd"), errno.EPROTO),
        (crypto(b"\x01\0\0\x04abcd"), errno.EPROTO),
        (crypto(b"\x01\xff\xff\xff"), errno.EPROTO),
        (crypto(b"x", offset=MAX_CRYPTO), errno.EPROTO),
        (crypto(b"x", offset=(1 << 62) - 1), errno.EPROTO),
        (b"\x08\x00abc", errno.EPROTO),
        (b"\x1e" + crypto(b"a"), errno.EPROTO),
        (b"\x40\x99", errno.EPROTO),
        (b"\x06\x00\x7f\xff", errno.EPROTO),
    ],
    ids=[
        "ServerHello",
        "garbage",
        "huge message",
        "far offset",
        "overflow",
        "STREAM",
        "DONE",
        "unknown frame",
        "cut off",
    ],
)
def test_initials_with_bad_frames(payload: bytes, expected: int) -> None:
    """Refused with an errno and a CONNECTION_CLOSE, within the limit."""
    meter = Meter()
    meter.feed(initial(payload))
    assert meter.handshake.error is not None
    assert meter.handshake.error.errno == expected
    assert 0 < meter.sent < 200
    meter.wait(60)


def test_amplification() -> None:
    """A client that sends one Initial and never anything else: retransmission and close stay below the limit."""
    _, datagram = first_flight()
    meter = Meter()
    meter.feed(datagram)
    meter.wait(30)
    meter.handshake.abort(Failure.SILENCE)
    meter.take()
    assert meter.received == 1200
    for _ in range(3):
        meter.feed(datagram)
        meter.wait(10)


def test_a_validated_address_is_not_limited() -> None:
    """With a token the first flight may be larger than three times what came (RFC 9000 section 8.1.2)."""
    _, datagram = first_flight()
    header = pull_quic_header(Buffer(data=datagram))
    facts = ClientFacts(
        original_destination_connection_id=b"original", retry_source_connection_id=header.destination_cid
    )
    limited = ServerHandshake(Settings(), server_options(), facts)
    validated = ServerHandshake(Settings(), server_options(), ClientFacts(address_validated=True))
    for handshake in (limited, validated):
        handshake.receive(datagram, START)
        connection = connection_of(handshake)
        assert connection is not None
        assert connection._network_paths[0].is_validated is (handshake is validated)


def junk() -> Iterator[bytes]:
    """Yield datagrams of all kinds."""
    chance = random.Random(42)
    for size in (0, 1, 5, 20, 21, 100, 1200, 1452, 65000):
        for first in (0x00, 0x40, 0x80, 0xC0, 0xFF):
            yield bytes((first,)) + chance.randbytes(size)
            yield (bytes((first,)) + bytes.fromhex("00000001") + chance.randbytes(size))[: size + 1]


def test_junk_in_every_state() -> None:
    """Random datagrams before each honest one: the handshake completes, and no junk reaches the consumer."""
    client, server = our_client(), our_server()
    heap = list(junk())

    def tap(source: object, datagram: bytes) -> bytes:
        for item in heap:
            for side in (client, server):
                if side.quic is None:
                    side.receive(item, network.now)
        return datagram

    network = Network(client, server, tap=tap)
    assert network.run(lambda: client.session is not None and server.session is not None)
    assert client.session is not None
    assert server.session is not None
    assert len(client.session.packets) + len(server.session.packets) <= 2


def test_a_flood_of_packets_that_cannot_be_read_yet() -> None:
    """1-RTT packets to the right id before the keys are there: kept within a bound, and dropped as junk."""
    client, datagram = first_flight()
    server = our_server()
    server.receive(datagram, START)
    flight = server.output(START)
    connection = connection_of(server.handshake)
    assert connection is not None
    chance = random.Random(7)
    for _ in range(500):
        server.receive(b"\x40" + connection.host_cid + chance.randbytes(1100), START)
    assert sum(map(len, server.handshake._kept.all)) <= MAX_PACKET_BYTES
    for item in flight:
        client.receive(item, START)
    network = Network(client, server)
    assert network.run(lambda: server.session is not None)
    assert server.session is not None
    assert server.session.packets == ()


def test_a_stateless_reset_ends_the_handshake() -> None:
    """A server that has lost its state after its first flight (RFC 9000 section 10.3): ECONNRESET, not the deadline."""
    client, datagram = first_flight()
    server = our_server()
    server.receive(datagram, START)
    for item in server.output(START):
        client.receive(item, START)
    connection = connection_of(client.handshake)
    assert connection is not None
    client.receive(b"\x41" + bytes(30) + connection.reset_token, START)
    assert isinstance(client.handshake.error, HandshakeFailed)
    assert client.handshake.error.failure is Failure.PEER_GONE


def test_data_of_a_peer_that_floods_is_bounded() -> None:
    """A server that sends 1-RTT data without end before HANDSHAKE_DONE: what is kept, and a session, stay bounded."""
    client, server = our_client(), our_server()
    network = Network(
        client, server, tap=lambda source, item: None if source is server and not _is_long(item) else item
    )
    assert network.run(lambda: server.session is not None)
    assert server.quic is not None
    server.quic.send_stream_data(1, bytes(500_000))
    network.tap = lambda source, item: item
    assert network.run(lambda: client.session is not None)
    assert client.session is not None
    assert sum(map(len, client.session.packets)) <= MAX_PACKET_BYTES
    assert network.run(lambda: len(client.received) == 500_000)


def test_an_error_is_told_to_the_peer() -> None:
    """The alert travels as 0x100 + alert, and the peer's errno is EACCES."""
    client = Ours(ClientHandshake(Settings(), client_options(alpn=("other",)), START))
    server = our_server()
    network = Network(client, server)
    assert network.run(lambda: client.handshake.error is not None and server.handshake.error is not None)
    assert isinstance(client.handshake.error, HandshakeFailed)
    assert isinstance(server.handshake.error, HandshakeFailed)
    assert server.handshake.error.failure is Failure.NO_COMMON_ALPN
    assert (client.handshake.error.failure, client.handshake.error.peer_alert) == (Failure.PEER_REFUSED, 120)


@pytest.mark.parametrize("step", range(1, 4))
def test_a_withdrawn_request_is_told_to_the_peer(step: int) -> None:
    """user_canceled, in packets that the peer can read, whenever it happens."""
    client, server = our_client(), our_server()
    network = Network(client, server)
    assert network.run(lambda: network.carried == step)
    client.handshake.abort(Failure.CANCELLED)
    assert network.run(lambda: 0x15A in codes_heard_by(server), 3.0)


def codes_heard_by(side: Ours) -> set[int]:
    """Return the codes with which the peer has closed the connection."""
    error = side.handshake.error
    told = {0x100 + error.peer_alert} if isinstance(error, HandshakeFailed) and error.peer_alert is not None else set()
    return told | {event.error_code for event in side.events if isinstance(event, ConnectionTerminated)}


@pytest.mark.parametrize("behind", [b"\x1e", b"\x1d\x00\x00"], ids=["HANDSHAKE_DONE", "CONNECTION_CLOSE"])
def test_a_handshake_that_has_failed_does_not_finish(behind: bytes) -> None:
    """A server breaks TLS in one 1-RTT packet and confirms the handshake in the next, both ahead of its flight."""
    client = our_client(keep=lambda session: None)
    (hello,) = client.output(START)
    server = bare_server(pull_quic_header(Buffer(data=hello)).destination_cid)
    server.receive(hello, START)
    flight = server.output(START)
    for datagram in (one_rtt(server.quic, 50, crypto(b"\x18\0\0\x01\0")), one_rtt(server.quic, 51, behind), *flight):
        client.handshake.receive(datagram, START)
    assert isinstance(client.handshake.error, HandshakeFailed)
    assert client.handshake.error.failure is Failure.UNEXPECTED_MESSAGE
    assert not client.handshake.finished


def one_rtt(quic: QuicConnection, number: int, payload: bytes) -> bytes:
    """Make a 1-RTT packet as this end would protect it."""
    builder = QuicPacketBuilder(
        host_cid=quic.host_cid,
        peer_cid=quic._peer_cid.cid,
        version=VERSION_1,
        is_client=False,
        max_datagram_size=1200,
        packet_number=number,
    )
    builder.start_packet(QuicPacketType.ONE_RTT, quic._cryptos[Epoch.ONE_RTT])
    builder.start_frame(0x01).push_bytes(payload)
    (datagram,), _ = builder.flush()
    return datagram


def test_the_tail_of_a_datagram() -> None:
    """The 1-RTT packet behind long headers is found, and nothing in what is cut off."""
    _, datagram = first_flight()
    assert short_packet(b"") == b""
    assert short_packet(datagram) == b""
    assert short_packet(datagram + b"\x40tail") in (b"\x40tail", b"")
    assert short_packet(b"\x41" + bytes(20)) == b"\x41" + bytes(20)
    for size in range(60):
        assert short_packet(datagram[:size]) == b""


def _is_long(datagram: bytes) -> bool:
    return bool(datagram[0] & 0x80)
