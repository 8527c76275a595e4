"""Answer of an agent to READY: whether its loop turns is asked of those, too, who hold no work.

* Looks come every :data:`INTERVAL` seconds while READY has no answer.  Any message is an answer.
* An agent that is silent for :data:`LOOKS` of them in a row, while requests wait in a group that was announced to it,
  has failed unless it runs: its keeper, which has more patience, ends one that computes or waits for a processor.
* In an uninterruptible wait it has more time, since the machine may be short of memory; so has one of unknown state.
* A look that comes late counts from the beginning, since it was this process that did not run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hsframework.process.states import process_state

INTERVAL = 0.25
LOOKS = 4
PATIENT_LOOKS = 20
"""Looks for an agent in an uninterruptible wait, or in an unknown state."""


class Answer:
    """Look-out for the answer of one agent.

    Its link sets ``silent`` to 0 when READY has been sent and to None when a message has come, and has :meth:`look`
    called unless ``timer`` says that it will be.  ``is_wanted``: True if requests wait for the agent.  ``failed``:
    called once, by the loop, when it has failed.
    """

    __slots__ = ("_failed", "_is_wanted", "_loop", "_pid", "due", "silent", "timer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pid: int,
        is_wanted: Callable[[], bool],
        failed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._pid = pid
        self._is_wanted = is_wanted
        self._failed = failed
        self.silent: int | None = None
        """Looks without an answer; None: none is due."""
        self.timer: asyncio.TimerHandle | None = None
        self.due = 0.0
        """Time of the next look, on the loop's clock."""

    def close(self) -> None:
        """Look no more."""
        if self.timer is not None:
            self.timer.cancel()

    def look(self) -> None:
        """Count one more look without an answer, and judge."""
        self.timer = None
        if self.silent is None:
            return
        late = self._loop.time() - self.due > INTERVAL
        self.silent = self.silent + 1 if self._is_wanted() and not late else 0
        if self.silent >= LOOKS:
            state = process_state(self._pid)
            if state in ("S", "T", "t") or (state in ("D", "") and self.silent >= PATIENT_LOOKS):
                self._failed()
                return
        self.due = self._loop.time() + INTERVAL
        self.timer = self._loop.call_at(self.due, self.look)
