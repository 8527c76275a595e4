"""The one packet that a server sends to a client without keeping a connection: an Initial that closes."""

from __future__ import annotations

from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE
from aioquic.quic.connection import TRANSPORT_CLOSE_FRAME_CAPACITY
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder


def encode_close(version: int, destination: bytes, source: bytes, code: int) -> bytes:
    """Return the answer to an Initial with these connection ids: CONNECTION_CLOSE with a transport error code."""
    crypto = CryptoPair()
    # The keys follow from the connection id that the client chose (RFC 9001 section 5.2).
    crypto.setup_initial(cid=destination, is_client=False, version=version)
    builder = QuicPacketBuilder(
        host_cid=destination,
        is_client=False,
        max_datagram_size=SMALLEST_MAX_DATAGRAM_SIZE,
        peer_cid=source,
        version=version,
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    frame = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=TRANSPORT_CLOSE_FRAME_CAPACITY)
    for value in (code, QuicFrameType.PADDING, 0):
        frame.push_uint_var(value)
    datagrams, _ = builder.flush()
    return datagrams[0]
