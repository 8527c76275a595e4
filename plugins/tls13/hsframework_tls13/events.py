"""The events of a session's inbound direction, and the errors that end it.

Errors in this package, below ``hsframework.errors.StreamError``::

    SessionBroken          the peer broke the protocol, refused with an alert, or a limit was reached
    └── SessionTruncated   the connection ended without close_notify: an attacker may have cut it off (RFC 8446 6.1)
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from hsframework.errors import StreamError
from hsframework.failures import Failure


@dataclass(frozen=True, slots=True)
class Data:
    """Application data, 1 to 2^14 bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The peer's close_notify: no more data will come from it."""


@dataclass(frozen=True, slots=True)
class KeyUpdated:
    """A change of the peer's sending keys.  ``update_requested``: the peer asks for a change of ours."""

    update_requested: bool


@dataclass(frozen=True, slots=True)
class TicketIgnored:
    """A NewSessionTicket: this service resumes nothing."""


_REFUSALS = frozenset((42, 43, 44, 45, 46, 48, 49, 115, 116))
"""Alerts about the identity of the one who receives them."""

Event = Data | Closed | KeyUpdated | TicketIgnored


class SessionBroken(StreamError):
    """The failure of an established session, which cannot go on.

    ``failure`` is the row of the alert and errno table; ``peer_alert`` the alert that the peer sent, if it did.  An
    alert about our certificate or key is EACCES, because a TLS 1.3 server refuses a client only after the client is
    done; any other is ECONNABORTED.
    """

    def __init__(self, failure: Failure, detail: str = "", *, peer_alert: int | None = None) -> None:
        meaning, number = failure.meaning, failure.errno
        if failure is Failure.PEER_REFUSED:
            refused = peer_alert in _REFUSALS
            number = number if refused else errno.ECONNABORTED
            meaning = "the peer refuses this side" if refused else "the peer ended the session with an alert"
        super().__init__(f"{meaning}: {detail}" if detail else meaning, errno=number)
        self.failure = failure
        self.detail = detail
        self.peer_alert = peer_alert

    def fresh(self) -> SessionBroken:
        """Return the same error to raise again, without the traceback that would tie it to its session."""
        return SessionBroken(self.failure, self.detail, peer_alert=self.peer_alert)


class SessionTruncated(SessionBroken):
    """The end of a connection without close_notify."""

    def __init__(self) -> None:
        super().__init__(Failure.PEER_GONE, "the connection ended without close_notify")

    def fresh(self) -> SessionTruncated:
        return SessionTruncated()
