"""Measurement of the processor time of each callback of an event loop, with the stack of those that take too long.

A handshake that computes on the loop delays all others of its process.  Time that a thread waits for a processor does
not count, so the limit holds on a busy machine too.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

LIMIT_OF_A_CALLBACK = 0.05
"""Seconds of the processor that a callback may take."""
_CERTAIN = 4 * LIMIT_OF_A_CALLBACK
"""Seconds from which a single callback is no accident of the machine."""
_TIMES = 2
"""Callbacks above the limit, from which on they are no accident."""
_SAMPLES = 0.01
_FRAMES = 6

_OURS = str(Path(__file__).parent)
_STANDARD = str(Path(asyncio.__file__).parents[1])
_PREPARE = str(Path(__file__).parents[1] / "agent" / "served.py")


class Slowness:
    """The callbacks that have taken too long, and the stack of each."""

    def __init__(self) -> None:
        self.found: list[tuple[float, list[Line]]] = []
        self.excused = False
        """True while callbacks may take their time: a first handshake imports modules."""
        self._begun = 0.0
        self._collected = 0.0
        self._collecting = 0.0
        self._sample: list[Line] | None = None

    @property
    def is_certain(self) -> bool:
        """True if a callback has taken too long, and not by accident."""
        return len(self.found) >= _TIMES or any(seconds > _CERTAIN for seconds, _ in self.found)

    @property
    def certain(self) -> tuple[float, str] | None:
        """The slowest callback, as seconds and stack; None: none, or one by accident."""
        if self.is_certain:
            seconds, stack = max(self.found)
            return seconds, _shown(stack)
        return None

    def begin(self) -> None:
        """Note that a callback begins."""
        self._sample = None
        self._collected = 0.0
        self._begun = time.thread_time()

    def end(self) -> None:
        """Note that a callback has ended."""
        used = time.thread_time() - self._begun - self._collected
        if used > LIMIT_OF_A_CALLBACK and self._sample is not None and not self.excused:
            self.found.append((used, self._sample))
        self._begun = 0.0

    def sample(self, number: int, frame: FrameType | None) -> None:
        """Keep the stack of a callback that takes longer than half of what it may; a signal handler."""
        if self._begun and self._sample is None and time.thread_time() - self._begun > LIMIT_OF_A_CALLBACK / 2:
            self._sample = _stack(frame)

    def collecting(self, phase: str, info: dict[str, Any]) -> None:
        """Leave the garbage collector's time out; one of ``gc.callbacks``."""
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            self._collected += time.thread_time() - self._collecting


Line = tuple[str, int, str]
"""A line of a stack: file, number, function."""


def _stack(frame: FrameType | None) -> list[Line] | None:
    """Return a stack; None: it is the suite's own computation, or ``prepare``, which may take its time.

    It opens no file, because checks count those that are opened.
    """
    stack: list[Line] = []
    while frame is not None:
        stack.insert(0, (frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    own = [name for name, _, _ in stack if not _is_standard(name)]
    if not own or own[-1].startswith(_OURS) or _PREPARE in own:
        return None
    return stack[-_FRAMES:]


def _shown(stack: list[Line]) -> str:
    """Return a stack as text, with its source."""
    return "".join(traceback.format_list([traceback.FrameSummary(*line) for line in stack]))


def _is_standard(name: str) -> bool:
    return name.startswith("<") or (name.startswith(_STANDARD) and "-packages" not in name)


@contextlib.contextmanager
def measured() -> Iterator[Slowness]:
    """Measure the callbacks of every event loop that runs in this thread, the main thread."""
    slowness = Slowness()
    if sys.gettrace() is not None:  # a debugger's time, or that of a measurement of coverage
        yield slowness
        return
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        slowness.begin()
        run(handle)
        slowness.end()

    handler = signal.signal(signal.SIGPROF, slowness.sample)
    signal.setitimer(signal.ITIMER_PROF, _SAMPLES, _SAMPLES)
    gc.callbacks.append(slowness.collecting)
    asyncio.Handle._run = timed  # type: ignore[method-assign, assignment]
    try:
        yield slowness
    finally:
        asyncio.Handle._run = run  # type: ignore[method-assign]
        gc.callbacks.remove(slowness.collecting)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
