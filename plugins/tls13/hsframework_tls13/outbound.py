"""The state of our direction of a session: the messages owed to the peer, and its end.  Sans-IO.

One :class:`Outbound` stands beside one :class:`~hsframework_tls13.inbound.Inbound`, whoever protects the records: our
record layer or the kernel.

The rules (RFC 8446 sections 4.6.3 and 6):

* A KeyUpdate that the peer asked for, and then an alert, go out in front of whatever is sent next.
* A failure is final: the same error again, and one alert.  After the peer's own fatal alert, or where the connection
  was cut off, there is nothing to say.
* close_notify or a fatal alert ends our direction.
"""

from __future__ import annotations

from hsframework.failures import Failure
from hsframework_tls13.events import KeyUpdated, SessionBroken
from hsframework_tls13.records import ALERT_LEVEL_FATAL, ALERT_LEVEL_WARNING, CLOSE_NOTIFY


class Outbound:
    """The state of our direction.  The reading side calls :meth:`answer` and :meth:`fail`, the writing side the rest.

    ``closed``: nothing more can be sent.  ``failure``: the error that ended the session.
    """

    def __init__(self) -> None:
        self.closed = False
        self.failure: SessionBroken | None = None
        self._update_owed = False
        self._alert_owed: int | None = None
        self._asked = 0
        self._answered = 0

    @property
    def owes(self) -> bool:
        """True if :meth:`take_update` or :meth:`take_alert` would return something."""
        return not self.closed and (self._update_owed or self._alert_owed is not None)

    def answer(self, event: KeyUpdated) -> None:
        """Note that the peer has changed its keys."""
        self._update_owed = self._update_owed or event.update_requested

    def asked(self) -> None:
        """Note that we have asked the peer to change its keys."""
        self._asked += 1

    def is_answer(self) -> bool:
        """Return True for a KeyUpdate that may be the peer's answer to one of ours, once for each of ours.

        It may answer several by one (section 4.6.3), so there may be fewer.
        """
        if self._answered >= self._asked:
            return False
        self._answered += 1
        return True

    def fail(self, error: SessionBroken) -> None:
        """Note that the session has ended."""
        self.failure = error.fresh()
        if error.failure.alert is not None:
            self._alert_owed = error.failure.alert
        else:
            self.closed = True

    def check(self) -> None:
        """Raise the error that ended the session, if there is one."""
        if self.failure is not None:
            raise self.failure.fresh()

    def check_open(self) -> None:
        """Raise SessionBroken if nothing more can be sent."""
        self.check()
        if self.closed:
            raise SessionBroken(Failure.CANCELLED, "our direction of the session is closed")

    def take_update(self) -> bool:
        """Return True if a KeyUpdate is to be sent now; it is owed no more then."""
        if self.closed or not self._update_owed:
            return False
        self._update_owed = False  # and not otherwise: the reading side may be about to set it
        return True

    def take_alert(self) -> bytes | None:
        """Return the alert that is to be sent now, or None."""
        return None if self._alert_owed is None else self.abort(self._alert_owed)

    def abort(self, description: int) -> bytes | None:
        """Return a fatal alert, which ends our direction; None: it has ended already."""
        return self._last(ALERT_LEVEL_FATAL, description)

    def close(self) -> bytes | None:
        """Return close_notify, which ends our direction; None: it has ended already."""
        return self._last(ALERT_LEVEL_WARNING, CLOSE_NOTIFY)

    def _last(self, level: int, description: int) -> bytes | None:
        if self.closed:
            return None
        self.closed = True
        return bytes((level, description))
