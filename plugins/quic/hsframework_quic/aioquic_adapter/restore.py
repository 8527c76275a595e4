"""Restoration of a connection from its session: the counterpart of :mod:`.export`.

The connection is aioquic's own, its public interface is all that a consumer needs.  It is established and confirmed;
its peer is at :data:`~hsframework_quic.aioquic_adapter.handshaking.PEER`.  **The packets in the session are not taken
in yet**: ``receive_datagram`` each of ``session.packets`` first, in their order, then what comes from the socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import Limit, QuicConnection, QuicConnectionId, QuicConnectionState, QuicNetworkPath
from aioquic.quic.crypto import CryptoContext, CryptoPair
from aioquic.quic.packet import (
    QuicPacketType,
    QuicProtocolVersion,
    QuicTransportParameters,
    pull_quic_transport_parameters,
)
from aioquic.quic.packet_builder import QuicSentPacket
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import CipherSuite, Epoch

from hsframework.errors import StreamError
from hsframework.interface import Role, Secret
from hsframework_quic.aioquic_adapter.handshaking import PEER
from hsframework_quic.session import CRYPTO, HANDSHAKE_DONE, PING, ConnectionId, Frame, QuicSession, RoundTripTime

if TYPE_CHECKING:
    from aioquic.quic.logger import QuicLogger

_ENDED = (Epoch.INITIAL, Epoch.ZERO_RTT, Epoch.HANDSHAKE)


def restore(session: QuicSession, *, now: float, quic_logger: QuicLogger | None = None) -> QuicConnection:
    """Return the connection that continues ``session``.

    ``now``: on CLOCK_MONOTONIC, as everywhere with this connection.

    Raises StreamError for a session that does not fit together.
    """
    try:
        return _Restored(session, now, quic_logger)
    except StreamError:
        raise
    except Exception as error:
        raise StreamError(f"the session cannot be continued: {type(error).__name__}: {error}") from None


class _Restored(QuicConnection):
    """A restored connection; :func:`restore` makes it, and everybody else uses it as a QuicConnection."""

    def __init__(self, session: QuicSession, now: float, quic_logger: QuicLogger | None) -> None:
        local = _parameters(session.local_transport_parameters.reveal())
        peer = _parameters(session.peer_transport_parameters.reveal())
        is_client = session.role is Role.CLIENT
        configuration = _configuration(session, local)
        configuration.quic_logger = quic_logger
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=None if is_client else session.original_destination_connection_id,
        )
        self._original_destination_connection_id = session.original_destination_connection_id
        self._connect_called = True
        self._network_paths = [QuicNetworkPath(PEER, is_validated=True)]
        self._version = session.version
        self._version_negotiated_compatible = True
        self._state = QuicConnectionState.CONNECTED
        self._handshake_complete = self._handshake_confirmed = True
        self._crypto_retransmitted = True
        self._packet_number = session.next_packet_number
        self._restore_tls(session)
        self._restore_keys(session)
        self._restore_connection_ids(session)
        self._restore_limits(local)
        self._take_peer_parameters(session, peer)
        self._restore_recovery(session, now)
        self._close_at = now + self._idle_timeout()

    def _restore_tls(self, session: QuicSession) -> None:
        """Make a TLS engine that reads tickets, and refuses every other message (RFC 9001 sections 4.4 and 6)."""
        self.tls = tls.Context(is_client=self._is_client, alpn_protocols=[session.alpn] if session.alpn else None)
        self.tls.alpn_negotiated = session.alpn
        self.tls.client_random = session.client_random
        self.tls.state = tls.State.CLIENT_POST_HANDSHAKE if self._is_client else tls.State.SERVER_POST_HANDSHAKE
        self._crypto_buffers = {
            epoch: Buffer(capacity=1024) for epoch in (Epoch.INITIAL, Epoch.HANDSHAKE, Epoch.ONE_RTT)
        }

    def _restore_keys(self, session: QuicSession) -> None:
        pair = CryptoPair()
        for context, secret in ((pair.send, session.send_secret), (pair.recv, session.receive_secret)):
            _set_up(context, session, secret)
        self._cryptos = {Epoch.ONE_RTT: pair} | {epoch: CryptoPair() for epoch in _ENDED}
        self._cryptos_initial = {version: CryptoPair() for version in self._configuration.supported_versions}

    def _restore_connection_ids(self, session: QuicSession) -> None:
        self._host_cids = [_connection_id(item, was_sent=True) for item in session.local_connection_ids]
        self.host_cid = self._host_cids[0].cid
        self._host_cid_seq = 1 + max(item.sequence for item in session.local_connection_ids)
        self._local_initial_source_connection_id = self.host_cid
        peer = [_connection_id(item) for item in session.peer_connection_ids]
        self._peer_cid, self._peer_cid_available = peer[0], peer[1:]
        self._peer_cid_sequence_numbers = {item.sequence_number for item in peer}

    def _restore_limits(self, local: QuicTransportParameters) -> None:
        for name in ("max_data", "max_streams_bidi", "max_streams_uni"):
            limit: Limit = getattr(self, f"_local_{name}")
            limit.value = limit.sent = getattr(local, f"initial_{name}") or 0
        for name in ("max_stream_data_bidi_local", "max_stream_data_bidi_remote", "max_stream_data_uni"):
            setattr(self, f"_local_{name}", getattr(local, f"initial_{name}") or 0)

    def _take_peer_parameters(self, session: QuicSession, peer: QuicTransportParameters) -> None:
        """Take over the peer's parameters, which were checked against the handshake when they arrived."""
        self._remote_initial_source_connection_id = peer.initial_source_connection_id
        if peer.active_connection_id_limit is not None:
            self._remote_active_connection_id_limit = peer.active_connection_id_limit
        if peer.max_idle_timeout:
            self._remote_max_idle_timeout = peer.max_idle_timeout / 1000
        if peer.max_ack_delay is not None:
            self._loss.max_ack_delay = peer.max_ack_delay / 1000
        if peer.ack_delay_exponent is not None:
            self._remote_ack_delay_exponent = peer.ack_delay_exponent
        self._remote_max_datagram_frame_size = peer.max_datagram_frame_size
        for name in (
            "max_data",
            "max_stream_data_bidi_local",
            "max_stream_data_bidi_remote",
            "max_stream_data_uni",
            "max_streams_bidi",
            "max_streams_uni",
        ):
            setattr(self, f"_remote_{name}", getattr(peer, f"initial_{name}") or 0)
        if peer.max_udp_payload_size is not None:
            self._max_datagram_size = min(self._max_datagram_size, peer.max_udp_payload_size)

    def _restore_recovery(self, session: QuicSession, now: float) -> None:
        space = QuicPacketSpace(is_application_data=True)
        self._spaces = {Epoch.INITIAL: QuicPacketSpace(), Epoch.HANDSHAKE: QuicPacketSpace(), Epoch.ONE_RTT: space}
        self._spaces[Epoch.INITIAL].discarded = self._spaces[Epoch.HANDSHAKE].discarded = True
        self._crypto_streams = {epoch: QuicStream() for epoch in self._spaces}
        self._loss.spaces = list(self._spaces.values())
        self._loss.handshake_confirmed = True
        self._loss.peer_completed_address_validation = True
        if session.round_trip_time is not None:
            self._restore_round_trip_time(session.round_trip_time)
        self._write_crypto(session)
        for frame in session.pending:
            self._make_pending(frame)
        for packet in session.sent:
            sent = QuicSentPacket(
                epoch=Epoch.ONE_RTT,
                in_flight=True,
                is_ack_eliciting=True,
                is_crypto_packet=any(frame.type == CRYPTO for frame in packet.frames),
                packet_number=packet.number,
                packet_type=QuicPacketType.ONE_RTT,
                sent_time=min(packet.sent_at / 1e6, now),
                sent_bytes=packet.size,
                delivery_handlers=[self._delivery_of(frame) for frame in packet.frames],
            )
            self._loss.on_packet_sent(packet=sent, space=space)
        self._replenish_connection_ids()

    def _restore_round_trip_time(self, times: RoundTripTime) -> None:
        loss = self._loss
        loss._rtt_initialized = True
        loss._rtt_latest = times.latest / 1e6
        loss._rtt_min = times.minimum / 1e6
        loss._rtt_smoothed = times.smoothed / 1e6
        loss._rtt_variance = times.variation / 1e6
        loss._pacer.update_rate(congestion_window=loss.congestion_window, smoothed_rtt=loss._rtt_smoothed)

    def _write_crypto(self, session: QuicSession) -> None:
        """Write the unacknowledged bytes of the crypto stream into its sender, those in packets marked as sent."""
        sent = [frame for packet in session.sent for frame in packet.frames if frame.type == CRYPTO]
        frames = sorted(
            (*sent, *(item for item in session.pending if item.type == CRYPTO)), key=lambda item: item.offset
        )
        sender = self._crypto_streams[Epoch.ONE_RTT].sender
        for frame in frames:
            if frame.offset != sender._buffer_stop:
                raise StreamError("the session's CRYPTO frames do not follow each other")
            sender.write(frame.data)
        for frame in sent:
            sender._pending.subtract(frame.offset, frame.offset + len(frame.data))
            sender.highest_offset = max(sender.highest_offset, frame.offset + len(frame.data))

    def _make_pending(self, frame: Frame) -> None:
        if frame.type == HANDSHAKE_DONE:
            self._handshake_done_pending = True
        elif frame.type == PING:
            self._probe_pending = True

    def _delivery_of(self, frame: Frame) -> tuple[Any, Any]:
        """Return the handler, with its arguments, that aioquic calls when the fate of a sent frame is known."""
        if frame.type == HANDSHAKE_DONE:
            return self._on_handshake_done_delivery, ()
        if frame.type == CRYPTO:
            sender = self._crypto_streams[Epoch.ONE_RTT].sender
            return sender.on_data_delivery, (frame.offset, frame.offset + len(frame.data), False)
        if frame.type == PING:
            return self._on_ping_delivery, ((),)
        raise StreamError(f"the session has a frame of type {frame.type:#x}, which cannot be sent again here")


def _configuration(session: QuicSession, local: QuicTransportParameters) -> QuicConfiguration:
    lengths = {len(item.id) for item in session.local_connection_ids}
    if len(lengths) != 1:
        raise StreamError("our connection ids are not of one length, and a packet does not say which it has")
    configuration = QuicConfiguration(
        is_client=session.role is Role.CLIENT,
        alpn_protocols=[session.alpn] if session.alpn else None,
        connection_id_length=lengths.pop(),
        idle_timeout=(local.max_idle_timeout or _NEVER) / 1000,
        max_data=local.initial_max_data or 0,
        max_stream_data=local.initial_max_stream_data_bidi_local or 0,
        max_datagram_size=session.max_datagram_size,
        max_datagram_frame_size=local.max_datagram_frame_size,
        supported_versions=[session.version, *(item for item in _KNOWN if item != session.version)],
    )
    if session.role is Role.SERVER:
        # Asked for by aioquic's constructor; the handshake, which needs them, is over.
        configuration.certificate = configuration.private_key = object()
    return configuration


_NEVER = 1 << 40
"""Milliseconds."""
_KNOWN = (int(QuicProtocolVersion.VERSION_1), int(QuicProtocolVersion.VERSION_2))


def _parameters(data: bytes) -> QuicTransportParameters:
    return pull_quic_transport_parameters(Buffer(data=data))


def _set_up(context: CryptoContext, session: QuicSession, secret: Secret) -> None:
    context.key_phase = session.key_phase
    context.setup(cipher_suite=CipherSuite(session.cipher), secret=secret.reveal(), version=session.version)


def _connection_id(item: ConnectionId, *, was_sent: bool = False) -> QuicConnectionId:
    token = b"" if item.reset_token is None else item.reset_token.reveal()
    return QuicConnectionId(item.id, item.sequence, token, was_sent)
