"""What a session's inbound direction reports, and how it breaks.

Errors in this package, below ``hsframework.errors.StreamError``::

    SessionBroken          the peer broke the protocol, refused with an alert, or a limit was reached
    └── SessionTruncated   the connection ended without close_notify: an attacker may have cut it off (RFC 8446 6.1)
"""

from __future__ import annotations

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
    """The peer changed its sending keys; ``update_requested``: it asks us to do the same."""

    update_requested: bool


@dataclass(frozen=True, slots=True)
class TicketIgnored:
    """A NewSessionTicket: this service resumes nothing."""


Event = Data | Closed | KeyUpdated | TicketIgnored


class SessionBroken(StreamError):
    """An established session cannot go on.

    ``failure`` is the row of the alert and errno table; ``peer_alert`` the alert that the peer sent, if it did.
    """

    def __init__(self, failure: Failure, detail: str = "", *, peer_alert: int | None = None) -> None:
        super().__init__(f"{failure.meaning}: {detail}" if detail else failure.meaning, errno=failure.errno)
        self.failure = failure
        self.detail = detail
        self.peer_alert = peer_alert

    def fresh(self) -> SessionBroken:
        """The same error to raise again: without the traceback that would tie it to the session that keeps it."""
        return SessionBroken(self.failure, self.detail, peer_alert=self.peer_alert)


class SessionTruncated(SessionBroken):
    """The connection ended, and the peer had not said that it would."""

    def __init__(self) -> None:
        super().__init__(Failure.PEER_GONE, "the connection ended without close_notify")

    def fresh(self) -> SessionTruncated:
        return SessionTruncated()
