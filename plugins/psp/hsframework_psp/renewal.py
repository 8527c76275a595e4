"""The time at which a session has to be renewed: before the second rotation of a device key that it depends on.

A consumer asks ``state`` whenever it likes, or waits: ``fileno()`` becomes readable when something was announced, for
``select`` and ``loop.add_reader``; :meth:`Renewal.wait` and :meth:`Renewal.wait_async` do that.

::

    FRESH  nothing to do
    DUE    the device key has been rotated once: establish a new session, then let this one go
    STALE  it has been rotated twice: nothing comes through
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import select
import time
from abc import ABC, abstractmethod


class RenewalState(enum.Enum):
    """The state of a session's keys."""

    FRESH = "fresh"
    DUE = "due"
    STALE = "stale"


class Renewal(ABC):
    """The renewal of one session.

    It belongs to the consumer's stream, which closes it.  Not for several threads at once.
    """

    @property
    @abstractmethod
    def state(self) -> RenewalState:
        """The state, computed anew at each call."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when the state may have changed; -1: time alone decides."""
        return -1

    def due_in(self) -> float | None:
        """Return the seconds until the state changes by time alone; None: it does not."""
        return None

    def wait(self, timeout: float | None = None) -> RenewalState:
        """Wait until the state is not FRESH, or for ``timeout`` seconds; return the state then."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (state := self.state) is RenewalState.FRESH:
            left = _least(None if deadline is None else deadline - time.monotonic(), self.due_in())
            if deadline is not None and deadline <= time.monotonic():
                break
            poller = select.poll()
            if self.fileno() >= 0:
                poller.register(self.fileno(), select.POLLIN)
            poller.poll(None if left is None else max(0.0, left) * 1000)
        return state

    async def wait_async(self) -> RenewalState:
        """Wait on the running loop until the state is not FRESH; return the state then."""
        while (state := self.state) is RenewalState.FRESH:
            loop = asyncio.get_running_loop()
            changed = asyncio.Event()
            descriptor = self.fileno()
            if descriptor >= 0:
                loop.add_reader(descriptor, changed.set)
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.due_in()):
                        await changed.wait()
            finally:
                if descriptor >= 0:
                    loop.remove_reader(descriptor)
        return state

    def close(self) -> None:  # noqa: B027  (one that holds nothing has nothing to close)
        """Close the sockets that the renewal watches with."""


class TimedRenewal(Renewal):
    """A renewal that is due after ``lifetime`` seconds from its making, and stale after twice as many."""

    def __init__(self, lifetime: int) -> None:
        self._made = time.monotonic()
        self._lifetime = lifetime

    @property
    def state(self) -> RenewalState:
        age = time.monotonic() - self._made
        if age < self._lifetime:
            return RenewalState.FRESH
        return RenewalState.DUE if age < 2 * self._lifetime else RenewalState.STALE

    def due_in(self) -> float | None:
        age = time.monotonic() - self._made
        return next((self._lifetime * times - age for times in (1, 2) if age < self._lifetime * times), None)


def _least(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return min(known) if known else None
