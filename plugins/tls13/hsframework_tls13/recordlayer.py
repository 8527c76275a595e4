"""A TLS 1.3 session after its handshake, in user space (RFC 8446 sections 4.6.3, 5 and 6).  Sans-IO.

The rules:

* Inbound (``receive_data``, ``receive_eof``) and outbound (everything else) share no state but flags that are set on
  one side and read on the other, so one thread may receive while another sends.
* What the protocol owes the peer (the answer to a KeyUpdate, an alert) is written by the *outbound* side: by
  ``data_to_send``, and in front of whatever ``encrypt`` returns next.  Bytes go on the wire in the order in which the
  calls returned them.
* A key that has protected its share of records is replaced by itself (section 5.5).
* After a failure the layer is dead: the same error again, and one alert to send.
"""

from __future__ import annotations

from hsframework.credentials.failures import Failure
from hsframework.interface import Role, Secret
from hsframework_tls13.ciphers import CipherSuite
from hsframework_tls13.events import Data, Event, KeyUpdated, SessionBroken, SessionTruncated
from hsframework_tls13.inbound import Inbound, key_update_message
from hsframework_tls13.protection import Opener, Sealer, protected_size
from hsframework_tls13.records import (
    ALERT,
    ALERT_LEVEL_FATAL,
    ALERT_LEVEL_WARNING,
    APPLICATION_DATA,
    CLOSE_NOTIFY,
    HANDSHAKE,
    HEADER_SIZE,
    MAX_PLAINTEXT,
)


class RecordLayer:
    """Both directions of one session.

    The secrets are ``client_application_traffic_secret_N`` and the server's (section 7.1); the sequence numbers count
    the records under them so far.
    """

    def __init__(
        self,
        role: Role,
        suite: CipherSuite,
        client_secret: Secret,
        server_secret: Secret,
        *,
        read_sequence: int = 0,
        write_sequence: int = 0,
    ) -> None:
        ours, theirs = (client_secret, server_secret) if role is Role.CLIENT else (server_secret, client_secret)
        self._sealer = Sealer(suite, ours, write_sequence)
        self._opener = Opener(suite, theirs, read_sequence)
        self._inbound = Inbound(role)
        self._buffer = bytearray()
        self._failed: SessionBroken | None = None
        self._update_owed = False
        self._alert_owed: int | None = None
        self._closed = False

    @property
    def peer_closed(self) -> bool:
        """The peer has sent close_notify."""
        return self._inbound.closed

    @property
    def closed(self) -> bool:
        """We have sent close_notify or a fatal alert: nothing more can be sent."""
        return self._closed

    @property
    def failure(self) -> SessionBroken | None:
        """The error that ended the session, from the moment in which it was found."""
        return self._failed

    @property
    def owes_output(self) -> bool:
        """``data_to_send`` would return something."""
        return not self._closed and (self._update_owed or self._alert_owed is not None)

    def receive_data(self, data: bytes) -> list[Event]:
        """Bytes from the connection, in pieces of any size.  Raises SessionBroken.

        An error that comes behind good records in the same bytes is raised by the next call.
        """
        if self._failed is not None:
            raise self._failed.fresh()
        self._buffer += data
        events: list[Event] = []
        try:
            while not self._inbound.closed and self._next_record(events):
                pass
        except SessionBroken as error:
            self._fail(error)
            if not events:
                raise
        if self._inbound.closed:
            self._buffer.clear()
        return events

    def decrypt(self, data: bytes) -> bytes:
        """The application data alone of :meth:`receive_data`."""
        return b"".join(event.data for event in self.receive_data(data) if isinstance(event, Data))

    def receive_eof(self) -> None:
        """The connection has ended.  Raises SessionTruncated unless the peer had said close_notify."""
        if self._failed is not None:
            raise self._failed.fresh()
        if not self._inbound.closed:
            self._fail(SessionTruncated())
            raise SessionTruncated

    def encrypt(self, data: bytes) -> bytes:
        """Records that carry ``data``, with what is owed in front of them.  Raises SessionBroken once closed."""
        self._check_open()
        parts = [self.data_to_send()]
        view = memoryview(data)
        for start in range(0, len(view), MAX_PLAINTEXT):
            if self._sealer.exhausted:
                parts.append(self._key_update(request_peer=False))
            parts.append(self._sealer.seal(APPLICATION_DATA, bytes(view[start : start + MAX_PLAINTEXT])))
        return b"".join(parts)

    def data_to_send(self) -> bytes:
        """What the protocol itself owes the peer now; often nothing."""
        parts: list[bytes] = []
        if self._update_owed and not self._closed:
            self._update_owed = False
            parts.append(self._key_update(request_peer=False))
        if self._alert_owed is not None and not self._closed:
            parts.append(self._alert(ALERT_LEVEL_FATAL, self._alert_owed))
        return b"".join(parts)

    def update_keys(self, request_peer: bool = False) -> bytes:
        """A KeyUpdate (section 4.6.3); what is sent after it is under new keys.  Raises SessionBroken once closed."""
        self._check_open()
        return self.data_to_send() + self._key_update(request_peer)

    def close(self) -> bytes:
        """close_notify; the peer may go on sending.  Empty when our direction is closed already."""
        owed = self.data_to_send()
        return owed if self._closed else owed + self._alert(ALERT_LEVEL_WARNING, CLOSE_NOTIFY)

    def abort(self, description: int) -> bytes:
        """A fatal alert of the caller's choice; ends our direction."""
        return b"" if self._closed else self._alert(ALERT_LEVEL_FATAL, description)

    def _next_record(self, events: list[Event]) -> bool:
        if len(self._buffer) < HEADER_SIZE:
            return False
        header = bytes(self._buffer[:HEADER_SIZE])
        end = HEADER_SIZE + protected_size(header)
        if len(self._buffer) < end:
            return False
        protected = bytes(self._buffer[HEADER_SIZE:end])
        del self._buffer[:end]
        for event in self._inbound.feed(*self._opener.open(header, protected)):
            if isinstance(event, KeyUpdated):
                self._opener.next_generation()
                self._update_owed = self._update_owed or event.update_requested
            events.append(event)
        return True

    def _fail(self, error: SessionBroken) -> None:
        self._failed = error.fresh()
        self._buffer.clear()
        if error.failure.alert is not None:
            self._alert_owed = error.failure.alert
        else:
            self._closed = True

    def _check_open(self) -> None:
        if self._failed is not None:
            raise self._failed.fresh()
        if self._closed:
            raise SessionBroken(Failure.CANCELLED, "our direction of the session is closed")

    def _key_update(self, request_peer: bool) -> bytes:
        record = self._sealer.seal(HANDSHAKE, key_update_message(request_peer))
        self._sealer.next_generation()
        return record

    def _alert(self, level: int, description: int) -> bytes:
        self._closed = True
        self._alert_owed = None
        return self._sealer.seal(ALERT, bytes((level, description)))
