"""One handshake without I/O: datagrams and the time go in, datagrams, deadlines and an outcome come out.

* After :meth:`Handshake.receive` or :meth:`Handshake.on_timer`: send :meth:`Handshake.output`, look at ``error`` and
  ``finished``, else arm a timer for :meth:`Handshake.timer`.
* ``finished``: a client's handshake is *confirmed* (RFC 9001 section 4.1.2), so that its Finished need not be sent
  again; a server's is complete, and its HANDSHAKE_DONE has gone out once.  :meth:`Handshake.session` has the rest.
* 1-RTT packets are kept as they came, up to a bound, for the consumer.  A client looks into them for HANDSHAKE_DONE,
  tickets and a close; what it acknowledges it has kept.
* A server has no state before a datagram could be the first of a connection: an Initial of a version that it speaks,
  of 1200 bytes, to a connection id of 8 (RFC 9000 sections 7.2 and 14.1).  A version that it does not speak is
  answered with Version Negotiation (section 6.1), or refused behind a Retry, where no client heeds that (section 6.2).
* A session is resumed in the version of QUIC that it was made in, and in no other (RFC 9369 section 5).
* Every failure is said to the peer with the crypto error that goes with it (RFC 9001 section 4.8), once.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aioquic.buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.crypto import CryptoError
from aioquic.quic.logger import QuicLogger
from aioquic.quic.packet import QuicHeader, QuicPacketType, encode_quic_version_negotiation, pull_quic_header

from hsframework.errors import HandshakeError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Role, Secret
from hsframework_quic.aioquic_adapter.export import export
from hsframework_quic.aioquic_adapter.handshaking import PEER, HandshakeConnection
from hsframework_quic.aioquic_adapter.stateless import encode_close
from hsframework_quic.aioquic_adapter.tls import Agreed, VerifiedContext
from hsframework_quic.aioquic_adapter.tls_options import Resumable, TlsOptions, keep_none
from hsframework_quic.failures import (
    CONNECTION_REFUSED,
    CRYPTO_ERROR,
    VERSION_NEGOTIATION_ERROR,
    closing_code,
    failure_of_close,
    failure_of_own_close,
)
from hsframework_quic.handshake.frames import Glimpse, glimpse
from hsframework_quic.headers import initial, long_header
from hsframework_quic.session import MAX_PACKET_BYTES, MAX_PACKETS, MAX_TICKET, QuicSession, Ticket

if TYPE_CHECKING:
    from hsframework_quic.settings import Settings

CONNECTION_ID_SIZE = 8
"""Bytes of ours."""
MIN_INITIAL = 1200
"""Bytes of a datagram with a client's Initial (RFC 9000 section 14.1)."""
MIN_CLIENT_CONNECTION_ID = 8
"""Bytes of the destination of a client's first Initial (section 7.2)."""
MIN_RESET = 21
"""Bytes of the shortest stateless reset (section 10.3)."""
MAX_EARLY_PACKETS = 10
"""1-RTT packets that are kept before they can be read; they may be anybody's."""
MAX_NEGOTIATIONS = 4
"""Version Negotiation packets for one request."""
MAX_TICKET_DATA = 32 * 1024
"""Bytes of a server's 1-RTT crypto stream that are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class First:
    """What a server is told of the datagrams before its own (see ``specs/quic.yaml``)."""

    original_destination_connection_id: bytes | None = None
    retry_source_connection_id: bytes | None = None
    address_validated: bool = False


class Handshake:
    """What both roles share."""

    def __init__(self, settings: Settings, options: TlsOptions, logger: QuicLogger | None = None) -> None:
        self._settings = settings
        self._logger = logger
        self._tickets = options
        keep = keep_none if options.keep is keep_none else self._keep_ticket
        self._options = replace(options, keep=keep, issue=self._issue_ticket, find=self._find_ticket)
        self._connection: HandshakeConnection | None = None
        self._kept: list[bytes] = []
        self._readable = 0
        self._aborted = False
        self._ticket: Ticket | None = None
        self._closed_by: int | None = None
        self.agreed: Agreed | None = None
        """Once the handshake is complete."""
        self.error: HandshakeError | None = None
        """How it failed."""
        self.finished = False

    # In and out.

    def receive(self, datagram: bytes, now: float) -> None:
        """A datagram from the peer.  ``now``: seconds on a monotonic clock, as everywhere here."""
        connection = self._connection
        if connection is None or self.error is not None:
            return
        connection.receive_datagram(datagram, PEER, now)
        packet = short_packet(datagram)
        if packet and self._is_ours(packet):
            self._keep_packet(packet)
        self._advance(now)
        if packet and self.error is None and self._is_stateless_reset(datagram):
            self.error = HandshakeFailed(Failure.PEER_GONE, "the peer has lost the connection (stateless reset)")

    def on_timer(self, now: float) -> None:
        """To be called at the time of :meth:`timer` or later."""
        if self._connection is not None and self.error is None:
            self._connection.handle_timer(now)
            self._advance(now)

    def timer(self) -> float | None:
        """When :meth:`on_timer` is due; None: nothing is."""
        return None if self._connection is None or self.error is not None else self._connection.timer()

    def output(self, now: float) -> list[bytes]:
        """Datagrams to send now."""
        return [] if self._connection is None else self._connection.datagrams(now)

    def abort(self, failure: Failure) -> None:
        """End it from outside; what :meth:`output` has then says so to the peer."""
        if self._connection is not None and self.error is None and not self._aborted:
            self._aborted = True
            code = closing_code(failure)
            self._connection.close(error_code=code, frame_type=0x06, reason_phrase=failure.meaning)

    @property
    def name(self) -> str:
        """What a qlog calls the connection; nothing before there is one."""
        return "" if self._connection is None else self._connection.original_destination_connection_id.hex()

    def session(self) -> QuicSession:
        """Once ``finished``."""
        assert self._connection is not None
        assert self.finished
        return export(self._connection, tuple(self._kept), self._ticket)

    # What follows from what was received.

    def _advance(self, now: float) -> None:
        connection = self._connection
        assert connection is not None
        if connection.complete and self.agreed is None and connection.failure is None:
            self.agreed = connection.tls.agreed
        self._look_into_packets(connection, now)
        if connection.ending is not None or connection.expired:
            self._fail(connection)

    def _fail(self, connection: HandshakeConnection) -> None:
        ending = connection.ending
        if ending is not None and ending.error_code == VERSION_NEGOTIATION_ERROR and not connection.closed_by_peer:
            self.error = HandshakeFailed(Failure.VERSION, "the version was negotiated by somebody else")
        elif connection.failure is not None:
            self.error = connection.failure
        elif connection.no_common_version:
            self.error = HandshakeFailed(Failure.VERSION, "the server speaks no version that is allowed here")
        elif ending is None or connection.expired:
            self.error = HandshakeFailed(Failure.SILENCE, "the peer's idle timeout ran off")
        elif connection.closed_by_peer:
            self.error = failure_of_close(ending.error_code, ending.reason_phrase)
        elif not self._aborted:
            self.error = failure_of_own_close(ending.error_code, ending.reason_phrase)

    # 1-RTT packets.

    def _is_ours(self, packet: bytes) -> bool:
        assert self._connection is not None
        return self._connection.is_local_connection_id(packet[1 : 1 + CONNECTION_ID_SIZE])

    def _keep_packet(self, packet: bytes) -> None:
        readable = self._connection is not None and self._connection.can_read
        most = MAX_PACKETS if readable else MAX_EARLY_PACKETS
        if len(self._kept) < most and sum(map(len, self._kept)) + len(packet) <= MAX_PACKET_BYTES:
            self._kept.append(packet)

    def _look_into_packets(self, connection: HandshakeConnection, now: float) -> None:
        """Those that can be read and were not: drop what is not the peer's, and look at the rest."""
        if not connection.can_read or not connection.complete:
            return
        new, self._kept = self._kept[self._readable :], self._kept[: self._readable]
        for packet in new:
            seen = self._read(connection, packet, now)
            if seen is not None:
                self._kept.append(packet)
                if self.error is None and connection.ending is None:
                    self._see(connection, seen)
        self._readable = len(self._kept)

    def _read(self, connection: HandshakeConnection, packet: bytes, now: float) -> Glimpse | None:
        try:
            payload, number = connection.read(packet)
        except CryptoError:
            return None
        if connection.has_packet(number):
            return None
        seen = glimpse(payload)
        connection.note_packet(number, now, ack_eliciting=seen.ack_eliciting)
        return seen

    def _see(self, connection: HandshakeConnection, seen: Glimpse) -> None:
        """The roles differ in what they want of it."""
        if seen.closed and self.error is None:
            self.error = failure_of_close(seen.close_code or 0, "")

    def _is_stateless_reset(self, datagram: bytes) -> bool:
        token = b"" if self._connection is None else self._connection.reset_token
        return len(token) == 16 and len(datagram) >= MIN_RESET and hmac.compare_digest(datagram[-16:], token)

    def _keep_ticket(self, session: Resumable) -> None:
        ticket = session.ticket
        if len(ticket.ticket) > MAX_TICKET:
            return
        lifetime = round((ticket.not_valid_after - ticket.not_valid_before).total_seconds())
        secret = Secret(ticket.resumption_secret)
        self._ticket = Ticket(ticket.ticket, secret, int(ticket.cipher_suite), lifetime, ticket.age_add)
        self._tickets.keep(replace(session, version=self._version))

    def _issue_ticket(self, session: Resumable) -> bytes | None:
        return self._tickets.issue(replace(session, version=self._version))

    def _find_ticket(self, ticket: bytes) -> Resumable | None:
        session = self._tickets.find(ticket)
        return session if session is not None and session.version == self._version else None

    @property
    def _version(self) -> int:
        assert self._connection is not None
        return self._connection.negotiated_version

    def _configuration(self) -> QuicConfiguration:
        settings = self._settings
        return QuicConfiguration(
            alpn_protocols=list(self._options.alpn) or None,
            connection_id_length=CONNECTION_ID_SIZE,
            idle_timeout=settings.idle_timeout,
            is_client=self._options.role is Role.CLIENT,
            max_data=settings.max_data,
            max_stream_data=settings.max_stream_data,
            max_datagram_size=settings.max_datagram_size,
            max_datagram_frame_size=settings.max_datagram_frame or None,
            quic_logger=self._logger,
            supported_versions=list(settings.wire_versions),
        )

    def _new_tls(self) -> Callable[[], VerifiedContext]:
        return lambda: VerifiedContext(self._options_for_version())

    def _options_for_version(self) -> TlsOptions:
        resume = self._options.resume
        if resume is None or resume.version == self._version:
            return self._options
        return replace(self._options, resume=None)


class ClientHandshake(Handshake):
    """Begins at once: there is :meth:`output` from the start."""

    def __init__(self, settings: Settings, options: TlsOptions, now: float, logger: QuicLogger | None = None) -> None:
        super().__init__(settings, options, logger)
        self._crypto: dict[int, bytes] = {}
        self._crypto_next = 0
        self._connection = HandshakeConnection(self._configuration(), self._new_tls(), max_streams=settings.max_streams)
        self._connection.connect(PEER, now)

    def _see(self, connection: HandshakeConnection, seen: Glimpse) -> None:
        super()._see(connection, seen)
        try:
            self._take_crypto(connection, seen.crypto)
        except Exception:
            # A server that breaks TLS after its handshake.  What was agreed on counts no more.
            failure = connection.failure or HandshakeFailed(Failure.UNEXPECTED_MESSAGE)
            code = failure.failure.alert if isinstance(failure, HandshakeFailed) else None
            connection.close(error_code=CRYPTO_ERROR + (code or 80), frame_type=0x06)
            return
        if seen.handshake_done and self.error is None:
            self.finished = True

    def _take_crypto(self, connection: HandshakeConnection, frames: list[tuple[int, bytes]]) -> None:
        """Tickets, in the order of their stream."""
        if self._tickets.keep is keep_none:
            return
        for offset, data in frames:
            if offset + len(data) <= MAX_TICKET_DATA:
                self._crypto.setdefault(offset, data)
        while True:
            found = next((item for item in self._crypto if item <= self._crypto_next), None)
            if found is None:
                return
            data = self._crypto.pop(found)[self._crypto_next - found :]
            self._crypto_next += len(data)
            if data:
                connection.take_tls(data)


class ServerHandshake(Handshake):
    """Waits for a client's first datagram."""

    def __init__(
        self, settings: Settings, options: TlsOptions, first: First = First(), logger: QuicLogger | None = None
    ) -> None:
        super().__init__(settings, options, logger)
        self._first = first
        self._destination: bytes | None = None
        self._negotiations: list[bytes] = []
        self._negotiated = 0

    def receive(self, datagram: bytes, now: float) -> None:
        """A datagram from the client."""
        if self.error is None and (self._connection is None or not self._connection.begun):
            header = self._first_header(datagram)
            if header is None:
                return
            if header.destination_cid != self._destination:
                self._begin(header)
        super().receive(datagram, now)

    def output(self, now: float) -> list[bytes]:
        """Datagrams to send now.  The handshake has ``finished`` once HANDSHAKE_DONE is among them."""
        negotiations, self._negotiations = self._negotiations, []
        datagrams = negotiations + super().output(now)
        if self._connection is not None and self._connection.complete and self.error is None and not self._aborted:
            self.finished = True
        return datagrams

    def _first_header(self, datagram: bytes) -> QuicHeader | None:
        """Of a datagram that may begin a connection; None: it may not."""
        if len(datagram) < MIN_INITIAL:
            return None
        if not _is_long(datagram):
            return None
        version = int.from_bytes(datagram[1:5], "big")
        if version not in self._settings.wire_versions:
            if self._first.retry_source_connection_id is not None:
                self._refuse(datagram)
            elif version:
                self._negotiate(datagram)
            return None
        try:
            header = pull_quic_header(Buffer(data=datagram), host_cid_length=CONNECTION_ID_SIZE)
        except ValueError:
            return None
        if header.packet_type is not QuicPacketType.INITIAL or len(header.destination_cid) < MIN_CLIENT_CONNECTION_ID:
            return None
        return header

    def _refuse(self, datagram: bytes) -> None:
        """The listener has sent a Retry in a version that is not ours: too late for Version Negotiation (section 6)."""
        header = long_header(datagram)
        first = None if header is None else initial(header)
        if first is not None and first.destination == self._first.retry_source_connection_id:
            self._negotiations.append(encode_close(first.version, first.destination, first.source, CONNECTION_REFUSED))
            self.error = HandshakeFailed(Failure.VERSION, "the client comes in a version that is not allowed here")

    def _negotiate(self, datagram: bytes) -> None:
        ids = invariant_connection_ids(datagram)
        if ids is None or self._negotiated == MAX_NEGOTIATIONS:
            return
        self._negotiated += 1
        destination, source = ids
        answer = encode_quic_version_negotiation(
            source_cid=destination, destination_cid=source, supported_versions=list(self._settings.wire_versions)
        )
        self._negotiations.append(answer)

    def _begin(self, header: QuicHeader) -> None:
        first = self._first
        self._destination = header.destination_cid
        self._kept.clear()
        self._connection = HandshakeConnection(
            self._configuration(),
            self._new_tls(),
            original_destination_connection_id=first.original_destination_connection_id or header.destination_cid,
            retry_source_connection_id=first.retry_source_connection_id,
            address_validated=first.address_validated,
            max_streams=self._settings.max_streams,
        )


def _is_long(datagram: bytes) -> bool:
    return bool(datagram) and bool(datagram[0] & 0x80)


def short_packet(datagram: bytes) -> bytes:
    """The 1-RTT packet at the end of a datagram, or nothing (RFC 9000 section 12.2)."""
    if not _is_long(datagram):
        return datagram
    buffer = Buffer(data=datagram)
    try:
        while not buffer.eof():
            start = buffer.tell()
            header = pull_quic_header(buffer, host_cid_length=CONNECTION_ID_SIZE)
            if header.packet_type is QuicPacketType.ONE_RTT:
                return datagram[start:]
            buffer.seek(start + header.packet_length)
    except ValueError:
        pass
    return b""


def invariant_connection_ids(datagram: bytes) -> tuple[bytes, bytes] | None:
    """Destination and source of a long header of any version (RFC 8999 section 5.1); None: it is cut off."""
    size = datagram[5] if len(datagram) > 5 else 255
    destination = datagram[6 : 6 + size]
    at = 6 + size
    other = datagram[at] if len(datagram) > at else 255
    source = datagram[at + 1 : at + 1 + other]
    return (destination, source) if len(destination) == size and len(source) == other else None
