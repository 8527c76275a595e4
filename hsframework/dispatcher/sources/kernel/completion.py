"""Completion of the kernel's requests by DONE, each exactly once.

NFS knows two failures: ETIMEDOUT, after which it connects again, and all others, which it takes for good.  So a request
that fails because the service was interrupted is completed with ETIMEDOUT: nothing is known against the peer.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

import structlog

from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.requests.request import Outcome, PendingRequest
from hsframework.dispatcher.sources.kernel.request import KernelRequests
from hsframework.dispatcher.sources.kernel.sockets import Sockets
from hsframework.errors import HsframeworkError

RETRIED = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ENOTCONN, errno.EAGAIN})
"""Statuses that are sent as ETIMEDOUT."""

INTERRUPTED = errno.ETIMEDOUT
"""Status of a request that fails because the service was interrupted."""

_log = structlog.get_logger("hsframework.dispatcher")


class Completion:
    """The DONE of one source, which owns the sockets that it completes.

    ``pending``: the number of requests that were submitted and have had no DONE yet.
    """

    def __init__(self, source: str, requests: KernelRequests, sockets: Sockets) -> None:
        self.pending = 0
        self._source = source
        self._requests = requests
        self._sockets = sockets

    def deliver(self, request: PendingRequest, outcome: Outcome) -> None:
        """Complete a request that was submitted.  It is over also if DONE is refused, which is logged."""
        self.pending -= 1
        with self._requests.peers(request, outcome) as peers:
            self._done(request.custody, INTERRUPTED if outcome.passing else outcome.status, peers)

    def restored(self, custody: Custody, outcome: Outcome) -> None:
        """Complete a request of an earlier dispatcher, whose session is in the socket."""
        with self._requests.peers_of(outcome) as peers:
            self._done(custody, outcome.status, peers)

    def refuse(self, custody: Custody, status: int) -> None:
        """Complete a request that was not submitted."""
        self._done(custody, status, ())

    def _done(self, custody: Custody, status: int, peers: Sequence[int]) -> None:
        """Give the socket back by DONE; our copy stays open until that is acknowledged."""
        custody.restore()
        try:
            self._sockets.done(custody.fileno(), errno.ETIMEDOUT if status in RETRIED else status, peers)
        except (HsframeworkError, OSError) as error:
            _log.error("DONE is refused", source=self._source, status=status, error=str(error))
        finally:
            custody.release()
