"""The keeper: the warmed process of one agent, from which its workers are forked.

::

    keeper (agent user, no capability; plugins imported, credentials loaded)
    ├── worker   an AgentHost on an event loop
    └── worker …

Rules:

* Everything that handshakes need is imported and loaded before the first fork, and workers are forked, never executed:
  after that nothing here opens a file, and a killed worker is replaced while the root filesystem hangs.
* A worker that dies is replaced at once; when more than :data:`MOST_DEATHS` for each worker die within
  :data:`DEATH_WINDOW` seconds the keeper gives up.  One that the dispatcher refuses is not replaced.
* A worker that retires (its memory or its file descriptors have run out) is replaced at once too.  It takes no more
  requests, stays a member of its groups until the replacement has joined, and lives on until what it has in hand is
  over.  It counts as one that died.  So is one whose memory is no longer in force; it takes requests until then, and
  does not count.
* A worker whose loop does not turn for the limit (it hangs, or is stopped) is killed and replaced.
* One that is stopped (SIGSTOP) and is not continued is killed within a second.
* Workers die with the keeper (PR_SET_PDEATHSIG), also when it is killed.
* SIGTERM and SIGINT, or a supervisor that is gone, end the workers gracefully, and then the keeper.
* A fork that fails, for want of memory or of processes, is tried again every :data:`FORK_PAUSE` seconds.
* A worker for a cell (:mod:`hsframework.supervisor.cells`) is forked when the supervisor says so, with the links to it.
  It ends with them, is not replaced, and its deaths count for nobody else.
* The keeper has no event loop and no thread: it may fork at any time.
* Under a supervisor (the messages: :mod:`hsframework.local.control`) the first worker starts when it has sent Go.
"""

from __future__ import annotations

import collections
import contextlib
import math
import os
import selectors
import signal
import socket
import time
from collections.abc import Sequence
from typing import NoReturn

import structlog

from hsframework.agent.cell_links import CellLinks
from hsframework.agent.forked import Forked, await_end, end_at_once, kill, let_go
from hsframework.agent.reports import loaded, status_of
from hsframework.agent.warmup import ExitStatus, KeeperOptions, Warm, warm_up
from hsframework.agent.worker import ALIVE, JOINED, RENEWS, RETIRES, Worker
from hsframework.errors import HsframeworkError, MessageError, RequestRefused
from hsframework.local.control import (
    KEEPER_TO_SUPERVISOR,
    SUPERVISOR_TO_KEEPER,
    CellHung,
    Failed,
    FromKeeper,
    KeeperAlive,
    ServeCell,
    Serving,
    ToKeeper,
    WorkerDied,
    WorkerJoined,
)
from hsframework.local.control_socket import ControlSocket
from hsframework.local.liveness import SHARE, Liveness
from hsframework.local.stopped import StoppedChildren
from hsframework.process.capabilities import die_with_parent
from hsframework.process.forks import forbid_forks, our_own_fork
from hsframework.process.pidfds import open_pidfd
from hsframework.process.signals import SignalPipe, stop_signals
from hsframework.process.title import set_title
from hsframework.telemetry.log import exception_text

MOST_DEATHS = 5
DEATH_WINDOW = 10.0
STOP_TIME = 12.0
"""Seconds that workers have to end: longer than a host's own."""

MOST_FOR_A_CELL = 4
"""Workers of one cell: one that serves, and some that cannot be ended yet."""

FORK_PAUSE = 0.25
_log = structlog.get_logger("hsframework.agent")
Control = ControlSocket[FromKeeper, ToKeeper]


def keeper_main(options: KeeperOptions) -> int:
    """Serve until SIGTERM, SIGINT or the end of the supervisor.

    Returns an :class:`ExitStatus`; errors are logged and reported, not raised.
    """
    numbers = stop_signals()  # before a plugin can change what is ignored
    control = None
    if options.control is not None:
        control = ControlSocket(options.control, KEEPER_TO_SUPERVISOR, SUPERVISOR_TO_KEEPER, takes_fds=True)
    forbid_forks()
    set_title(f"hsframework agent {options.plugin}")
    try:
        warm = warm_up(options)
        if not warm.served:
            _log.info("the plugin serves no protocol; no agent is needed", plugin=options.plugin)
            return ExitStatus.OK
        if control is not None:
            control.send(loaded(warm.served))
        return Keeper(options, warm, control, numbers).run()
    except HsframeworkError as error:
        status = status_of(error)
        _log.error("the agent cannot start", reason=str(error), status=status.name)
        _report(control, Failed.because(error, status))
        return status


def _report(control: Control | None, message: FromKeeper) -> None:
    """Send a message to the supervisor, if there is one.  One that does not read misses it."""
    if control is not None:
        with contextlib.suppress(OSError):
            control.send(message)


class Keeper:
    """A process that forks the workers and replaces those that die."""

    def __init__(
        self,
        options: KeeperOptions,
        warm: Warm,
        control: Control | None,
        stop_numbers: tuple[signal.Signals, ...],
    ) -> None:
        self._options = options
        self._warm = warm
        self._control = control
        self._workers: dict[int, Forked] = {}
        self._links = CellLinks([item.name for item in warm.served])
        self._deaths: collections.deque[float] = collections.deque()
        self._status: ExitStatus | None = None
        self._begun = control is None
        self._announced = False
        self._next_fork = 0.0
        self._liveness: Liveness[Forked] = Liveness(options.watchdog)
        self._look_at = 0.0
        self._selector = selectors.DefaultSelector()
        self._stop_numbers = stop_numbers
        self._stopped: StoppedChildren[Forked] = StoppedChildren()
        # Whatever a plugin has made of SIGCHLD.
        self._signals = SignalPipe((signal.SIGCHLD, *stop_numbers))

    def run(self) -> int:
        """Keep the workers alive until a signal or the end of the supervisor, or until they die too often.

        Returns the :class:`ExitStatus`.
        """
        self._selector.register(self._signals, selectors.EVENT_READ, self._signalled)
        if self._control is not None:
            self._selector.register(self._control, selectors.EVENT_READ, self._controlled)
        try:
            while self._status is None:
                wait = self._fork_missing()
                look = max(0.0, min(self._look_at, self._stopped.look_at or math.inf) - time.monotonic())
                for key, _ in self._selector.select(look if wait is None else min(wait, look)):
                    key.data()
                self._end_stopped()
                self._look_after()
        finally:
            self._options.manager.tell("STOPPING=1")
            self._stop_workers()
            self._selector.close()
            self._signals.close()
        return self._status

    def _look_after(self) -> None:
        """Kill the workers that hang, and report that this process does not."""
        now = time.monotonic()
        if now < self._look_at:
            return
        limit = min(self._liveness.interval, (self._options.manager.watchdog or math.inf) / SHARE)
        self._look_at = now + limit
        for worker in self._liveness.silent(now):
            _log.error("a worker does not turn and is killed", process=worker.pid, limit=self._liveness.limit)
            kill(worker)
        self._options.manager.tell("WATCHDOG=1")
        _report(self._control, KeeperAlive())

    def _end_stopped(self) -> None:
        for worker in self._stopped.look([(it, it.pid) for it in self._workers.values()], time.monotonic()):
            _log.error("a worker is stopped and is killed", process=worker.pid)
            kill(worker)

    def _signalled(self) -> None:
        if self._signals.take().intersection(self._stop_numbers):
            self._status = ExitStatus.OK

    def _controlled(self) -> None:
        assert self._control is not None
        try:
            received = self._control.receive_with_fd()
            if received is not None:
                self._ordered(*received)
        except EOFError:
            _log.warning("the supervisor is gone; the agent stops")
            self._status = ExitStatus.OK
        except MessageError as error:
            _log.error("a message of the supervisor is not understood", reason=str(error))

    def _ordered(self, message: ToKeeper, fd: int | None) -> None:
        if isinstance(message, ServeCell):
            if fd is not None:
                self._serve_cell(message, socket.socket(fileno=fd))
            return
        if fd is not None:
            os.close(fd)
        if isinstance(message, CellHung):
            for worker in self._workers.values():
                if worker.cell == message.cell:
                    kill(worker)
            return
        self._begun = True

    def _serve_cell(self, message: ServeCell, link: socket.socket) -> None:
        """Fork the worker of a cell once it has a link for each protocol."""
        links = self._links.add(message.cell, message.protocol, link)
        try:
            if sum(it.cell == message.cell and not it.renewed for it in self._workers.values()) >= MOST_FOR_A_CELL:
                _log.error("a cell gets no further worker: it has too many that do not end", cell=message.cell)
            elif links:
                self._fork(links, message.cell)
        except OSError as error:
            # The cell sees the end of its links, and asks again.
            _log.error("no worker can be forked for a cell", cell=message.cell, reason=error.strerror)
        finally:
            for ours in links:
                ours.close()

    # Workers

    def _active(self) -> list[Forked]:
        return [worker for worker in self._workers.values() if not worker.retired and worker.cell is None]

    def _fork_missing(self) -> float | None:
        """Fork the workers that are missing.  Return the seconds until it is time to try again, or None."""
        while self._begun and len(self._active()) < self._options.processes:
            wait = self._next_fork - time.monotonic()
            if wait > 0:
                return wait
            try:
                self._fork()
            except OSError as error:
                _log.error("no worker can be forked; trying on", reason=error.strerror)
                self._next_fork = time.monotonic() + FORK_PAUSE
        return None

    def _fork(self, links: Sequence[socket.socket] = (), cell: int | None = None) -> None:
        """Fork one worker; with the links of a cell it serves that one.  Raises OSError, and then there is none."""
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(ours.close)
            with theirs:
                pid = self._forked(ours, theirs, links)
            undo.callback(end_at_once, pid)
            worker = Forked(pid, open_pidfd(pid), ours, cell)
            undo.callback(os.close, worker.pidfd)
            self._selector.register(ours, selectors.EVENT_READ, lambda: self._worker_spoke(worker))
            undo.callback(self._selector.unregister, ours)
            self._selector.register(worker.pidfd, selectors.EVENT_READ, lambda: self._worker_died(worker))
            undo.pop_all()
        self._workers[pid] = worker
        self._liveness.heard(worker, time.monotonic())

    def _forked(self, ours: socket.socket, theirs: socket.socket, links: Sequence[socket.socket]) -> int:
        keeper = os.getpid()
        # A signal for the worker waits until its own handlers are in place.
        with self._signals.held():
            with our_own_fork():
                pid = os.fork()
            if not pid:
                ours.close()
                self._become_worker(theirs, keeper, links)
        return pid

    def _worker_spoke(self, worker: Forked) -> None:
        said = b""
        # A worker that has died before it read what it was told resets the connection.
        with contextlib.suppress(ConnectionResetError):
            said = worker.report.recv(16)
        if said:
            self._liveness.heard(worker, time.monotonic())
        if said == ALIVE:
            worker.turns(time.monotonic())
        elif said == JOINED:
            self._joined(worker)
        elif said in (RETIRES, RENEWS) and not worker.retired:
            self._retires(worker, said == RENEWS)
        else:
            self._selector.unregister(worker.report)

    def _retires(self, worker: Forked, renewed: bool) -> None:
        worker.retired, worker.renewed = True, renewed
        if worker.cell is not None:
            let_go(worker)
        elif not renewed:
            self._count_death()

    def _joined(self, worker: Forked) -> None:
        if worker.cell is not None:
            return
        if not worker.joined:
            worker.joined = True
            _report(self._control, WorkerJoined(worker.pid))
        joined = [item.pid for item in self._active() if item.joined]
        if not self._announced and len(joined) == self._options.processes:
            self._announced = True
            self._options.manager.tell("READY=1", f"STATUS=serves {', '.join(item.name for item in self._warm.served)}")
            _report(self._control, Serving(tuple(joined)))
        if len(joined) == self._options.processes:
            for retired in [item for item in self._workers.values() if item.retired]:
                let_go(retired)

    def _worker_died(self, worker: Forked) -> None:
        _, status = os.waitpid(worker.pid, 0)
        self._forget(worker)
        number = os.waitstatus_to_exitcode(status)
        if worker.cell is not None:
            tell = _log.info if number == ExitStatus.OK else _log.error
            tell("a worker of a cell has ended", process=worker.pid, cell=worker.cell, status=number)
            return
        _report(self._control, WorkerDied(worker.pid, number))
        if number == ExitStatus.REFUSED:
            self._fail(ExitStatus.REFUSED, "the dispatcher does not let the agent join; its log says why")
            return
        if worker.retired and number == ExitStatus.OK:
            _log.info("a worker that was replaced has ended", process=worker.pid)
            return
        self._signalled()
        if self._status is ExitStatus.OK and number == ExitStatus.OK:
            # All processes were told to stop at once, as by Ctrl-C.
            return
        _log.error("a worker died and is replaced", process=worker.pid, status=number)
        if not worker.retired:
            self._count_death()

    def _count_death(self) -> None:
        now = time.monotonic()
        self._deaths.append(now)
        while self._deaths[0] < now - DEATH_WINDOW:
            self._deaths.popleft()
        if len(self._deaths) > MOST_DEATHS * self._options.processes:
            self._fail(ExitStatus.FAILED, "workers die as soon as they are started; the log says how")

    def _fail(self, status: ExitStatus, message: str) -> None:
        _log.error("the agent gives up", reason=message)
        _report(self._control, Failed.because(message, status))
        self._status = status

    def _forget(self, worker: Forked) -> None:
        del self._workers[worker.pid]
        self._liveness.forget(worker)
        self._selector.unregister(worker.pidfd)
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.report)
        os.close(worker.pidfd)
        worker.report.close()

    def _stop_workers(self) -> None:
        for worker in self._workers.values():
            signal.pidfd_send_signal(worker.pidfd, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIME
        for worker in list(self._workers.values()):
            await_end(worker, deadline)
            self._forget(worker)

    # In the worker

    def _become_worker(self, report: socket.socket, keeper: int, links: Sequence[socket.socket]) -> NoReturn:
        status = int(ExitStatus.FAILED)
        try:
            self._signals.leave()
            die_with_parent(keeper)
            set_title(f"hsframework agent {self._options.plugin}, worker")
            self._options.manager.leave()
            self._selector.close()
            for other in self._workers.values():
                other.report.close()
                os.close(other.pidfd)
            self._links.close()
            if self._control is not None:
                self._control.close()
            worker = Worker(self._options, self._warm, self._stop_numbers, self._liveness.interval, links or None)
            status = worker.run(report)
        except RequestRefused as error:
            _log.error("the dispatcher does not let the agent join", reason=str(error))
            status = int(ExitStatus.REFUSED)
        except BaseException as error:
            _log.error("a worker failed", reason=exception_text(error), exc_info=error)
        finally:
            os._exit(status)
