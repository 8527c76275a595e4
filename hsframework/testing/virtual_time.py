"""An event loop with virtual time: its clock stands still while anything happens, and jumps to the next timer when the
loop is idle.

A test of a deadline of ten seconds ends at once.  Sockets are real, and both ends must be in this process, because the
loop moves time on as soon as no socket has data.

* The loop is idle when no callback is ready, no socket has data and no thread of ``run_in_executor`` is running.
* :meth:`VirtualTimeLoop.call_when_idle` calls a function when the loop is idle, before time moves on.
* Code that blocks the loop for :data:`BLOCKED_AFTER` real seconds gets :class:`LoopBlocked` raised where it hangs; so
  does any ``time.sleep`` in the loop's thread, at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
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
"""Real seconds after which a callback is interrupted, but for those in which it waits for a processor."""

_STUCK_AFTER = 30.0
"""Real seconds after which a loop without timers is given up."""
_SMALL_JUMP = 0.5
_RESOLUTION = 1e-7
_SIGNAL = signal.SIGRTMIN + 3
T = TypeVar("T")


class LoopBlocked(BaseException):
    """An interrupt of a callback that blocked the loop; its traceback shows where."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """The event loop with virtual time.

    ``blocked``: stacks of callbacks that were interrupted, one text each.  ``problems``: errors that were not handled.
    """

    def __init__(self) -> None:
        self._now = time.monotonic()
        self._idle: deque[Callable[[], object]] = deque()
        self._jobs = 0
        self.blocked: list[str] = []
        self.problems: list[str] = []
        self.heard_at = time.monotonic()
        super().__init__(_Selector(self))
        # asyncio fires timers that are due within this time; its own nanosecond is lost in a float of a year.
        self._clock_resolution = _RESOLUTION
        self.set_exception_handler(self._note)

    def time(self) -> float:
        """Return the virtual time in seconds; it begins at ``time.monotonic()``."""
        return self._now

    def call_when_idle(self, callback: Callable[[], object]) -> None:
        """Call a function once when the loop is idle, before time moves on; several are called in order."""
        self._idle.append(callback)

    async def idle(self) -> None:
        """Wait until the loop is idle, without moving time on."""
        future: asyncio.Future[None] = self.create_future()
        self.call_when_idle(lambda: None if future.done() else future.set_result(None))
        await future

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Run a function in a thread, as asyncio does; time stands still until it has returned."""
        self._jobs += 1
        future: asyncio.Future[Any] = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._job_done)
        return future

    def _job_done(self, _: object) -> None:
        self._jobs -= 1

    def nothing_happens(self, timeout: float | None, wait: Callable[[float], list[Any]]) -> list[Any]:
        """Return events after giving threads and the kernel a chance, or move time on; called by the selector.

        ``timeout``: seconds to the next timer; None: there is none.  ``wait``: waits for events, in real seconds.
        """
        # Loopback delivers within send(), except on a machine under load; epoll's shortest wait is a millisecond.
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
        """Set a timer, as asyncio does; of two timers for the same time the one that was set first fires first."""
        self._now = self._next_moment()
        return super().call_at(when, callback, *args, **kwargs)

    def drop_cancelled_timers(self) -> None:
        """Let go of timers that were cancelled, which asyncio keeps until they are due or many."""
        self._scheduled: list[asyncio.TimerHandle] = [item for item in self._scheduled if not item.cancelled()]
        heapq.heapify(self._scheduled)
        self._timer_cancelled_count = 0

    def _next_moment(self) -> float:
        # asyncio's heap of timers does not order equal times, and with this clock many would be equal.
        return self._now + max(1e-9, 2 * math.ulp(self._now))

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        said = "" if error is None else f": {type(error).__name__}: {error}"
        self.problems.append(f"{context['message']}{said}")


class _Selector(selectors.DefaultSelector):
    """A selector that calls the loop when no event is ready."""

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
    """Run a coroutine to its end in virtual time, and return its result.

    Tasks that it leaves are cancelled, and the loop is closed.  Raises RuntimeError outside the main thread, because
    only there a blocking call can be interrupted, and if the coroutine waits for something that cannot happen.
    """
    loop = loop or VirtualTimeLoop()
    try:
        with _watched(loop), _awake(loop):
            asyncio.set_event_loop(loop)
            return loop.run_until_complete(coroutine)
    finally:
        with contextlib.suppress(LoopBlocked):
            _clear(loop)
        asyncio.set_event_loop(None)
        loop.close()


def _clear(loop: VirtualTimeLoop) -> None:
    """Cancel the tasks that are left, several times, because a task may swallow a cancellation."""
    for _ in range(3):
        left = asyncio.all_tasks(loop)
        if not left:
            return
        for task in left:
            task.cancel()
        with _watched(loop):
            loop.run_until_complete(asyncio.wait(left, timeout=0.1))


@contextlib.contextmanager
def _awake(loop: VirtualTimeLoop) -> Iterator[None]:
    """Interrupt ``time.sleep`` in this thread: virtual time does not pass in it, and real loops stand still."""
    sleep, thread = time.sleep, threading.current_thread()

    def interrupt(seconds: float) -> None:
        if threading.current_thread() is not thread or not seconds:
            sleep(seconds)
            return
        loop.blocked.append("".join(traceback.format_stack()[-6:-1]))
        raise LoopBlocked(f"time.sleep({seconds}) on the event loop")

    time.sleep = interrupt  # type: ignore[assignment]
    try:
        yield
    finally:
        time.sleep = sleep


@contextlib.contextmanager
def _queue() -> Iterator[Callable[[], float]]:
    """Yield a function that returns the seconds for which the main thread has waited for a processor.

    On a busy machine they are many.  One file is open meanwhile: checks count what is open.
    """
    try:
        fd = os.open(f"/proc/self/task/{os.getpid()}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # a kernel without the table
        yield lambda: 0.0
        return
    try:
        yield lambda: int(os.pread(fd, 100, 0).split()[1]) / 1e9
    finally:
        os.close(fd)


@contextlib.contextmanager
def _watched(loop: VirtualTimeLoop) -> Iterator[None]:
    """Interrupt callbacks that take too long, by a signal to this thread, which ends its system call."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("virtual time runs in the main thread alone")
    over = threading.Event()
    main = threading.main_thread().ident
    assert main is not None
    loop.heard_at = time.monotonic()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if time.monotonic() - loop.heard_at < BLOCKED_AFTER:
            return  # the callback has just ended
        where = "".join(traceback.format_stack(frame)[-6:]) if frame is not None else ""
        loop.blocked.append(where)
        loop.heard_at = time.monotonic()
        raise LoopBlocked(f"the event loop was blocked for {BLOCKED_AFTER:.0f} seconds")

    def watch() -> None:
        heard, before = loop.heard_at, queued()
        while not over.wait(0.25):
            if heard != loop.heard_at:
                heard, before = loop.heard_at, queued()
            elif time.monotonic() - heard - (queued() - before) > BLOCKED_AFTER:
                signal.pthread_kill(main, _SIGNAL)
                over.wait(1.0)

    with _queue() as queued:
        handler = signal.signal(_SIGNAL, interrupt)
        watcher = threading.Thread(target=watch, name="hsframework-watchdog", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            signal.signal(_SIGNAL, handler)
