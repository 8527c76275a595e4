"""Sign of life of a process with an event loop; :mod:`hsframework.local.liveness` has the other end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Pulse:
    """Sign of life, sent by the loop itself every ``interval`` seconds, the first at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, interval: float, beat: Callable[[], None]) -> None:
        self._loop = loop
        self._interval = interval
        self._beat = beat
        self._timer: asyncio.TimerHandle | None = None
        self._turn()

    def close(self) -> None:
        """Send no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _turn(self) -> None:
        self._timer = self._loop.call_later(self._interval, self._turn)
        self._beat()
