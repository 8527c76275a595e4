"""Reload of a supervised service: the reader, and the way of what it has read to all that use it.

::

    reader ── TermsRead, two snapshots ─▶ supervisor ──▶ dispatcher, cells
           ── NotRead ──────────────────▶            ──▶ dispatcher, which answers whoever has asked

Rules:

* What is read is in force for every process that is forked from then on, before the dispatcher is told: one that is
  started anew meanwhile has it already.
* The supervisor opens the snapshot of the configuration alone.  That of the credentials lies on the shelf, from where a
  dispatcher and the cells' helpers get it.
* An order that a reader has not answered when it ends goes to the next one.  When :data:`MOST_READERS` have ended over
  it, nothing is taken and whoever has asked gets the reason: each would hang or end again.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection

import structlog

from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.reader import run_reader
from hsframework.dispatcher.terms import CONFIGURATION, CREDENTIALS, InForce, thawed_state
from hsframework.local.control import (
    FROM_READER,
    TO_READER,
    FromDispatcher,
    FromReader,
    NewTerms,
    NotRead,
    NotTaken,
    ReadAgain,
    ReaderAlive,
    TermsRead,
    ToDispatcher,
    ToReader,
)
from hsframework.process.capabilities import CAP_DAC_READ_SEARCH, keep_capabilities
from hsframework.process.kept import VAULT, Shelf
from hsframework.supervisor.child import Child

MOST_READERS = 2
"""Readers that may end over one order."""

_log = structlog.get_logger("hsframework.supervisor")


class Reloading:
    """The reader, and what it has read.

    ``load``: reads the configuration as at the start, when it was ``state``.  ``plugins``: those that are installed.
    ``leave``: closes, in the reader, what it must not have.  ``put_in_force``: called with the configuration that is in
    force from then on.  ``refused``: called when nothing was taken.
    """

    def __init__(
        self,
        load: Callable[[], Configuration],
        state: InForce,
        plugins: Collection[str],
        dispatcher: Child[ToDispatcher, FromDispatcher],
        shelf: Shelf,
        *,
        leave: Callable[[], None],
        put_in_force: Callable[[InForce], None],
        refused: Callable[[], None],
    ) -> None:
        self._load = load
        self._plugins = plugins
        self._dispatcher = dispatcher
        self._shelf = shelf
        self._leave = leave
        self._put_in_force = put_in_force
        self._refused = refused
        self.state = state
        self.child: Child[ToReader, FromReader] = Child(
            "reader", self._start, TO_READER, FROM_READER, serves=False, takes_fds=True
        )
        self._order: ReadAgain | None = None
        """The last order, until it is answered."""
        self._ordered_over: object = None
        """The control socket over which it was sent."""
        self._readers = 0
        """Readers to which it was sent."""
        self._read: int | None = None
        """The snapshot of a configuration whose credentials have not come yet."""
        self._untold: list[tuple[NewTerms, int]] = []
        """Messages that the dispatcher has not taken yet."""

    def order(self, number: int = 0) -> None:
        """Have everything read again."""
        self._order = ReadAgain(max(number, 0 if self._order is None else self._order.order))
        self._ordered_over, self._readers = None, 0
        self.look()

    def look(self) -> None:
        """Send what could not be sent before."""
        if self._order is not None and self._ordered_over is not self.child.control:
            self._send_or_give_up(self._order)
        while self._untold:
            message, fd = self._untold[0]
            if not self._dispatcher.offer(message, fd):
                return
            self._untold.pop(0)
            os.close(fd)

    def _send_or_give_up(self, order: ReadAgain) -> None:
        if self._readers >= MOST_READERS:
            reason = f"{self._readers} readers have ended while they read; is a file system hung?"
            self.take(NotRead(reason, order.order))
        elif self.child.offer(order):
            self._ordered_over = self.child.control
            self._readers += 1

    def take(self, message: FromReader) -> None:
        """Act on a message of the reader."""
        match message:
            case TermsRead():
                self._answered(message.order)
                self._take_terms(message)
            case NotRead():
                self._answered(message.order)
                if not self._dispatcher.offer(NotTaken(message.message, message.order)):  # else it is its to say
                    _log.error("nothing is taken of what was read; all stays as it is", reason=message.message)
                self._refused()
            case ReaderAlive():
                pass

    def leave(self) -> None:
        """Close our copies of what waits, in a forked child."""
        for fd in [*(fd for _, fd in self._untold), *([] if self._read is None else [self._read])]:
            os.close(fd)

    def _answered(self, order: int) -> None:
        if self._order is not None and order >= self._order.order:
            self._order = None

    def _start(self, control: socket.socket) -> int:
        self._leave()
        # Of all that root has: files may be in folders of other users.
        keep_capabilities((CAP_DAC_READ_SEARCH,))
        return run_reader(control, self._load, self.state, self._plugins)

    def _take_terms(self, message: TermsRead) -> None:
        fd = self.child.take_handed()
        if fd is None:
            return
        if message.part == CONFIGURATION:
            if self._read is not None:
                os.close(self._read)
            self._read = fd
            return
        configuration, self._read = self._read, None
        if configuration is None or message.part != CREDENTIALS:
            os.close(fd)
            return
        try:
            state = thawed_state(os.dup(configuration))
        except ValueError as error:
            _log.error("what was read cannot be taken; all stays as it is", reason=str(error))
            os.close(configuration)
            os.close(fd)
            return
        self.state = state
        self._shelf.put(VAULT, os.dup(fd))
        for _, old in self._untold:
            os.close(old)
        self._untold = [
            (NewTerms(part, message.order), snapshot)
            for part, snapshot in ((CONFIGURATION, configuration), (CREDENTIALS, fd))
        ]
        self.look()
        self._put_in_force(state)
