"""Input that no honest peer sends: no crash, no state kept, and never more than three bytes for one that came."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import (
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.tls import Epoch

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AddressValidation, Admission
from hsframework_quic.aioquic_adapter.handshaking import MAX_CRYPTO, HandshakeConnection
from hsframework_quic.handshake.client import ClientHandshake
from hsframework_quic.handshake.handshake import Handshake
from hsframework_quic.handshake.packets import short_packet
from hsframework_quic.handshake.server import MAX_NEGOTIATIONS, ClientFacts, ServerHandshake
from hsframework_quic.port.gate import QuicGate
from hsframework_quic.session import MAX_PACKET_BYTES, VERSION_1, VERSION_2
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


def first_flight(settings: Settings | None = None) -> tuple[Ours, bytes]:
    """A client and the datagram that it begins with."""
    client = our_client(settings=settings)
    (datagram,) = client.output(START)
    return client, datagram


def connection_of(handshake: Handshake) -> HandshakeConnection | None:
    return handshake._connection


def initial(payload: bytes, *, size: int = 1200, version: int = VERSION_1, destination: bytes = b"12345678") -> bytes:
    """An Initial packet as a client would protect it, with any payload."""
    pair = CryptoPair()
    pair.setup_initial(cid=destination, is_client=True, version=version)
    builder = QuicPacketBuilder(
        host_cid=b"abcdefgh", peer_cid=destination, version=version, is_client=True, max_datagram_size=max(size, 1200)
    )
    builder.start_packet(QuicPacketType.INITIAL, pair)
    buffer = builder.start_frame(0x01)
    buffer.push_bytes(payload)
    datagrams, _ = builder.flush()
    return datagrams[0][:size]


def crypto(data: bytes, offset: int = 0) -> bytes:
    """A CRYPTO frame."""
    buffer = Buffer(capacity=len(data) + 32)
    buffer.push_uint8(0x06)
    buffer.push_uint_var(offset)
    buffer.push_uint_var(len(data))
    buffer.push_bytes(data)
    return buffer.data


class Meter:
    """A server, and what it was sent and has sent."""

    def __init__(self, settings: Settings | None = None, facts: ClientFacts | None = None) -> None:
        self.handshake = ServerHandshake(settings or Settings(), server_options(), facts or ClientFacts())
        self.received = self.sent = 0
        self.now = START

    def feed(self, datagram: bytes) -> None:
        self.received += len(datagram)
        self.handshake.receive(datagram, self.now)
        self.take()

    def take(self) -> None:
        self.sent += sum(map(len, self.handshake.output(self.now)))
        assert self.sent <= 3 * self.received

    def wait(self, seconds: float) -> None:
        """Let its timers run."""
        end = self.now + seconds
        while (at := self.handshake.timer()) is not None and at <= end:
            self.now = max(self.now, at)
            self.handshake.on_timer(self.now)
            self.take()
        self.now = end


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


def test_an_unknown_version_is_answered_within_bounds() -> None:
    """Version Negotiation for a datagram that could be an Initial, a few times; nothing for a small one."""
    settings = Settings(versions=("v2", "v1"))
    _, datagram = first_flight(settings)
    unknown = datagram[:1] + bytes.fromhex("1a2a3a4a") + datagram[5:]
    meter = Meter(settings)
    meter.feed(unknown[:1199])
    assert meter.sent == 0
    meter.received += len(unknown)
    meter.handshake.receive(unknown, START)
    (answer,) = meter.handshake.output(START)
    header = pull_quic_header(Buffer(data=answer))
    assert header.packet_type is QuicPacketType.VERSION_NEGOTIATION
    assert header.supported_versions == [VERSION_2, VERSION_1]
    assert connection_of(meter.handshake) is None
    for _ in range(20):
        meter.feed(unknown)
    assert meter.sent <= (MAX_NEGOTIATIONS - 1) * len(answer)


def test_version_negotiation_is_not_answered() -> None:
    """Nobody answers it (RFC 9000 section 6.1), or two would go on for ever."""
    meter = Meter()
    meter.feed(encode_quic_version_negotiation(b"12345678", b"abcdefgh", [VERSION_1] * 300))
    assert meter.sent == 0


def test_a_forged_retry_is_ignored() -> None:
    """A Retry whose tag is wrong, that echoes another id, or that comes twice; the handshake goes on without."""
    client, datagram = first_flight()
    header = pull_quic_header(Buffer(data=datagram))
    good = encode_quic_retry(VERSION_1, b"R" * 8, header.source_cid, header.destination_cid, b"token")
    spoilt = good[:-1] + bytes((good[-1] ^ 1,))
    elsewhere = encode_quic_retry(VERSION_1, b"R" * 8, b"else-id0", header.destination_cid, b"token")
    other_version = encode_quic_retry(VERSION_2, b"R" * 8, header.source_cid, header.destination_cid, b"token")
    empty = encode_quic_retry(VERSION_1, b"R" * 8, header.source_cid, header.destination_cid, b"")
    for forged in (spoilt, elsewhere, other_version, empty, good[:20]):
        client.receive(forged, START)
        assert client.output(START) == []
    server = our_server()
    server.receive(datagram, START)
    network = Network(client, server)
    assert network.run(lambda: client.session is not None)


def test_retry_repeats_the_client_hello() -> None:
    """RFC 9000 section 17.2.5.2: the same CRYPTO data with the token; a second Retry is ignored."""
    client, datagram = first_flight()
    header = pull_quic_header(Buffer(data=datagram))
    client.receive(encode_quic_retry(VERSION_1, b"R" * 8, header.source_cid, header.destination_cid, b"token"), START)
    (again,) = client.output(START)
    repeated = pull_quic_header(Buffer(data=again))
    assert (repeated.token, repeated.destination_cid) == (b"token", b"R" * 8)
    assert client_hello(again, b"R" * 8) == client_hello(datagram, header.destination_cid)
    client.receive(encode_quic_retry(VERSION_1, b"S" * 8, header.source_cid, b"R" * 8, b"other"), START)
    assert client.output(START) == []
    server = Ours(
        ServerHandshake(
            Settings(), server_options(), ClientFacts(original_destination_connection_id=header.destination_cid,
                                                retry_source_connection_id=b"R" * 8, address_validated=True)
        )
    )  # fmt: skip
    server.receive(again, START)
    network = Network(client, server)
    assert network.run(lambda: client.session is not None and server.session is not None)


def client_hello(datagram: bytes, destination: bytes) -> bytes:
    """The CRYPTO data of a client's Initial."""
    buffer = Buffer(data=datagram)
    header = pull_quic_header(buffer)
    pair = CryptoPair()
    pair.setup_initial(cid=destination, is_client=False, version=header.version or 0)
    _, payload, _ = pair.decrypt_packet(datagram[: header.packet_length], buffer.tell(), 0)
    frames = Buffer(data=payload)
    assert frames.pull_uint_var() == 0x06
    assert frames.pull_uint_var() == 0
    return frames.pull_bytes(frames.pull_uint_var())


def test_a_version_that_is_not_allowed_behind_a_retry() -> None:
    """The listener asks for proof in any version that it knows; neither side waits for its deadline then."""
    gate = QuicGate(AddressValidation.ALWAYS, random.Random(1).randbytes)
    client, datagram = first_flight()
    retry = gate.judge(datagram, "192.0.2.1:9", now=START, busy=False)
    assert isinstance(retry, bytes)
    client.receive(retry, START)
    (again,) = client.output(START)
    admission = gate.judge(again, "192.0.2.1:9", now=START, busy=False)
    assert isinstance(admission, Admission)
    known = {name.replace("-", "_"): value for name, value in admission.attributes.items()}
    server = Ours(ServerHandshake(Settings(versions=("v2",)), server_options(), ClientFacts(**known)))
    server.receive(again, START)
    (answer,) = server.output(START)
    assert len(answer) < len(again)
    client.receive(answer, START)
    for side, failure in ((client, Failure.PEER_REFUSED), (server, Failure.VERSION)):
        assert isinstance(side.handshake.error, HandshakeFailed)
        assert side.handshake.error.failure is failure


def test_forged_version_negotiation_is_ignored() -> None:
    """One that does not echo our destination, or names the version that we began with."""
    client, datagram = first_flight()
    header = pull_quic_header(Buffer(data=datagram))
    client.receive(encode_quic_version_negotiation(b"somebody", header.source_cid, [VERSION_2]), START)
    assert client.output(START) == []
    client.receive(encode_quic_version_negotiation(header.destination_cid, header.source_cid, [VERSION_1]), START)
    assert client.output(START) == []
    assert client.handshake.error is None


def test_a_downgrade_is_found_out() -> None:
    """A man in the middle says that the server has v2 alone: believed at first, refused once the server is heard."""
    client, datagram = first_flight()
    header = pull_quic_header(Buffer(data=datagram))
    client.receive(encode_quic_version_negotiation(header.destination_cid, header.source_cid, [VERSION_2]), START)
    (again,) = client.output(START)
    assert pull_quic_header(Buffer(data=again)).version == VERSION_2
    server = our_server()
    server.receive(again, START)
    network = Network(client, server)
    assert network.run(lambda: client.handshake.error is not None)
    assert isinstance(client.handshake.error, HandshakeFailed)
    assert client.handshake.error.failure is Failure.VERSION


def test_no_version_in_common() -> None:
    """EPROTONOSUPPORT at once."""
    client, server = our_client(settings=Settings(versions=("v2",))), our_server(Settings(versions=("v1",)))
    network = Network(client, server)
    assert network.run(lambda: client.handshake.error is not None, 2.0)
    assert client.handshake.error is not None
    assert client.handshake.error.errno == errno.EPROTONOSUPPORT


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
    """Datagrams of all kinds."""
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
    """With which the peer has closed the connection."""
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
    """A 1-RTT packet as this end would protect it."""
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
