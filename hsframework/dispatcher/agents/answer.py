"""Answer of an agent to READY: whether its loop turns is asked of those, too, who hold no work.

* Looks come every :data:`INTERVAL` seconds while READY has no answer.  Any message is an answer.
* An agent that is silent for :data:`LOOKS` of them in a row, while requests wait in a group that was announced to it,
  has failed unless it runs: its keeper, which has more patience, ends one that computes or waits for a processor.
* In an uninterruptible wait it has more time: the machine may be short of memory.
* A look that comes late counts from the beginning, since it was this process that did not run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

INTERVAL = 0.25
LOOKS = 4
PATIENT_LOOKS = 20
"""Looks for an agent in an uninterruptible wait."""


class Answer:
    """Look-out for the answer of one agent.

    ``is_wanted``: True if requests wait for it.  ``failed``: called once, by the loop, when it has failed.
    """

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
        self._silent: int | None = None
        """Looks without an answer; None: none is due."""
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def expect(self) -> None:
        """Begin to wait: READY has been sent."""
        if self._silent is None:
            self._silent = 0
            if self._timer is None:
                self._look_later()

    def came(self) -> None:
        """Wait no longer: the agent has sent something."""
        self._silent = None

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look_later(self) -> None:
        self._due = self._loop.time() + INTERVAL
        self._timer = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._silent is None:
            return
        late = self._loop.time() - self._due > INTERVAL
        self._silent = self._silent + 1 if self._is_wanted() and not late else 0
        if self._silent >= LOOKS:
            state = process_state(self._pid)
            if state in ("S", "T", "t") or (state == "D" and self._silent >= PATIENT_LOOKS):
                self._failed()
                return
        self._look_later()


def process_state(pid: int) -> str:
    """Return the letter of a process's state (proc_pid_stat(5)), or "" where nobody may know it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return chr(file.read(512).rpartition(b") ")[2][0])
    except (OSError, IndexError):
        return ""
