"""The TLS session that carries the exchange: one message in one record, each way.  Sans-IO."""

from __future__ import annotations

from hsframework.failures import Failure, HandshakeFailed
from hsframework_tls13.engine import Established
from hsframework_tls13.events import Closed, Data, SessionBroken, TicketIgnored
from hsframework_tls13.protection import protected_size
from hsframework_tls13.recordlayer import RecordLayer
from hsframework_tls13.records import HEADER_SIZE

RECORD_HEADER_SIZE = HEADER_SIZE
MAX_SILENT = 8
"""Records without a message (tickets, nothing at all) that are passed over."""


class Tunnel:
    """The record layer from TLS's last flight on."""

    def __init__(self, session: Established) -> None:
        self._layer = RecordLayer(session.role, session.suite, session.client_secret, session.server_secret)
        self._silent = 0

    def seal(self, message: bytes) -> bytes:
        """Return one record with the message."""
        return self._layer.encrypt(message)

    def open(self, record: bytes) -> bytes | None:
        """Return the message of one whole record; None: it has none.  Raises HandshakeFailed."""
        try:
            events = self._layer.receive_data(record)
        except SessionBroken as error:
            raise HandshakeFailed(error.failure, error.detail, peer_alert=error.peer_alert) from None
        if all(isinstance(event, TicketIgnored) for event in events):
            self._silent += 1
            if self._silent > MAX_SILENT:
                raise HandshakeFailed(Failure.UNEXPECTED_MESSAGE, "record after record without a message")
            return None
        if any(isinstance(event, Closed) for event in events):
            raise HandshakeFailed(Failure.PEER_GONE, "the peer said close_notify", peer_alert=0)
        if len(events) != 1 or not isinstance(events[0], Data):
            raise HandshakeFailed(Failure.UNEXPECTED_MESSAGE, "a record that is no message of the exchange")
        return events[0].data

    def alert(self, failure: Failure) -> bytes:
        """Return the last record, for a peer that can still read it; often empty."""
        owed = self._layer.data_to_send()
        return owed or (b"" if failure.alert is None else self._layer.abort(failure.alert))


def record_body_size(header: bytes) -> int:
    """Return the body size from a record's header, for ``Endpoint.receive_record``.

    Raises HandshakeFailed for a record that is not protected.
    """
    try:
        return protected_size(header)
    except SessionBroken as error:
        raise HandshakeFailed(error.failure, error.detail) from None
