"""A TLS 1.3 session after its handshake, in user space (RFC 8446 sections 4.6.3, 5 and 6).  Sans-IO.

The rules:

* Inbound (``receive_data``, ``receive_eof``) and outbound (everything else) share no state but flags that are set on
  one side and read on the other, so one thread may receive while another sends.
* Records owed to the peer (the answer to a KeyUpdate, an alert) are written by the *outbound* side: by
  ``data_to_send``, and in front of whatever ``encrypt`` returns next.  Bytes go on the wire in the order in which the
  calls returned them.
* A key that has protected its share of records is replaced by itself (section 5.5).
* After a failure the layer is dead: the same error again, and one alert to send.
"""

from __future__ import annotations

from hsframework.interface import Role, Secret
from hsframework_tls13.allowance import Clock
from hsframework_tls13.ciphers import CipherSuite
from hsframework_tls13.events import Data, Event, KeyUpdated, SessionBroken, SessionTruncated
from hsframework_tls13.inbound import Inbound, key_update_message
from hsframework_tls13.outbound import Outbound
from hsframework_tls13.protection import Opener, Sealer, protected_size
from hsframework_tls13.records import (
    ALERT,
    APPLICATION_DATA,
    HANDSHAKE,
    HEADER_SIZE,
    MAX_PLAINTEXT,
)


class RecordLayer:
    """A session in both directions.

    The secrets are ``client_application_traffic_secret_N`` and the server's (section 7.1); the sequence numbers count
    the records under them so far.  ``max_payload``: bytes of a record's content at most, in both directions.
    ``clock``: seconds, monotonic (:mod:`.allowance`).
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
        max_payload: int = MAX_PLAINTEXT,
        clock: Clock | None = None,
    ) -> None:
        ours, theirs = (client_secret, server_secret) if role is Role.CLIENT else (server_secret, client_secret)
        self._sealer = Sealer(suite, ours, write_sequence)
        self._opener = Opener(suite, theirs, read_sequence, max_payload)
        self._max_payload = max_payload
        self._outbound = Outbound()
        self._inbound = Inbound(role, is_answer=self._outbound.is_answer, clock=clock)
        self._buffer = bytearray()

    @property
    def peer_closed(self) -> bool:
        """True if the peer has sent close_notify."""
        return self._inbound.closed

    @property
    def closed(self) -> bool:
        """True if we have sent close_notify or a fatal alert: nothing more can be sent."""
        return self._outbound.closed

    @property
    def failure(self) -> SessionBroken | None:
        """The error that ended the session, from the moment in which it was found; None: it goes on."""
        return self._outbound.failure

    @property
    def owes_output(self) -> bool:
        """True if ``data_to_send`` would return something."""
        return self._outbound.owes

    def receive_data(self, data: bytes) -> list[Event]:
        """Take bytes from the connection, in pieces of any size; return events.  Raises SessionBroken.

        An error that comes behind good records in the same bytes is raised by the next call.
        """
        self._outbound.check()
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
        """Take bytes from the connection; return the application data alone."""
        return b"".join(event.data for event in self.receive_data(data) if isinstance(event, Data))

    def receive_eof(self) -> None:
        """Note that the connection has ended.  Raises SessionTruncated unless the peer had sent close_notify."""
        self._outbound.check()
        if not self._inbound.closed:
            self._fail(SessionTruncated())
            raise SessionTruncated

    def encrypt(self, data: bytes) -> bytes:
        """Return records that carry ``data``, after those that are owed.  Raises SessionBroken once closed."""
        self._outbound.check_open()
        parts = [self.data_to_send()]
        view = memoryview(data)
        for start in range(0, len(view), self._max_payload):
            if self._sealer.exhausted:
                parts.append(self._key_update(request_peer=False))
            parts.append(self._sealer.seal(APPLICATION_DATA, bytes(view[start : start + self._max_payload])))
        return b"".join(parts)

    def data_to_send(self) -> bytes:
        """Return the records that the protocol itself owes the peer now; often none."""
        parts: list[bytes] = []
        if self._outbound.take_update():
            parts.append(self._key_update(request_peer=False))
        parts.append(self._alert(self._outbound.take_alert()))
        return b"".join(parts)

    def update_keys(self, request_peer: bool = False) -> bytes:
        """Return a KeyUpdate (section 4.6.3); later records are under new keys.  Raises SessionBroken once closed."""
        self._outbound.check_open()
        return self.data_to_send() + self._key_update(request_peer)

    def close(self) -> bytes:
        """Return close_notify; the peer may go on sending.  Empty when our direction is closed already."""
        return self.data_to_send() + self._alert(self._outbound.close())

    def abort(self, description: int) -> bytes:
        """Return a fatal alert of the caller's choice, which ends our direction."""
        return self._alert(self._outbound.abort(description))

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
                self._outbound.answer(event)
            events.append(event)
        return True

    def _fail(self, error: SessionBroken) -> None:
        self._outbound.fail(error)
        self._buffer.clear()

    def _key_update(self, request_peer: bool) -> bytes:
        if request_peer:
            self._outbound.asked()
        record = self._sealer.seal(HANDSHAKE, key_update_message(request_peer))
        self._sealer.next_generation()
        return record

    def _alert(self, content: bytes | None) -> bytes:
        return b"" if content is None else self._sealer.seal(ALERT, content)
