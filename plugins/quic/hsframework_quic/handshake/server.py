"""A server's handshake.  The rules: :mod:`.handshake`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aioquic.buffer import Buffer
from aioquic.quic.logger import QuicLogger
from aioquic.quic.packet import QuicHeader, QuicPacketType, encode_quic_version_negotiation, pull_quic_header

from hsframework.failures import Failure, HandshakeFailed
from hsframework_quic.aioquic_adapter.handshaking import HandshakeConnection
from hsframework_quic.aioquic_adapter.stateless import encode_close
from hsframework_quic.aioquic_adapter.tls_options import TlsOptions
from hsframework_quic.failures import CONNECTION_REFUSED
from hsframework_quic.handshake.handshake import Handshake
from hsframework_quic.handshake.packets import CONNECTION_ID_SIZE
from hsframework_quic.headers import MIN_FIRST_DATAGRAM, MIN_FIRST_DESTINATION, LongHeader, initial, long_header

if TYPE_CHECKING:
    from hsframework_quic.settings import Settings

MAX_NEGOTIATIONS = 4
"""Version Negotiation packets for one request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFacts:
    """The facts that the listener has found out about a client (see ``specs/quic.yaml``)."""

    original_destination_connection_id: bytes | None = None
    retry_source_connection_id: bytes | None = None
    address_validated: bool = False


class ServerHandshake(Handshake):
    """A server's handshake.  It waits for a client's first datagram."""

    def __init__(
        self,
        settings: Settings,
        options: TlsOptions,
        facts: ClientFacts = ClientFacts(),
        logger: QuicLogger | None = None,
    ) -> None:
        super().__init__(settings, options, logger)
        self._facts = facts
        self._destination: bytes | None = None
        self._negotiations: list[bytes] = []
        self._negotiated = 0

    def receive(self, datagram: bytes, now: float) -> None:
        """Take a datagram from the client."""
        if self.error is None and (self._connection is None or not self._connection.begun):
            header = self._first_header(datagram)
            if header is None:
                return
            if header.destination_cid != self._destination:
                self._begin(header)
        super().receive(datagram, now)

    def output(self, now: float) -> list[bytes]:
        """Return the datagrams to send now.  The handshake has ``finished`` once HANDSHAKE_DONE is among them."""
        negotiations, self._negotiations = self._negotiations, []
        datagrams = negotiations + super().output(now)
        if self._connection is not None and self._connection.complete and self.error is None and not self._aborted:
            self.finished = True
        return datagrams

    def _first_header(self, datagram: bytes) -> QuicHeader | None:
        """Return the header of a datagram that may begin a connection, or None."""
        header = long_header(datagram) if len(datagram) >= MIN_FIRST_DATAGRAM else None
        if header is None:
            return None
        if header.version not in self._settings.wire_versions:
            if self._facts.retry_source_connection_id is not None:
                self._refuse(header)
            elif header.version:
                self._negotiate(header)
            return None
        try:
            whole = pull_quic_header(Buffer(data=datagram), host_cid_length=CONNECTION_ID_SIZE)
        except ValueError:
            return None
        if whole.packet_type is not QuicPacketType.INITIAL or len(whole.destination_cid) < MIN_FIRST_DESTINATION:
            return None
        return whole

    def _refuse(self, header: LongHeader) -> None:
        """Refuse a client that answers the listener's Retry in a version that is not ours.

        It is too late for Version Negotiation (RFC 9000 section 6).
        """
        first = initial(header)
        if first is not None and first.destination == self._facts.retry_source_connection_id:
            self._negotiations.append(encode_close(first.version, first.destination, first.source, CONNECTION_REFUSED))
            self.error = HandshakeFailed(Failure.VERSION, "the client comes in a version that is not allowed here")

    def _negotiate(self, header: LongHeader) -> None:
        if self._negotiated == MAX_NEGOTIATIONS:
            return
        self._negotiated += 1
        answer = encode_quic_version_negotiation(
            source_cid=header.destination,
            destination_cid=header.source,
            supported_versions=list(self._settings.wire_versions),
        )
        self._negotiations.append(answer)

    def _begin(self, header: QuicHeader) -> None:
        facts = self._facts
        self._destination = header.destination_cid
        self._kept.clear()
        self._connection = HandshakeConnection(
            self._configuration(),
            self._new_tls(),
            original_destination_connection_id=facts.original_destination_connection_id or header.destination_cid,
            retry_source_connection_id=facts.retry_source_connection_id,
            address_validated=facts.address_validated,
            max_streams=self._settings.max_streams,
        )
