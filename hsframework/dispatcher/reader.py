"""Reader: the process that reads the files of configuration and credentials again, and sees when they have changed.

It is forked at the start, by the supervisor or by a dispatcher that has none, before there is anything that it could
inherit.  So a file system that hangs, and a large file, hold up nobody else.

Rules:

* It looks at the files every :data:`INTERVAL` seconds, also at those of a configuration that was not taken.  One that
  has changed is left alone until all have been the same for :data:`SETTLED` seconds: a writer may not be done.
* What is read is sent as two snapshots (:mod:`hsframework.dispatcher.terms`), or the reason why nothing was taken; that
  is said once for one state of the files, however long it lasts.
* It keeps nothing of what it has read but the configuration and the dates of lists.
* It ends when the other end of its socket is closed.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable, Collection, Mapping
from typing import NoReturn

import structlog

from hsframework.configuration.files import Print, prints
from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.terms import CONFIGURATION, CREDENTIALS, InForce, Terms, Unsettled, read_terms, with_lists
from hsframework.errors import ConfigurationError
from hsframework.local.control import FROM_READER, TO_READER, FromReader, NotRead, ReaderAlive, TermsRead, ToReader
from hsframework.local.control_socket import ControlSocket
from hsframework.process.capabilities import die_with_parent, forbid_core_dumps
from hsframework.process.title import set_title

INTERVAL = 1.0
"""Seconds between two looks at the files."""

SETTLED = 0.5
"""Seconds for which files that have changed are the same before they are read."""

PATIENCE = 10.0
"""Seconds for which an order waits for files that change all the time."""

_log = structlog.get_logger("hsframework.reader")

Load = Callable[[], Configuration]


class Reader:
    """The loop of the process.

    ``load``: reads the configuration as at the start.  ``state``: what is in force.  ``plugins``: names of those that
    are installed.
    """

    def __init__(
        self, link: ControlSocket[FromReader, ToReader], load: Load, state: InForce, plugins: Collection[str]
    ) -> None:
        self._link = link
        self._load = load
        self._state = state
        self._latest = state.configuration
        self._plugins = plugins
        self._tried: Mapping[str, Print] = state.prints
        """The files as they were when they were read last, with success or not."""
        self._seen = self._tried
        self._ordered_at: float | None = None
        self._order = 0

    def run(self) -> None:
        """Serve until the other end is closed."""
        poll = select.poll()
        poll.register(self._link, select.POLLIN)
        self._state = with_lists(self._state)
        pause = INTERVAL
        while True:
            self._link.send(ReaderAlive())
            poll.poll(pause * 1000)
            try:
                while (message := self._link.receive()) is not None:
                    self._ordered_at, self._order = time.monotonic(), max(self._order, message.order)
            except EOFError:
                return
            pause = self._look()

    def _look(self) -> float:
        """Read what is to be read now.  Return the seconds until the next look."""
        if self._ordered_at is None and not self._state.configuration.watch_files:
            return INTERVAL
        before, self._seen = self._seen, {**prints(self._state.configuration), **prints(self._latest)}
        if self._ordered_at is None and self._seen == self._tried:
            return INTERVAL
        if self._seen != before and not self._is_overdue():
            return SETTLED
        self._read()
        return INTERVAL if self._ordered_at is None else SETTLED

    def _load_noted(self) -> Configuration:
        self._latest = self._load()
        return self._latest

    def _is_overdue(self) -> bool:
        return self._ordered_at is not None and time.monotonic() - self._ordered_at > PATIENCE

    def _read(self) -> None:
        try:
            terms = read_terms(self._load_noted, self._state, self._plugins)
        except Unsettled as error:
            if self._is_overdue():
                self._refuse(error)
        except (ConfigurationError, OSError, MemoryError) as error:
            self._tried = self._seen
            self._refuse(error)
        else:
            self._state, self._latest = terms.state, terms.state.configuration
            self._seen = self._tried = terms.state.prints
            self._hand_over(terms)

    def _refuse(self, error: Exception) -> None:
        self._link.send(NotRead.because(error, self._answered()))

    def _answered(self) -> int:
        """Return the number of the order that has its answer now."""
        order, self._ordered_at, self._order = self._order, None, 0
        return order

    def _hand_over(self, terms: Terms) -> None:
        try:
            snapshots = terms.frozen()
        except (ConfigurationError, OSError) as error:
            self._refuse(error)
            return
        order = self._answered()
        try:
            for part, fd in zip((CONFIGURATION, CREDENTIALS), snapshots, strict=True):
                self._link.send(TermsRead(part, order), fd)
        finally:
            for fd in snapshots:
                os.close(fd)


def run_reader(sock: socket.socket, load: Load, state: InForce, plugins: Collection[str]) -> int:
    """Serve a socket until its other end is closed.  Returns the exit status."""
    set_title("hsframework reader")
    forbid_core_dumps()
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # a lease that is broken: hsframework.configuration.files
    Reader(ControlSocket(sock, FROM_READER, TO_READER), load, state, plugins).run()
    return 0


def fork_reader(load: Load, state: InForce, plugins: Collection[str]) -> socket.socket:
    """Fork the reader of a dispatcher that has no supervisor.  Return a socket to it, with which it ends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    with theirs:
        if not os.fork():
            _become(ours, theirs, parent, lambda: run_reader(theirs, load, state, plugins))
    return ours


def _become(ours: socket.socket, theirs: socket.socket, parent: int, run: Callable[[], int]) -> NoReturn:
    try:
        ours.close()
        die_with_parent(parent)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # it ends with the dispatcher
        run()
    except Exception as error:
        _log.error("the reader cannot go on", reason=str(error))
    finally:
        os._exit(1)
