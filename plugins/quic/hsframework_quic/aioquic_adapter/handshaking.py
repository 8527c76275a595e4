"""The connection of aioquic as the agent runs it: until the handshake is over, and no longer.

The differences from aioquic's own, each with its reason:

* **TLS** is :class:`~hsframework_quic.aioquic_adapter.tls.VerifiedContext`, and is told the level of what it reads.
* **1-RTT packets are not acted on.**  The keys for reading them are never installed here; the handshake keeps
  the packets for the consumer (:mod:`hsframework_quic.session`), and no further connection ids are issued.
* **Retry** repeats the same ClientHello (RFC 9000 section 17.2.5.2 demands it; aioquic makes a new one) and is
  refused in another version than ours (RFC 9369 section 3.3).
* **Version Negotiation** counts when it echoes our connection id (RFC 9000 section 17.2.1), not after a Retry, and is
  compared with what the server says once it is authenticated (RFC 9368 section 4).
* **Before the client's address is validated** nothing goes past three times what it sent, the CONNECTION_CLOSE included
  (RFC 9000 section 8.1); with a token the address is validated from the start.
* **CRYPTO data** is bounded, and in all levels together.
* **A first Initial without CRYPTO** is no violation: the first one was lost, and this is the client's probe (a PING:
  RFC 9002 section 6.2.4).  It is acknowledged, and the ClientHello comes again.
* A server says that its peer must not migrate: its socket is connected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aioquic import tls
from aioquic.buffer import Buffer, BufferReadError
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    Limit,
    QuicConnection,
    QuicConnectionError,
    QuicConnectionState,
    QuicNetworkPath,
    QuicReceiveContext,
)
from aioquic.quic.crypto import CryptoContext
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicHeader, QuicProtocolVersion
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.tls import CipherSuite, Direction, Epoch

from hsframework.errors import HandshakeError
from hsframework_quic.aioquic_adapter.tls import VerifiedContext
from hsframework_quic.session import MAX_TRANSPORT_PARAMETERS

if TYPE_CHECKING:
    from aioquic.quic.events import ConnectionTerminated

PEER = ("", 0)
"""The address of the peer for aioquic: sockets are connected, and it is never looked at.  No IP address, so that no
preferred address of a server is ever tried (RFC 9000 section 9.6: a connected socket could not send there)."""

MAX_CRYPTO = 160 * 1024
"""Bytes of CRYPTO data that a peer may send at one level: what its certificates may have, and some more."""
CRYPTO_BUFFER = 128 * 1024
"""Bytes of our own flight at the Handshake level."""
_NOT_USED: Any = object()
_DISABLE_ACTIVE_MIGRATION = b"\x0c\x00"


class HandshakeConnection(QuicConnection):
    """A connection of aioquic during its handshake.  ``new_tls`` is called once for each first flight.

    ``original_destination_connection_id`` and ``retry_source_connection_id``: a server's, see QuicConnection.
    ``address_validated``: the peer has proved its address.  ``max_streams``: of each kind that the peer may open.
    """

    tls: VerifiedContext

    def __init__(
        self,
        configuration: QuicConfiguration,
        new_tls: Callable[[], VerifiedContext],
        *,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
        address_validated: bool = False,
        max_streams: int = 128,
    ) -> None:
        if not configuration.is_client:
            # Asked for by aioquic's constructor; our TLS has its own.
            configuration.certificate = configuration.private_key = _NOT_USED
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        self._new_tls = new_tls
        self._client_hello = b""
        self._kept_tls: VerifiedContext | None = None
        self._version_after_negotiation: int | None = None
        for name in ("_local_max_streams_bidi", "_local_max_streams_uni"):
            limit: Limit = getattr(self, name)
            limit.value = limit.sent = max_streams
        self.local_parameters = b""
        """Ours, as they were sent last."""
        self.peer_parameters = b""
        """The peer's, as they came."""
        self.secrets: dict[Direction, bytes] = {}
        """Of the 1-RTT level: DECRYPT is what the peer sends under."""
        self.exporter_secret = b""
        self._suite: CipherSuite | None = None
        self._receiving: CryptoContext | None = None
        self.no_common_version = False
        """The server has named its versions, and ours are not among them."""
        self.acknowledged: tuple[range, ...] = ()
        """1-RTT packets of the peer that an ACK of ours named."""
        if not configuration.is_client:
            self._network_paths = [QuicNetworkPath(PEER, is_validated=address_validated)]

    # For the handshake.

    @property
    def complete(self) -> bool:
        """True if the handshake is complete (RFC 9001 section 4.1.1)."""
        return self._handshake_complete

    @property
    def begun(self) -> bool:
        """True if a packet of the peer has been authenticated."""
        return self._state is not QuicConnectionState.FIRSTFLIGHT

    @property
    def negotiated_version(self) -> int:
        """The version of QUIC, as on the wire."""
        assert self._version is not None
        return self._version

    @property
    def ending(self) -> ConnectionTerminated | None:
        """The reason for which the connection closes; None: it is open."""
        return self._close_event

    @property
    def closed_by_peer(self) -> bool:
        """True if the peer has closed the connection."""
        return self._state is QuicConnectionState.DRAINING

    @property
    def expired(self) -> bool:
        """True if the connection ended without CONNECTION_CLOSE: idle timeout, or no common version."""
        return self._state is QuicConnectionState.TERMINATED

    @property
    def failure(self) -> HandshakeError | None:
        """The error by which TLS failed; None: it has not."""
        context: VerifiedContext | None = getattr(self, "tls", None)
        return None if context is None else context.failure

    @property
    def reset_token(self) -> bytes:
        """The peer's stateless reset token, or nothing (RFC 9000 section 10.3)."""
        return self._peer_cid.stateless_reset_token or b""

    @property
    def can_read(self) -> bool:
        """True if there are keys for :meth:`read`."""
        return Direction.DECRYPT in self.secrets

    def read(self, packet: bytes) -> tuple[bytes, int, bool]:
        """Return payload and number of a 1-RTT packet of the peer, and True if it is under the peer's next keys.

        Raises CryptoError for a packet that is not the peer's.
        """
        if self._receiving is None:
            assert self._suite is not None
            self._receiving = CryptoContext()
            secret = self.secrets[Direction.DECRYPT]
            self._receiving.setup(cipher_suite=self._suite, secret=secret, version=self.negotiated_version)
        offset = 1 + self._configuration.connection_id_length
        expected = self._spaces[Epoch.ONE_RTT].expected_packet_number
        _, payload, number, next_keys = self._receiving.decrypt_packet(packet, offset, expected)
        return payload, number, next_keys

    def is_local_connection_id(self, connection_id: bytes) -> bool:
        """Return True if a packet with this destination belongs to this connection."""
        return any(item.cid == connection_id for item in self._host_cids)

    def has_packet(self, number: int) -> bool:
        """Return True if a 1-RTT packet of this number has been noted."""
        return number in self._spaces[Epoch.ONE_RTT].received_packets

    def note_packet(self, number: int, now: float, *, ack_eliciting: bool) -> None:
        """Note that a 1-RTT packet was kept for the consumer: it is acknowledged as any other."""
        space = self._spaces[Epoch.ONE_RTT]
        space.ack_queue.add(number)
        space.received_packets.add(number)
        if number > space.largest_received_packet:
            space.largest_received_packet = number
            space.largest_received_time = now
        space.expected_packet_number = max(space.expected_packet_number, number + 1)
        if ack_eliciting and space.ack_at is None:
            space.ack_at = now + self._ack_delay

    def take_tls(self, data: bytes) -> None:
        """Take TLS messages of the 1-RTT level.  Raises the errors of ``VerifiedContext.handle_message``."""
        self.tls.level = Epoch.ONE_RTT
        self.tls.handle_message(data, self._crypto_buffers)

    def datagrams(self, now: float) -> list[bytes]:
        """Return the datagrams to send now, within the anti-amplification limit."""
        if not self._network_paths or self._version is None:
            return []
        path = self._network_paths[0]
        before = path.bytes_sent
        datagrams = [data for data, _ in self.datagrams_to_send(now)]
        if path.is_validated:
            return datagrams
        allowed, sent = 3 * path.bytes_received, before
        fitting = []
        for datagram in datagrams:
            if sent + len(datagram) <= allowed:
                sent += len(datagram)
                fitting.append(datagram)
        path.bytes_sent = sent
        return fitting

    def timer(self) -> float | None:
        """Return the time at which :meth:`handle_timer` is due, or None."""
        return None if self._close_at is None else self.get_timer()

    # Called by aioquic.

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        made: tls.Context = self.tls
        if self._kept_tls is not None:
            self.tls, self._kept_tls = self._kept_tls, None
        else:
            self.tls = self._new_tls()
            self.tls.take_place_of(made)
        self._crypto_buffers[Epoch.HANDSHAKE] = Buffer(capacity=CRYPTO_BUFFER)

    def _connect(self, now: float) -> None:
        again = bool(self._retry_count and self._client_hello)
        if again:
            self._kept_tls = self.tls
        super()._connect(now)
        sender = self._crypto_streams[Epoch.INITIAL].sender
        if again:
            sender.write(self._client_hello)
        else:
            self._client_hello = bytes(sender._buffer)

    def _receive_retry_packet(self, header: QuicHeader, packet_without_tag: bytes, now: float) -> None:
        if header.version == self._version:
            super()._receive_retry_packet(header, packet_without_tag, now)

    def _receive_version_negotiation_packet(self, header: QuicHeader, now: float) -> None:
        if self._retry_count or header.source_cid != self._peer_cid.cid:
            return
        super()._receive_version_negotiation_packet(header, now)
        self.no_common_version = self.expired
        if self._version_negotiated_incompatible:
            self._version_after_negotiation = self._version

    def _payload_received(
        self, context: QuicReceiveContext, plain: bytes, crypto_frame_required: bool = False
    ) -> tuple[bool, bool]:
        return super()._payload_received(context, plain, crypto_frame_required=False)

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        start = buf.tell()
        end = buf.pull_uint_var() + buf.pull_uint_var()
        buf.seek(start)
        if end > MAX_CRYPTO:
            raise QuicConnectionError(
                error_code=QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, frame_type=frame_type, reason_phrase=""
            )
        self.tls.level = context.epoch
        super()._handle_crypto_frame(context, frame_type, buf)

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        _check_parameters(data)
        super()._parse_transport_parameters(data, from_session_ticket)
        self.peer_parameters = data
        if not self._remote_max_idle_timeout:
            self._remote_max_idle_timeout = None  # 0 says that there is none (RFC 9000 section 18.2)
        if self._version_after_negotiation is not None:
            self._check_version_negotiation(self._version_after_negotiation)

    def _check_version_negotiation(self, chosen: int) -> None:
        """Refuse the version unless an honest Version Negotiation packet would have led to it (RFC 9368 section 4)."""
        information = self._remote_version_information
        if information is None:
            honest = chosen == QuicProtocolVersion.VERSION_1  # section 8: a server that knows no other
        else:
            common = [item for item in self._configuration.supported_versions if item in information.available_versions]
            honest = bool(common) and common[0] == chosen
        if not honest:
            raise QuicConnectionError(
                error_code=QuicErrorCode.VERSION_NEGOTIATION_ERROR, frame_type=QuicFrameType.CRYPTO, reason_phrase=""
            )

    def _serialize_transport_parameters(self) -> bytes:
        data = super()._serialize_transport_parameters()
        if not self._is_client:
            data += _DISABLE_ACTIVE_MIGRATION
        self.local_parameters = data
        return data

    def _update_traffic_key(self, direction: Direction, epoch: Epoch, cipher_suite: CipherSuite, secret: bytes) -> None:
        if epoch is Epoch.ONE_RTT:
            if not self.secrets:
                # The transcript ends with the server's Finished at this moment (RFC 8446 section 7.1).
                assert self.tls.key_schedule is not None
                self.exporter_secret = self.tls.key_schedule.derive_secret(b"exp master")
            self.secrets[direction] = secret
            self._suite = cipher_suite
            if direction is Direction.DECRYPT:
                return
        super()._update_traffic_key(direction, epoch, cipher_suite, secret)

    def _replenish_connection_ids(self) -> None:
        """Do nothing: the consumer issues connection ids."""

    def _write_ack_frame(self, builder: QuicPacketBuilder, space: QuicPacketSpace, now: float) -> None:
        super()._write_ack_frame(builder, space, now)
        if space.is_application_data:
            self.acknowledged = tuple(space.ack_queue)


def _check_parameters(data: bytes) -> None:
    """Refuse parameters that are there twice (RFC 9000 section 7.4) or too large; aioquic checks neither."""
    if len(data) > MAX_TRANSPORT_PARAMETERS:
        raise _parameter_error(f"transport parameters of {len(data)} bytes")
    seen: set[int] = set()
    buffer = Buffer(data=data)
    try:
        while not buffer.eof():
            number = buffer.pull_uint_var()
            buffer.pull_bytes(buffer.pull_uint_var())
            if number in seen:
                raise _parameter_error(f"transport parameter {number:#x} is there twice")
            seen.add(number)
    except BufferReadError:
        raise _parameter_error("transport parameters end too early") from None


def _parameter_error(reason: str) -> QuicConnectionError:
    return QuicConnectionError(
        error_code=QuicErrorCode.TRANSPORT_PARAMETER_ERROR, frame_type=QuicFrameType.CRYPTO, reason_phrase=reason
    )
