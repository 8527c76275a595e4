"""Signals of a process that waits in a selector, and the ones that end it.

Rules:

* A program that was started with SIGINT ignored (nohup, or ``command &`` in a script) leaves it so, in all of its
  processes: :func:`stop_signals` does not name it then.
* The wake-up fd and the handlers are state of the whole process, and any library may reset them (asyncio does, in a
  forked child).  So nothing here reads them back: :class:`SignalSocket` keeps its fds itself, and a signal arrives by
  the wake-up fd or by the handler, whichever is left.
"""

from __future__ import annotations

import contextlib
import signal
import socket
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


class SignalSocket:
    """A socket that is readable when one of some signals has come.  Belongs to the main thread."""

    def __init__(self, numbers: Collection[signal.Signals]) -> None:
        self._numbers = tuple(numbers)
        self._noted: set[int] = set()
        self._reader, self._writer = socket.socketpair()
        for sock in (self._reader, self._writer):
            sock.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in self._numbers:
            signal.signal(number, self._note)
        # A mask is inherited too.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)

    def fileno(self) -> int:
        """Return the fd to wait for."""
        return self._reader.fileno()

    def take(self) -> frozenset[int]:
        """Return the signals that have come since the last call."""
        noted, self._noted = self._noted, set()
        with contextlib.suppress(BlockingIOError):
            while data := self._reader.recv(4096):
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
        """Let the signals end this process again, and close the socket.  In a forked child, within :meth:`held`."""
        signal.set_wakeup_fd(-1)
        for number in self._numbers:
            signal.signal(number, signal.SIG_DFL)
        # Whoever can write to it can stop the parent.
        self._close_sockets()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)

    def close(self) -> None:
        """Close the socket; the signals do nothing from now on."""
        other = signal.set_wakeup_fd(-1)
        if other not in (-1, self._writer.fileno()):
            with contextlib.suppress(OSError, ValueError):
                signal.set_wakeup_fd(other)
        self._close_sockets()

    def _close_sockets(self) -> None:
        self._reader.close()
        self._writer.close()

    def _note(self, number: int, frame: object) -> None:
        self._noted.add(number)
        with contextlib.suppress(OSError):
            self._writer.send(bytes((number,)))
