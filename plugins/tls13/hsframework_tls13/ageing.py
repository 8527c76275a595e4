"""The end of contexts with private keys that are not used: they are dropped after a quiet minute."""

from __future__ import annotations

import asyncio

from hsframework_tls13.contexts import Contexts

INTERVAL = 30.0
"""Seconds between two looks; a context that was not used between them is dropped, so after 30 to 60 seconds."""


class Ageing:
    """Timer of one handshaker's contexts.  It runs while there are contexts with private keys."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def used(self) -> None:
        """Start the timer, unless it runs on this event loop.  To be called for each handshake."""
        loop = asyncio.get_running_loop()
        if self._timer is None or self._loop is not loop:
            self._loop = loop
            self._timer = loop.call_later(INTERVAL, self._look)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._contexts.age() and self._loop is not None:
            self._timer = self._loop.call_later(INTERVAL, self._look)
