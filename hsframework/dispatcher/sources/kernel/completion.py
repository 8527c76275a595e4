"""Completion of the kernel's requests by DONE, each exactly once."""

from __future__ import annotations

import errno
from dataclasses import replace

import structlog

from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.requests.request import Outcome, PendingRequest
from hsframework.dispatcher.sources.kernel.request import KernelRequests
from hsframework.dispatcher.sources.kernel.sockets import Sockets
from hsframework.dispatcher.sources.kernel.wire import Ending
from hsframework.errors import HsframeworkError

RETRIED = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ENOTCONN, errno.EAGAIN})
"""Statuses that are sent as ETIMEDOUT: NFS retries that one, and gives up on all others."""

_log = structlog.get_logger("hsframework.dispatcher")


class Completion:
    """The DONE of one source, which owns the sockets that it completes.

    ``pending``: the number of requests that were submitted and have had no DONE yet, by group; no group has 0.
    """

    def __init__(self, source: str, requests: KernelRequests, sockets: Sockets) -> None:
        self.pending: dict[str, int] = {}
        self._source = source
        self._requests = requests
        self._sockets = sockets

    def submitted(self, group: str) -> None:
        """Count a request that was submitted."""
        self.pending[group] = self.pending.get(group, 0) + 1

    def deliver(self, request: PendingRequest, outcome: Outcome) -> None:
        """Complete a request that was submitted.  It is over also if DONE is refused, which is logged."""
        group = request.submission.group
        self.pending[group] -= 1
        if not self.pending[group]:
            del self.pending[group]
        with self._requests.ending(request, outcome) as ending:
            self._done(request.custody, ending)

    def refuse(self, custody: Custody, status: int, dialect: str = "") -> None:
        """Complete a request that was not submitted.  ``dialect``: that of its ACCEPT; empty: unknown."""
        self._done(custody, Ending(status, dialect=dialect))

    def _done(self, custody: Custody, ending: Ending) -> None:
        """Give the socket back by DONE; our copy stays open until that is acknowledged."""
        custody.restore()
        told = replace(ending, status=errno.ETIMEDOUT) if ending.status in RETRIED else ending
        try:
            self._sockets.done(custody.fileno(), told)
        except (HsframeworkError, OSError) as error:
            _log.error("DONE is refused", source=self._source, status=ending.status, error=str(error))
        finally:
            custody.release()
