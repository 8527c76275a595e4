"""Things that handshakes may leave behind: open files, tasks, threads, timers and objects."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence

RUNS = 5
"""Handshakes in each round of a measurement."""

_SOON = 1.0
"""Seconds; a timer that is due earlier may be the network's."""


class Holdings:
    """The open files, tasks and timers of the running loop, and threads of this process at one moment."""

    def __init__(self) -> None:
        gc.collect()
        self._tasks_alive = {task for task in asyncio.all_tasks() if not task.done()}
        self._files = dict(_open_files())
        self._timers = len(_timers())
        pool = getattr(getattr(asyncio.get_running_loop(), "_default_executor", None), "_threads", ())
        # Those of asyncio.to_thread stay, and are few.
        self._threads = {thread for thread in threading.enumerate() if thread.is_alive() and thread not in pool}

    def more_than(self, before: Holdings) -> list[str]:
        """Return the tasks and threads that are new since ``before``, and the kinds of files that have become more."""
        grown = Counter(map(_kind, self._files.values())) - Counter(map(_kind, before._files.values()))
        timers = self._timers - before._timers
        return [
            *([f"{timers} timers (call_later)"] if timers >= RUNS else []),
            *(f"{number} open {kind}" for kind, number in grown.items()),
            *(f"the task {task.get_coro()!r}" for task in self._tasks_alive - before._tasks_alive),
            *(f"the thread {thread.name!r}" for thread in self._threads - before._threads),
        ]


def _timers() -> list[asyncio.TimerHandle]:
    """Return the timers that are set, without the agent's own and those of the network."""
    loop = asyncio.get_running_loop()
    timers = getattr(loop, "_scheduled", ())
    return [
        timer
        for timer in timers
        if not timer.cancelled() and timer.when() > loop.time() + _SOON and not _is_of_the_agent(timer)
    ]


def _is_of_the_agent(timer: asyncio.TimerHandle) -> bool:
    owner = getattr(getattr(timer, "_callback", None), "__self__", None)
    return type(owner).__module__.startswith("hsframework.")


class Population:
    """The number of objects of each type at one moment."""

    def __init__(self) -> None:
        gc.collect()
        self.counts = Counter(type(item) for item in gc.get_objects())


def grown(populations: Sequence[Population]) -> list[str]:
    """Return the types of which each round of :data:`RUNS` handshakes has left at least one object each.

    ``populations``: before the first round and after each.
    """
    rounds = [after.counts - before.counts for before, after in itertools.pairwise(populations)]
    found = {kind: min(counts[kind] for counts in rounds) for kind in rounds[0]}
    return [
        f"{number} objects of {kind.__module__}.{kind.__qualname__}"
        for kind, number in sorted(found.items(), key=lambda item: str(item[0]))
        if number >= RUNS
    ]


def _open_files() -> Iterator[tuple[int, str]]:
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            yield int(name), os.readlink(f"/proc/self/fd/{name}")


def _kind(target: str) -> str:
    return target.partition(":[")[0]
