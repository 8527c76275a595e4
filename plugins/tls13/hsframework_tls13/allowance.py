"""The allowance for records without use: what a peer may send that carries no data.  Sans-IO.

The rules:

* Misuse is a rate, so the allowance grows again with time, and data restores it: a session of any age and of any
  number of key changes goes on.  Without a clock only data restores it.
* What moves something on costs nothing: a part of a message, the answer to a KeyUpdate of ours.
"""

from __future__ import annotations

from collections.abc import Callable

BURST = 32
"""KeyUpdates, empty records and the like that may come in a row at once, as in OpenSSL and BoringSSL."""
PER_SECOND = 1.0
"""Growth of the allowance, up to :data:`BURST`."""
TICKETS = 32
"""Session tickets that cost as much as one KeyUpdate; a server may send any number (RFC 8446 section 4.6.1)."""

Clock = Callable[[], float]
"""Seconds, monotonic."""


class Allowance:
    """The allowance of one session's inbound direction."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock
        self._left = float(BURST)
        self._at = 0.0 if clock is None else clock()

    def restore(self) -> None:
        """Restore all of it: data has come."""
        self._left = float(BURST)

    def spend(self, cost: float = 1.0) -> bool:
        """Take some of it; return False if there is not enough, which is misuse."""
        if self._clock is not None:
            now = self._clock()
            self._left = min(float(BURST), self._left + (now - self._at) * PER_SECOND)
            self._at = now
        self._left -= cost
        return self._left > -1e-6
