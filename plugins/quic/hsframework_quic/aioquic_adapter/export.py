"""Export of a handshake's connection as a session: the counterpart of :mod:`.restore`."""

from __future__ import annotations

from typing import Any

from aioquic.quic.connection import QuicConnectionId
from aioquic.quic.packet_builder import QuicSentPacket
from aioquic.tls import Direction, Epoch

from hsframework.interface import Role, Secret
from hsframework_quic.aioquic_adapter.handshaking import HandshakeConnection
from hsframework_quic.session import (
    CRYPTO,
    HANDSHAKE_DONE,
    PING,
    ConnectionId,
    Frame,
    QuicSession,
    RoundTripTime,
    SentPacket,
    Ticket,
)


def export(connection: HandshakeConnection, packets: tuple[bytes, ...], ticket: Ticket | None) -> QuicSession:
    """Return the session of a connection whose handshake is complete; after that, the connection is unused.

    ``packets``: 1-RTT packets of the peer that were kept for the consumer.
    """
    is_client = connection.configuration.is_client
    ours, theirs = Secret(connection.secrets[Direction.ENCRYPT]), Secret(connection.secrets[Direction.DECRYPT])
    schedule = connection.tls.key_schedule
    assert schedule is not None
    assert connection.tls.client_random is not None
    space = connection._spaces[Epoch.ONE_RTT]
    frames = _Frames(connection)
    return QuicSession(
        role=Role.CLIENT if is_client else Role.SERVER,
        version=connection.negotiated_version,
        cipher=int(schedule.cipher_suite),
        alpn=connection.tls.alpn_negotiated,
        client_secret=ours if is_client else theirs,
        server_secret=theirs if is_client else ours,
        exporter_secret=Secret(connection.exporter_secret),
        client_random=connection.tls.client_random,
        original_destination_connection_id=connection.original_destination_connection_id,
        local_connection_ids=tuple(map(_connection_id, connection._host_cids)),
        peer_connection_ids=tuple(map(_connection_id, (connection._peer_cid, *connection._peer_cid_available))),
        local_transport_parameters=Secret(connection.local_parameters),
        peer_transport_parameters=Secret(connection.peer_parameters),
        next_packet_number=connection._packet_number,
        acknowledged=connection.acknowledged,
        sent=tuple(frames.sent(packet) for packet in space.sent_packets.values() if packet.is_ack_eliciting),
        pending=frames.pending(),
        round_trip_time=_round_trip_time(connection._loss),
        max_datagram_size=connection._max_datagram_size,
        packets=packets,
        ticket=ticket,
        resumed=connection.tls.session_resumed,
    )


class _Frames:
    """The frames that were sent, read from the delivery handlers that aioquic keeps with each packet."""

    def __init__(self, connection: HandshakeConnection) -> None:
        self._connection = connection
        self._sender = connection._crypto_streams[Epoch.ONE_RTT].sender

    def sent(self, packet: QuicSentPacket) -> SentPacket:
        assert packet.sent_time is not None
        frames = [self._frame(handler, args) for handler, args in packet.delivery_handlers]
        return SentPacket(
            number=packet.packet_number,
            sent_at=round(packet.sent_time * 1e6),
            size=packet.sent_bytes if packet.in_flight else 0,
            frames=tuple(frame for frame in frames if frame is not None),
        )

    def pending(self) -> tuple[Frame, ...]:
        waiting = [Frame(HANDSHAKE_DONE)] if self._connection._handshake_done_pending else []
        waiting += (self._crypto(span.start, span.stop) for span in self._sender._pending)
        return tuple(waiting)

    def _frame(self, handler: Any, args: Any) -> Frame | None:
        connection = self._connection
        if handler == connection._on_handshake_done_delivery:
            return Frame(HANDSHAKE_DONE)
        if handler == self._sender.on_data_delivery:
            return self._crypto(args[0], args[1])
        if handler == connection._on_ping_delivery:
            return Frame(PING)
        if handler == connection._on_ack_delivery:
            return None  # not sent again
        raise RuntimeError(f"aioquic has sent a frame that is not known here: {handler}")

    def _crypto(self, start: int, stop: int) -> Frame:
        base = self._sender._buffer_start
        return Frame(CRYPTO, start, bytes(self._sender._buffer[start - base : stop - base]))


def _connection_id(item: QuicConnectionId) -> ConnectionId:
    token = item.stateless_reset_token
    return ConnectionId(item.sequence_number, item.cid, Secret(token) if token else None)


def _round_trip_time(loss: Any) -> RoundTripTime | None:
    if not loss._rtt_initialized:
        return None
    times = (loss._rtt_latest, loss._rtt_min, loss._rtt_smoothed, loss._rtt_variance)
    return RoundTripTime(*(min(round(item * 1e6), 0xFFFFFFFF) for item in times))
