"""The content of protected records after the handshake: data, alerts and post-handshake messages.  Sans-IO.

One :class:`Inbound` reads one session's decrypted records, whoever decrypted them: our record layer or the kernel.

The rules (RFC 8446 sections 4.6, 5 and 6):

* A handshake message may be split over records; no other record may come between its parts.
* NewSessionTicket is for clients, KeyUpdate for both and ends its record; all else is refused, since we never offer
  post-handshake authentication.
* An alert fills its record.  close_notify ends the direction, what follows it is ignored; user_canceled is passed over;
  every other alert is fatal.
* Records without data are bounded by an :mod:`.allowance`, so that a peer cannot keep us busy with nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from hsframework.failures import Failure
from hsframework.interface import Role
from hsframework.tls.alerts import describe_alert
from hsframework_tls13.allowance import TICKETS, Allowance, Clock
from hsframework_tls13.events import Closed, Data, Event, KeyUpdated, SessionBroken, TicketIgnored
from hsframework_tls13.records import ALERT, APPLICATION_DATA, CLOSE_NOTIFY, HANDSHAKE, USER_CANCELED

NEW_SESSION_TICKET = 4
KEY_UPDATE = 24

MAX_MESSAGE = 1 << 17
"""A NewSessionTicket cannot be longer than 2^17 bytes: its fields end at 2^16 each."""


class Inbound:
    """The reader of record contents.  ``feed`` takes the content of one record; a failure is final.

    ``is_answer``: called for each KeyUpdate that asks for nothing; True if we had asked for it.  ``clock``: seconds,
    monotonic, for the allowance; None: it does not grow with time.
    """

    def __init__(
        self, role: Role, *, is_answer: Callable[[], bool] = lambda: False, clock: Clock | None = None
    ) -> None:
        self._role = role
        self._partial = bytearray()
        self._is_answer = is_answer
        self._allowance, self._tickets = Allowance(clock), Allowance(clock)
        self.closed = False

    def feed(self, content_type: int, content: bytes) -> list[Event]:
        """Return the events of one record's content, in order.  Raises SessionBroken."""
        if self.closed:
            return []
        if self._partial and content_type != HANDSHAKE:
            raise SessionBroken(Failure.UNEXPECTED_MESSAGE, "a record between the parts of a handshake message")
        if content_type == APPLICATION_DATA:
            return self._data(content)
        if content_type == HANDSHAKE:
            return self._handshake(content)
        if content_type == ALERT:
            return self._alert(content)
        raise SessionBroken(Failure.UNEXPECTED_MESSAGE, f"a protected record of type {content_type}")

    def _data(self, content: bytes) -> list[Event]:
        if content:
            self._allowance.restore()
            self._tickets.restore()
            return [Data(content)]
        self._spend("empty records")
        return []

    def _spend(self, what: str) -> None:
        if not self._allowance.spend():
            raise SessionBroken(Failure.UNEXPECTED_MESSAGE, f"too many {what} in a row, without data")

    def _alert(self, content: bytes) -> list[Event]:
        if not content:
            raise SessionBroken(Failure.UNEXPECTED_MESSAGE, "an empty alert record")
        if len(content) != 2:
            raise SessionBroken(Failure.GARBAGE, f"an alert of {len(content)} bytes")
        description = content[1]
        if description == CLOSE_NOTIFY:
            self.closed = True
            return [Closed()]
        if description == USER_CANCELED:
            self._spend("alerts")
            return []
        raise SessionBroken(Failure.PEER_REFUSED, describe_alert(description), peer_alert=description)

    def _handshake(self, content: bytes) -> list[Event]:
        if not content:
            raise SessionBroken(Failure.UNEXPECTED_MESSAGE, "an empty handshake record")
        self._partial += content
        events: list[Event] = []
        while len(self._partial) >= 4:
            kind, size = self._partial[0], int.from_bytes(self._partial[1:4], "big")
            self._check_header(kind, size)
            if len(self._partial) < 4 + size:
                break
            body = bytes(self._partial[4 : 4 + size])
            del self._partial[: 4 + size]
            events.append(self._message(kind, body))
        return events

    def _check_header(self, kind: int, size: int) -> None:
        if kind == KEY_UPDATE and size != 1:
            raise SessionBroken(Failure.GARBAGE, f"a KeyUpdate of {size} bytes")
        if kind != KEY_UPDATE and (kind != NEW_SESSION_TICKET or self._role is not Role.CLIENT):
            raise SessionBroken(Failure.UNEXPECTED_MESSAGE, f"handshake message {kind} after the handshake")
        if size > MAX_MESSAGE:
            raise SessionBroken(Failure.ILLEGAL_PARAMETER, f"a handshake message of {size} bytes")

    def _message(self, kind: int, body: bytes) -> Event:
        if kind == NEW_SESSION_TICKET:
            if not self._tickets.spend(1 / TICKETS):
                raise SessionBroken(Failure.UNEXPECTED_MESSAGE, "too many session tickets in a row, without data")
            return TicketIgnored()
        if self._partial:
            raise SessionBroken(Failure.UNEXPECTED_MESSAGE, "a KeyUpdate does not end its record")
        if body not in (b"\x00", b"\x01"):
            raise SessionBroken(Failure.ILLEGAL_PARAMETER, f"KeyUpdate {body.hex()}")
        requested = body == b"\x01"
        if requested or not self._is_answer():
            self._spend("key updates")
        return KeyUpdated(requested)


def key_update_message(request_peer: bool) -> bytes:
    """Return a KeyUpdate handshake message (section 4.6.3)."""
    return bytes((KEY_UPDATE, 0, 0, 1, request_peer))
