"""Datagrams that no honest peer sends, and a server that counts the bytes of its answers."""

from __future__ import annotations

from aioquic.buffer import Buffer
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder

from hsframework_quic.aioquic_adapter.handshaking import HandshakeConnection
from hsframework_quic.handshake.handshake import Handshake
from hsframework_quic.handshake.server import ClientFacts, ServerHandshake
from hsframework_quic.session import VERSION_1
from hsframework_quic.settings import Settings
from tests.support.quic_network import START, Ours, our_client, server_options


def first_flight(settings: Settings | None = None) -> tuple[Ours, bytes]:
    """Make a client, and return it with the datagram that it begins with."""
    client = our_client(settings=settings)
    (datagram,) = client.output(START)
    return client, datagram


def connection_of(handshake: Handshake) -> HandshakeConnection | None:
    return handshake._connection


def initial(payload: bytes, *, size: int = 1200, version: int = VERSION_1, destination: bytes = b"12345678") -> bytes:
    """Make an Initial packet as a client would protect it, with any payload."""
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
    """Make a CRYPTO frame."""
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
