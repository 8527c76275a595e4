"""Child processes of the supervisor: forked, started again when they end, ended when they break the protocol.

Rules:

* They are forked and never executed: what a child needs was imported before.  So a replacement opens no program file.
* Nothing of the supervisor's stays open in a child.  A signal for a child that was just forked waits until its own
  handlers are in place.
* A child that ends is started again, at once the first time and then with growing pauses; one that has run for a while
  starts as if it were new.  One whose configuration is wrong (exit status 2) is not started again, unless it was right
  before: in a shortage of memory a file that cannot be read looks the same.  Nor is one that is not essential and ends
  with status 0 before it has reported: it has nothing to do.  Afterwards 0 is the answer to SIGTERM, which its own
  workers may send; whoever wants an end says it to the supervisor.  When only essential ones are left, and the
  configuration of another was wrong, the whole ends with status 2, since it serves nothing.
* A child that cannot be forked is tried again as one that ended; one to which a message cannot be sent, for want of
  memory or because it does not read, is killed: it would wait for it, or has hung.
* A child that has reported once is to report every few seconds; one that does not for the limit is killed, because it
  hangs or is stopped, and started again as one that ended.
* One that is stopped (SIGSTOP) and is not continued is killed too, within a second.
* A child that sends nonsense, or too much (:data:`~hsframework.supervisor.child.MOST_MESSAGES`), is killed and started
  again as one that ended.  Of each child one message is read in a turn, so none keeps the supervisor from the others;
  of one that has ended, all that it had sent.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, Protocol

import structlog

from hsframework.errors import ConfigurationError, MessageError
from hsframework.local.control_socket import ControlSocket
from hsframework.local.liveness import Liveness
from hsframework.local.stopped import StoppedChildren
from hsframework.process.lock import spare_no_child
from hsframework.process.signals import SignalPipe, stop_signals
from hsframework.supervisor.child import AnyChild, Child
from hsframework.supervisor.ending import end_all

EXIT_CONFIGURATION = 2
STOP_TIMEOUT = 10.0
"""Seconds that a group of children has to stop before they are killed."""

PAUSES = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds before a start, by how often the child has ended before."""

LONGEST_WITHOUT_ESSENTIAL = 0.5
"""Seconds: nothing is served without it, so it is back within a second, however often it ends."""

STEADY = 30.0
"""Seconds after which a child counts as well, and the next restart is at once again."""

_log = structlog.get_logger("hsframework.supervisor")


class HasFileno(Protocol):
    """Object with a descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""


class Children:
    """All child processes, and the signals that end the supervisor.

    ``limit``: seconds without a report after which a child is killed; None: none is.  ``status``: the exit status of
    the whole, once it is to end; None before.
    """

    def __init__(self, children: Iterable[AnyChild], *, limit: float | None = None) -> None:
        self._children = list(children)
        self.status: int | None = None
        self._wrong = False
        """True once a child was not started again because its configuration is wrong."""
        self._has_news = False
        """True if SIGCHLD has come since the children were looked at last."""
        self.wake_at: float | None = None
        """Time at which :meth:`wait` returns at the latest, on the monotonic clock."""
        self.leave: Callable[[], None] = lambda: None
        """Closes, in each forked child, what belongs to this process alone."""
        self._liveness: Liveness[AnyChild] | None = None if limit is None else Liveness(limit)
        self._look_at = 0.0
        self._stopped: StoppedChildren[AnyChild] = StoppedChildren()
        self._stop_signals = stop_signals()
        self._signals = SignalPipe((signal.SIGCHLD, signal.SIGHUP, *self._stop_signals))
        self.hangup: Callable[[], None] = lambda: None
        """Called in :meth:`wait` when SIGHUP has come."""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._signals, selectors.EVENT_READ, None)

    def watch(self, source: HasFileno, act: Callable[[], None]) -> None:
        """Call ``act`` in :meth:`wait` whenever there is something to read."""
        self._selector.register(source, selectors.EVENT_READ, act)

    def unwatch(self, source: HasFileno) -> None:
        """Call it no more."""
        self._selector.unregister(source)

    def add(self, child: AnyChild) -> None:
        """Keep one more child, which is started at once.  Raises OSError if it cannot be."""
        self._start(child)
        self._children.append(child)

    def start_due(self) -> None:
        """Start every child whose time has come."""
        now = time.monotonic()
        for child in self._children:
            if child.due is not None and child.due <= now:
                try:
                    self._start(child)
                except OSError as error:
                    child.failures += 1
                    _log.error("cannot be started now", child=child.name, reason=error.strerror, pause=_postpone(child))

    def wait(self) -> Iterator[tuple[AnyChild, Any]]:
        """Wait until something happens, and yield messages of children: one of each, all of those that have ended."""
        due = [child.due for child in self._children if child.due is not None]
        if self._liveness is not None:
            due.append(self._look_at)
        due += [when for when in (self._stopped.look_at, self.wake_at) if when is not None]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        for key, _ in self._selector.select(0.0 if self._has_news else timeout):
            if key.data is None:
                self._take_signals()
            elif not isinstance(key.data, Child):
                key.data()
            elif (message := self._receive(key.data)) is not None:
                self._heard(key.data)
                yield key.data, message
        self._has_news = False
        self._end_silent()
        self._end_stopped()
        for child, status in self._reaped():
            while (message := self._receive(child)) is not None:
                yield child, message
            self._after(child, status)

    def _take_signals(self) -> None:
        taken = self._signals.take()
        self._has_news = self._has_news or signal.SIGCHLD in taken
        if signal.SIGHUP in taken:
            self.hangup()
        if taken.intersection(self._stop_signals):
            self.status = 0

    def _heard(self, child: AnyChild) -> None:
        if self._liveness is not None:
            self._liveness.heard(child, time.monotonic())

    def _end_silent(self) -> None:
        """Kill every child that has not reported for the limit."""
        now = time.monotonic()
        if self._liveness is None or now < self._look_at:
            return
        self._look_at = now + self._liveness.interval
        for child in self._liveness.silent(now):
            if child.pid:
                _log.error(
                    "does not turn and is killed", child=child.name, process=child.pid, limit=self._liveness.limit
                )
                os.kill(child.pid, signal.SIGKILL)

    def _end_stopped(self) -> None:
        running = [(child, child.pid) for child in self._children if child.pid]
        for child in self._stopped.look(running, time.monotonic()):
            _log.error("is stopped and is killed", child=child.name, process=child.pid)
            os.kill(child.pid, signal.SIGKILL)

    def break_off(self, child: AnyChild, error: MessageError) -> None:
        """End a child that breaks the protocol; it is started again as one that ended by itself."""
        _log.error("a child breaks the protocol and is killed", child=child.name, reason=str(error))
        if child.pid:
            os.kill(child.pid, signal.SIGKILL)
        self._close_control(child)

    def stop(self, *groups: Iterable[AnyChild], timeout: float = STOP_TIMEOUT) -> None:
        """End every child, one group after the other, and close what this object has open.

        ``timeout``: seconds that each group has.  One that cannot be ended costs its group a second more.
        """
        for group in groups:
            end_all([child for child in group if child.pid], timeout)
        for child in self._children:
            self._close_control(child)
        self._selector.close()
        self._signals.close()

    def _start(self, child: AnyChild) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control = ControlSocket(ours, child.sends, child.receives, takes_fds=child.takes_fds)
        with theirs:
            try:
                # Before the fork, so that no failure is left for the time after it.
                self._selector.register(control, selectors.EVENT_READ, child)
                try:
                    pid = self._fork(child, control, theirs)
                except OSError:
                    self._selector.unregister(control)
                    raise
            except OSError:
                control.close()
                raise
        child.begun(pid, control)
        _log.info("started", child=child.name, process=pid)

    def _fork(self, child: AnyChild, ours: ControlSocket[Any, Any], theirs: socket.socket) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        with self._signals.held():
            pid = os.fork()
            if not pid:
                ours.close()
                self._become(child, theirs)
        return pid

    def _become(self, child: AnyChild, control: socket.socket) -> NoReturn:
        status = 1
        try:
            self._leave()
            spare_no_child()
            status = child.start(control)
        except KeyboardInterrupt:
            status = 130
        except Exception as error:
            _log.error("a child cannot go on", child=child.name, error=str(error), kind=type(error).__name__)
            status = EXIT_CONFIGURATION if isinstance(error, ConfigurationError) else 1
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _leave(self) -> None:
        """Close everything of the supervisor's, in the forked child."""
        self._signals.leave()
        self.leave()
        self._selector.close()
        for child in self._children:
            if child.control is not None:
                child.control.close()

    def _is_served_by(self, child: AnyChild) -> bool:
        return child.serves and not (child.essential or child.passing or child.over)

    def _receive(self, child: AnyChild) -> Any:
        try:
            return child.receive(time.monotonic())
        except EOFError:
            self._close_control(child)
        except MessageError as error:
            self.break_off(child, error)
        return None

    def _close_control(self, child: AnyChild) -> None:
        if child.control is not None:
            self._selector.unregister(child.control)
            child.control.close()
            child.control = None

    def _reaped(self) -> Iterator[tuple[AnyChild, int]]:
        """Yield each child that has ended, with its exit status."""
        for child in list(self._children):
            pid, status = os.waitpid(child.pid, os.WNOHANG) if child.pid else (0, 0)
            if pid:
                child.pid = 0
                yield child, os.waitstatus_to_exitcode(status)

    def _after(self, child: AnyChild, status: int) -> None:
        """Decide if and when a child that has ended is started again."""
        self._close_control(child)
        if self._liveness is not None:
            self._liveness.forget(child)
        child.ended, child.status = True, status
        # All processes may be told to stop at once, as by Ctrl-C: then this is no death.
        self._take_signals()
        if child.passing:
            self._children.remove(child)
            child.due = None
        if child.passing or self.status is not None:
            tell = _log.info if status == 0 or self.status is not None else _log.warning
            tell("ended", child=child.name, status=status)
            return
        wrong = status == EXIT_CONFIGURATION and not child.has_reported
        idle = status == 0 and not child.essential and not child.has_reported
        if wrong or idle:
            log = _log.error if status else _log.info
            log("ended and is not started again", child=child.name, status=status)
            self._wrong = self._wrong or (wrong and child.serves)
            if child.essential:
                self.status = status
            elif self._wrong and not any(self._is_served_by(each) for each in self._children):
                _log.error("the service ends: no agent is left, and nothing is served")
                self.status = EXIT_CONFIGURATION
            return
        steady = time.monotonic() - child.started > STEADY
        child.failures = 0 if steady else child.failures + 1
        _log.warning("ended and is started again", child=child.name, status=status, pause=_postpone(child))


def _postpone(child: AnyChild) -> float:
    """Set when a child is started again, by how often it has failed; return the pause in seconds."""
    pause = PAUSES[min(max(child.failures - 1, 0), len(PAUSES) - 1)]
    if child.essential:
        pause = min(pause, LONGEST_WITHOUT_ESSENTIAL)
    child.due = time.monotonic() + pause
    return pause
