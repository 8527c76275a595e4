"""An event loop whose clock stands still while anything happens, and jumps when nothing does.

A test of a deadline of ten seconds is over at once, and a delay that a test asks for costs nothing.  Sockets are real:
both ends must be in this process, since the loop knows that nothing will come only when nobody else could send.

* Time moves on when no callback is ready, no socket has anything and no thread of ``run_in_executor`` is at work.
* :meth:`VirtualTimeLoop.call_when_idle` is for what happens next when nothing else can: before time moves on.
* Code that blocks the loop for :data:`BLOCKED_AFTER` real seconds gets :class:`LoopBlocked` raised where it hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import selectors
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any, TypeVar

BLOCKED_AFTER = 5.0
"""Real seconds for one callback, after which it is interrupted."""

_STUCK_AFTER = 30.0
_SMALL_JUMP = 0.5
_RESOLUTION = 1e-7
_SIGNAL = signal.SIGRTMIN + 3
T = TypeVar("T")


class LoopBlocked(BaseException):
    """A callback has not given the loop back; its traceback says where it hung."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """``blocked``: where callbacks had to be interrupted, one text each.  ``problems``: what nobody has handled."""

    def __init__(self) -> None:
        self._now = time.monotonic()
        self._idle: deque[Callable[[], object]] = deque()
        self._jobs = 0
        self.blocked: list[str] = []
        self.problems: list[str] = []
        self.heard_at = time.monotonic()
        super().__init__(_Selector(self))
        # asyncio fires what is due before this has passed; its own nanosecond is nothing to a float of a year.
        self._clock_resolution = _RESOLUTION
        self.set_exception_handler(self._note)

    def time(self) -> float:
        """The virtual time; it begins at that of ``time.monotonic``."""
        return self._now

    def call_when_idle(self, callback: Callable[[], object]) -> None:
        """Call once, as soon as nothing else can happen without time moving on.  First come, first served."""
        self._idle.append(callback)

    async def idle(self) -> None:
        """Wait until nothing else can happen without time moving on."""
        future: asyncio.Future[None] = self.create_future()
        self.call_when_idle(lambda: None if future.done() else future.set_result(None))
        await future

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """As asyncio's; time stands still until it has returned."""
        self._jobs += 1
        future: asyncio.Future[Any] = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._job_done)
        return future

    def _job_done(self, _: object) -> None:
        self._jobs -= 1

    def nothing_happens(self, timeout: float | None, wait: Callable[[float], list[Any]]) -> list[Any]:
        """What the selector asks when nothing is ready.  ``wait``: for so many real seconds."""
        # Loopback delivers while send() runs, but for a machine under load; epoll's least wait is a millisecond.
        for _ in range(3):
            os.sched_yield()
            if events := wait(0):
                return events
        if self._idle:
            self.call_soon(self._idle.popleft())
            return []
        if self._jobs or timeout is None:
            if not (events := wait(_STUCK_AFTER)):
                raise RuntimeError("nothing can happen on the loop any more: somebody waits for what never comes")
            return events
        if events := wait(0.001 if timeout < _SMALL_JUMP else 0.02):
            return events
        self._now += max(timeout, _RESOLUTION)
        return []

    def call_at(self, when: float, callback: Any, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:  # type: ignore[override]
        """As asyncio's; of two timers for one moment the one that was set first fires first."""
        self._now = self._next_moment()
        return super().call_at(when, callback, *args, **kwargs)

    def _next_moment(self) -> float:
        # asyncio's heap of timers keeps no order among equals, and here the clock would give many the same time.
        return self._now + max(1e-9, 2 * math.ulp(self._now))

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        said = "" if error is None else f": {type(error).__name__}: {error}"
        self.problems.append(f"{context['message']}{said}")


class _Selector(selectors.DefaultSelector):
    """Asks the loop before it waits."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._owner = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        self._owner.heard_at = time.monotonic()
        events: list[Any] = super().select(0)
        if not events and (timeout is None or timeout > 0):
            events = self._owner.nothing_happens(timeout, super().select)
        self._owner.heard_at = time.monotonic()
        return events


def run(coroutine: Coroutine[Any, Any, T], *, loop: VirtualTimeLoop | None = None) -> T:
    """Run a coroutine to its end in virtual time.  Tasks that it leaves are cancelled; the loop is closed.

    In the main thread alone, whose blocking calls can be interrupted.
    """
    loop = loop or VirtualTimeLoop()
    try:
        with _watched(loop):
            asyncio.set_event_loop(loop)
            return loop.run_until_complete(coroutine)
    finally:
        with contextlib.suppress(LoopBlocked):
            _clear(loop)
        asyncio.set_event_loop(None)
        loop.close()


def _clear(loop: VirtualTimeLoop) -> None:
    """Cancel what is left, a few times: some swallow the first cancellation."""
    for _ in range(3):
        left = asyncio.all_tasks(loop)
        if not left:
            return
        for task in left:
            task.cancel()
        with _watched(loop):
            loop.run_until_complete(asyncio.wait(left, timeout=0.1))


@contextlib.contextmanager
def _watched(loop: VirtualTimeLoop) -> Iterator[None]:
    """Interrupt callbacks that take too long: a signal to this thread, which ends its system call."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("virtual time runs in the main thread alone")
    over = threading.Event()
    main = threading.main_thread().ident
    assert main is not None
    loop.heard_at = time.monotonic()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if time.monotonic() - loop.heard_at < BLOCKED_AFTER:
            return  # it has just moved on
        where = "".join(traceback.format_stack(frame)[-6:]) if frame is not None else ""
        loop.blocked.append(where)
        loop.heard_at = time.monotonic()
        raise LoopBlocked(f"the event loop was blocked for {BLOCKED_AFTER:.0f} seconds")

    def watch() -> None:
        while not over.wait(0.25):
            if time.monotonic() - loop.heard_at > BLOCKED_AFTER:
                signal.pthread_kill(main, _SIGNAL)
                over.wait(1.0)

    before = signal.signal(_SIGNAL, interrupt)
    watcher = threading.Thread(target=watch, name="hsframework-watchdog", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        signal.signal(_SIGNAL, before)
