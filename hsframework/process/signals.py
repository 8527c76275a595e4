"""Signals of a process that waits in a selector, and the ones that end it.

Rules:

* A program that was started with SIGINT ignored (nohup, or ``command &`` in a script) leaves it so, in all of its
  processes: :func:`stop_signals` does not name it then.
* The wake-up fd and the handlers are state of the whole process, and any library may reset them (asyncio does, in a
  forked child).  So nothing here reads them back: :class:`SignalPipe` keeps its fds itself, and a signal arrives by
  the wake-up fd or by the handler, whichever is left.
* A signal needs no memory of the kernel's: a pipe that has been written and read once keeps its page.  On a socket the
  byte is lost when memory is short, and a process that waits for nothing else sleeps on.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Iterator


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that end a process: SIGTERM, and SIGINT unless it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return (signal.SIGTERM,)
    return (signal.SIGTERM, signal.SIGINT)


def ignore_hangup() -> None:
    """Ignore SIGHUP, in this process and those forked from it: who sends it wants files read again, and nothing
    ended."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def expect_children() -> None:
    """Make waitpid(2) find ended children, also where SIGCHLD is ignored, by which the kernel reaps them itself."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


class SignalPipe:
    """A pipe that is readable when one of some signals has come.  Belongs to the main thread."""

    def __init__(self, numbers: Collection[signal.Signals]) -> None:
        self._numbers = tuple(numbers)
        self._noted: set[int] = set()
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.write(self._writer, b"\0")
        os.read(self._reader, 1)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in self._numbers:
            signal.signal(number, self._note)
        # A mask is inherited too.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)

    def fileno(self) -> int:
        """Return the fd to wait for."""
        return self._reader

    def take(self) -> frozenset[int]:
        """Return the signals that have come since the last call."""
        noted, self._noted = self._noted, set()
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._reader, 4096):
                noted.update(data)
        # The wake-up fd reports every signal that has a handler in Python, also a library's.
        return frozenset(noted.intersection(self._numbers))

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the signals back in this block, to fork in it: one for the child waits until :meth:`leave`."""
        signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)

    def leave(self) -> None:
        """Let the signals end this process again, and close the pipe.  In a forked child, within :meth:`held`.

        SIGHUP is ignored, as before (:func:`ignore_hangup`).
        """
        signal.set_wakeup_fd(-1)
        for number in self._numbers:
            signal.signal(number, signal.SIG_IGN if number == signal.SIGHUP else signal.SIG_DFL)
        # Whoever can write to it can stop the parent.
        self._close_ends()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)

    def close(self) -> None:
        """Close the pipe; the signals do nothing from now on."""
        other = signal.set_wakeup_fd(-1)
        if other not in (-1, self._writer):
            with contextlib.suppress(OSError, ValueError):
                signal.set_wakeup_fd(other)
        self._close_ends()

    def _close_ends(self) -> None:
        for fd in (self._reader, self._writer):
            if fd >= 0:
                os.close(fd)
        self._reader = self._writer = -1

    def _note(self, number: int, frame: object) -> None:
        self._noted.add(number)
        with contextlib.suppress(OSError):
            os.write(self._writer, bytes((number,)))
