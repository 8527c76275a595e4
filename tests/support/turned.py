"""Event loops that a test turns: each stands for a process, and the clock moves when the test says so."""

from __future__ import annotations

import heapq
import select
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


@dataclass(order=True)
class Timer:
    """A call that the loop is to make."""

    when: float
    order: int
    call: Callable[[], object] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.cancelled = True


class ClockedLoop:
    """An event loop's clock and timers; whoever has it moves ``now``, and makes the calls that are due."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[Timer] = []
        self._order = count()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[..., object], *values: Any) -> Timer:
        timer = Timer(when, next(self._order), lambda: call(*values))
        heapq.heappush(self._timers, timer)
        return timer

    def call_later(self, delay: float, call: Callable[..., object], *values: Any) -> Timer:
        return self.call_at(self.now + delay, call, *values)

    def call_soon(self, call: Callable[..., object], *values: Any) -> Timer:
        return self.call_at(self.now, call, *values)


class TurnedLoop(ClockedLoop):
    """The event loop of one process: nothing happens in it but in :meth:`turn`."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[tuple[int, int], Callable[[], object]] = {}

    def add_reader(self, fd: int | _HasFileno, call: Callable[..., object], *values: Any) -> None:
        self._calls[_number(fd), select.POLLIN] = lambda: call(*values)

    def remove_reader(self, fd: int | _HasFileno) -> bool:
        return self._calls.pop((_number(fd), select.POLLIN), None) is not None

    def add_writer(self, fd: int | _HasFileno, call: Callable[..., object], *values: Any) -> None:
        self._calls[_number(fd), select.POLLOUT] = lambda: call(*values)

    def remove_writer(self, fd: int | _HasFileno) -> bool:
        return self._calls.pop((_number(fd), select.POLLOUT), None) is not None

    def turn(self) -> bool:
        """Make the calls that are due, and those of descriptors that are ready.  Return True if there was one."""
        made = False
        due: list[Timer] = []
        while self._timers and self._timers[0].when <= self.now:
            due.append(heapq.heappop(self._timers))
        for timer in due:
            if not timer.cancelled:
                made = True
                timer.call()
        poll = select.poll()
        wanted: dict[int, int] = {}
        for fd, event in self._calls:
            wanted[fd] = wanted.get(fd, 0) | event
        for fd, events in wanted.items():
            poll.register(fd, events)
        for fd, events in poll.poll(0):
            for event in (select.POLLIN, select.POLLOUT):
                call = self._calls.get((fd, event))
                if call is not None and events & (event | select.POLLHUP | select.POLLERR):
                    made = True
                    call()
        return made


def _number(fd: int | _HasFileno) -> int:
    return fd if isinstance(fd, int) else fd.fileno()
