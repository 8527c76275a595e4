"""A handshake without I/O: datagrams and the time go in, datagrams, deadlines and an outcome come out.

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

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.logger import QuicLogger

from hsframework.errors import HandshakeError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Role, Secret
from hsframework_quic.aioquic_adapter.export import export
from hsframework_quic.aioquic_adapter.handshaking import PEER, HandshakeConnection
from hsframework_quic.aioquic_adapter.tls import Agreed, VerifiedContext
from hsframework_quic.aioquic_adapter.tls_options import Resumable, TlsOptions, keep_none
from hsframework_quic.failures import (
    VERSION_NEGOTIATION_ERROR,
    closing_code,
    failure_of_close,
    failure_of_own_close,
)
from hsframework_quic.handshake.frames import Glimpse
from hsframework_quic.handshake.packets import CONNECTION_ID_SIZE, KeptPackets, short_packet
from hsframework_quic.session import MAX_TICKET, QuicSession, Ticket
from hsframework_quic.stateless_reset import is_stateless_reset

if TYPE_CHECKING:
    from hsframework_quic.settings import Settings


class Handshake:
    """A handshake in either role."""

    def __init__(self, settings: Settings, options: TlsOptions, logger: QuicLogger | None = None) -> None:
        self._settings = settings
        self._logger = logger
        self._tickets = options
        keep = keep_none if options.keep is keep_none else self._keep_ticket
        self._options = replace(options, keep=keep, issue=self._issue_ticket, find=self._find_ticket)
        self._connection: HandshakeConnection | None = None
        self._kept = KeptPackets()
        self._aborted = False
        self._ticket: Ticket | None = None
        self._closed_by: int | None = None
        self.agreed: Agreed | None = None
        """Once the handshake is complete."""
        self.error: HandshakeError | None = None
        """The reason for which it failed."""
        self.finished = False

    # In and out.

    def receive(self, datagram: bytes, now: float) -> None:
        """Take a datagram from the peer.  ``now``: seconds on a monotonic clock, as everywhere here."""
        connection = self._connection
        if connection is None or self.error is not None:
            return
        connection.receive_datagram(datagram, PEER, now)
        packet = short_packet(datagram)
        if packet and self._is_ours(packet):
            self._kept.keep(packet, can_read=connection.can_read)
        self._advance(now)
        if packet and self.error is None and is_stateless_reset(datagram, connection.reset_token):
            self.error = HandshakeFailed(Failure.PEER_GONE, "the peer has lost the connection (stateless reset)")

    def on_timer(self, now: float) -> None:
        """Do the work that is due.  Call it at the time of :meth:`timer` or later."""
        if self._connection is not None and self.error is None:
            self._connection.handle_timer(now)
            self._advance(now)

    def timer(self) -> float | None:
        """Return the time at which :meth:`on_timer` is due; None: never."""
        return None if self._connection is None or self.error is not None else self._connection.timer()

    def output(self, now: float) -> list[bytes]:
        """Return the datagrams to send now."""
        return [] if self._connection is None else self._connection.datagrams(now)

    def abort(self, failure: Failure) -> None:
        """End the handshake from outside; :meth:`output` then has a CONNECTION_CLOSE for the peer."""
        if self._connection is not None and self.error is None and not self._aborted:
            self._aborted = True
            code = closing_code(failure)
            self._connection.close(error_code=code, frame_type=0x06, reason_phrase=failure.meaning)

    @property
    def name(self) -> str:
        """The connection's name in a qlog; empty before there is one."""
        return "" if self._connection is None else self._connection.original_destination_connection_id.hex()

    def session(self) -> QuicSession:
        """Return the session, once ``finished``."""
        assert self._connection is not None
        assert self.finished
        return export(self._connection, self._kept.all, self._ticket)

    # Consequences of received datagrams.

    def _advance(self, now: float) -> None:
        connection = self._connection
        assert connection is not None
        if connection.complete and self.agreed is None and connection.failure is None:
            self.agreed = connection.tls.agreed
        for seen in self._kept.look_into(connection, now):
            if self.error is None and connection.ending is None:
                self._see(connection, seen)
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

    def _see(self, connection: HandshakeConnection, seen: Glimpse) -> None:
        """Act on the contents of a packet; the roles differ in what they look for."""
        if seen.closed and self.error is None:
            self.error = failure_of_close(seen.close_code or 0, "")

    # Tickets.

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
