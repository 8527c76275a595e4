"""Completion of the kernel's requests by DONE, each exactly once.

A DONE that meets a shortage of the kernel's memory is sent again, since nothing else completes the request, and its
consumer would wait for its own timer.  The socket stays ours until then, and so do the keys that name the peer.

NFS knows two failures: ETIMEDOUT, after which it connects again, and all others, which it takes for good.  So a request
that fails because the service was interrupted is completed with ETIMEDOUT: nothing is known against the peer.

A success is no longer one if the connection has ended since, as with the other end's agent.  NFS's client would take
the socket over, and wait for its end, which it has missed, for ever: so that is completed with ETIMEDOUT, too.

DONE on such a connection is sent :data:`RESET_PAUSE` later, whatever its status.  NFS's client keeps the status in the
place in which it keeps the socket's error, and a worker of the kernel's empties that place after a reset: a status that
comes before the worker runs is read as success (xs_wake_error in net/sunrpc/xprtsock.c).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

import structlog

from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.requests.request import Outcome, PendingRequest
from hsframework.dispatcher.sources.kernel.request import KernelRequests
from hsframework.dispatcher.sources.kernel.sockets import Sockets
from hsframework.dispatcher.sources.kernel.wire import Ending
from hsframework.errors import SHORTAGE_PAUSE, SHORTAGES, HsframeworkError, is_shortage

RETRIED = SHORTAGES | {errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ENOTCONN, errno.EAGAIN}
"""Statuses that are sent as ETIMEDOUT."""

INTERRUPTED = errno.ETIMEDOUT
"""Status of a request that fails because the service was interrupted."""

PATIENCE = 15.0
"""Seconds for which DONE is tried: no consumer waits longer."""

RESET_PAUSE = 0.1
"""Seconds that the kernel has to handle a reset before DONE comes."""

_log = structlog.get_logger("hsframework.dispatcher")


@dataclass(eq=False)
class _Owed:
    """One DONE.  ``send`` raises HsframeworkError and OSError; ``release`` is called once, at the end."""

    custody: Custody
    send: Callable[[], None]
    release: Callable[[], None]
    status: int
    until: float
    group: str | None
    """Its group; None: an earlier dispatcher took it."""


class Completion:
    """The DONE of one source, which owns the sockets that it completes.

    ``pending``: the number of requests that were taken and have had no DONE yet, by group; no group has 0.
    ``settled``: called by the loop when a DONE was sent later than asked, with the request's group.
    """

    def __init__(
        self,
        source: str,
        requests: KernelRequests,
        sockets: Sockets,
        settled: Callable[[str | None], None],
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.pending: dict[str, int] = {}
        self._source = source
        self._requests = requests
        self._sockets = sockets
        self._settled = settled
        self._loop = loop
        self._owed: list[_Owed] = []
        self._timer: asyncio.TimerHandle | None = None
        self._pauses: dict[_Owed, asyncio.TimerHandle] = {}

    @property
    def idle(self) -> bool:
        """True if every request has had its DONE."""
        return not self.pending and not self._owed and not self._pauses

    def submitted(self, group: str) -> None:
        """Count a request that was taken."""
        self.pending[group] = self.pending.get(group, 0) + 1

    def deliver(self, request: PendingRequest, outcome: Outcome) -> None:
        """Complete a request that was submitted.  It is over also if DONE is refused, which is logged."""
        self._deliver(
            request.custody, partial(self._requests.ending, request, outcome), outcome, group=request.submission.group
        )

    def restored(self, custody: Custody, outcome: Outcome, dialect: str) -> None:
        """Complete a request of an earlier dispatcher, whose session is in the socket.

        ``dialect``: that of its ACCEPT.
        """
        self._deliver(custody, partial(self._requests.restored, outcome, dialect), outcome, None)

    def _deliver(
        self, custody: Custody, begin: Callable[[], AbstractContextManager[Ending]], outcome: Outcome, group: str | None
    ) -> None:
        held = contextlib.ExitStack()
        # Last of all: our copy stays open until DONE is acknowledged, and its keys are taken out.
        held.callback(custody.release)
        endings: list[Ending] = []

        def send() -> None:
            if not endings:
                ending = held.enter_context(begin())
                endings.append(replace(ending, status=INTERRUPTED) if outcome.passing else ending)
            self._done(custody, endings[0])

        custody.restore()
        self._complete(_Owed(custody, send, held.close, outcome.status, self._patience(), group))

    def refuse(self, custody: Custody, status: int, dialect: str = "", *, group: str | None = None) -> None:
        """Complete a request that was not submitted.

        ``dialect``: that of its ACCEPT; empty: unknown.  ``group``: its group; None: an earlier dispatcher took it.
        """
        if group is not None:
            self.submitted(group)
        custody.restore()
        send = partial(self._done, custody, Ending(status, dialect=dialect))
        self._complete(_Owed(custody, send, custody.release, status, self._patience(), group))

    def close(self) -> None:
        """Try what is owed once more, and give it up."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for pause in self._pauses.values():
            pause.cancel()
        owed = [*self._owed, *self._pauses]
        self._owed.clear()
        self._pauses.clear()
        for item in owed:
            item.until = 0.0
            self._attempt(item)

    def _patience(self) -> float:
        return self._loop.time() + PATIENCE

    def _complete(self, owed: _Owed) -> None:
        if owed.custody.has_ended:
            self._pauses[owed] = self._loop.call_later(RESET_PAUSE, self._pause_over, owed)
        elif not self._attempt(owed):
            self._owe(owed)

    def _pause_over(self, owed: _Owed) -> None:
        del self._pauses[owed]
        if self._attempt(owed):
            self._settled(owed.group)
        else:
            self._owe(owed)

    def _owe(self, owed: _Owed) -> None:
        """Send a DONE again, since it met a shortage."""
        if not self._owed:
            _log.warning("DONE meets a shortage of memory; trying on", source=self._source)
        self._owed.append(owed)
        self._try_later()

    def _attempt(self, owed: _Owed) -> bool:
        """Send a DONE, and release what it held.  Return False if it is to be sent again."""
        try:
            owed.send()
        except (HsframeworkError, OSError) as error:
            if is_shortage(error):
                if self._loop.time() < owed.until:
                    return False
                if not owed.until:
                    # The agent keeps what is not acknowledged, for the next dispatcher.
                    owed.custody.when_released = None
            _log.error("DONE is refused", source=self._source, status=owed.status, error=str(error))
        if owed.group is not None:
            self.pending[owed.group] -= 1
            if not self.pending[owed.group]:
                del self.pending[owed.group]
        owed.release()
        return True

    def _try_later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(SHORTAGE_PAUSE, self._try_again)

    def _try_again(self) -> None:
        self._timer = None
        while self._owed and self._attempt(self._owed[0]):
            self._settled(self._owed.pop(0).group)
        if self._owed:
            self._try_later()

    def _done(self, custody: Custody, ending: Ending) -> None:
        told = ending
        if ending.status in RETRIED:
            told = replace(ending, status=errno.ETIMEDOUT)
        elif not ending.status and custody.has_ended:
            _log.info("a connection has ended before its consumer had it", source=self._source)
            told = replace(ending, status=errno.ETIMEDOUT, peers=())
        self._sockets.done(custody.fileno(), told)
