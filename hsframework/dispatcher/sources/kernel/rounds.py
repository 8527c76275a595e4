"""Rounds of ACCEPT.

Rules:

* A round ends when nothing waits, or when the dispatcher has no room in the group: then the kernel's queue is the
  back-pressure.
* The dispatcher's limits are asked before ACCEPT: a request that was taken and is then refused has failed.
* After :data:`MOST_ACCEPTS` requests the group pauses for one turn of the loop, in which the other groups are served.
* An ACCEPT that fails has cost one request its life.  The group pauses for :data:`ACCEPT_PAUSE`.  If this process is
  short of something, every group does: each further ACCEPT would cost a request.
* Every request that ACCEPT returned is completed by DONE: at once if it cannot be submitted.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

import structlog

from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.requests.request import Source
from hsframework.dispatcher.sources.kernel.completion import Completion
from hsframework.dispatcher.sources.kernel.request import KernelRequests
from hsframework.dispatcher.sources.kernel.sockets import ServiceLost, Sockets
from hsframework.dispatcher.sources.kernel.wire import Accepted
from hsframework.errors import SHORTAGES, HsframeworkError, RequestRefused
from hsframework.netlink.socket import NetlinkError

ACCEPT_PAUSE = 0.05
"""Seconds until ACCEPT is tried again after one that failed for anything but an empty queue."""

MOST_ACCEPTS = 64
"""Requests of a group that are taken in one turn of the loop: more than the queue of the kernel's own form holds."""

EVERYWHERE = SHORTAGES | {errno.EMFILE, errno.ENFILE}
"""Errors of ACCEPT that the next one has too, in whatever group."""

_log = structlog.get_logger("hsframework.dispatcher")


class Rounds:
    """The rounds of one source.  ``resume``: called by the loop when a pause is over, with the group or None: all."""

    def __init__(
        self,
        source: Source,
        dispatcher: Dispatcher,
        requests: KernelRequests,
        sockets: Sockets,
        completion: Completion,
        resume: Callable[[str | None], None],
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._source = source
        self._dispatcher = dispatcher
        self._requests = requests
        self._sockets = sockets
        self._completion = completion
        self._resume = resume
        self._loop = loop
        self._pauses: dict[str | None, asyncio.TimerHandle] = {}
        """By group; None: every group pauses."""

    def serve(self, group: str) -> None:
        """Submit the requests that wait, while the dispatcher has room.

        Raises ServiceLost, and NetlinkError for a group that the service does not have.
        """
        for _ in range(MOST_ACCEPTS):
            if self._pausing(group) or not self._dispatcher.has_room(self._source, group):
                return
            if not self._accept(group, self._submit):
                return
        self._pause(group, 0.0)

    def refuse(self, group: str) -> bool:
        """Complete the requests that wait with EIO, which takes no room.  Return True if none is left.

        While requests of the group are pending, ACCEPT may hand over no more and yet some wait.

        Raises ServiceLost, and NetlinkError for a group that the service does not have.
        """
        for _ in range(MOST_ACCEPTS):
            if self._pausing(group):
                return False
            if not self._accept(group, self._turn_away):
                return not self._pausing(group) and group not in self._completion.pending
        self._pause(group, 0.0)
        return False

    def stop(self) -> None:
        """End every pause without a further round."""
        for pause in self._pauses.values():
            pause.cancel()
        self._pauses.clear()

    def _pausing(self, group: str) -> bool:
        return group in self._pauses or None in self._pauses

    def _pause(self, group: str | None, seconds: float) -> None:
        self._pauses[group] = self._loop.call_later(seconds, self._pause_over, group)

    def _accept(self, group: str, take: Callable[[str, Accepted, Custody], int]) -> bool:
        """Take one request, and complete it if ``take`` returns an errno.  Return False if none was there."""
        try:
            accepted = self._sockets.accept(group)
        except ServiceLost:
            raise
        except HsframeworkError as error:
            if isinstance(error, NetlinkError) and error.errno == errno.EINVAL:
                raise
            _log.error("ACCEPT failed, and perhaps a request with it", source=self._source.name, error=str(error))
            self._pause(None if error.errno in EVERYWHERE else group, ACCEPT_PAUSE)
            return False
        if accepted is None:
            return False
        custody = self._custody(accepted)
        if custody is not None:
            keyring = accepted.values.get("keyring")
            self._requests.keys.hold(keyring)
            status = take(group, accepted, custody)
            if status:
                self._completion.refuse(custody, status, accepted.dialect, group=group)
                self._requests.keys.forget(keyring)
        return True

    def _custody(self, accepted: Accepted) -> Custody | None:
        fd = accepted.values.get("sockfd", -1)
        if fd < 0:
            _log.error("ACCEPT brought no socket", source=self._source.name)
            return None
        try:
            return Custody(fd, self._dispatcher.close_fd, trusted=True, connected=False)
        except RequestRefused as error:
            _log.error("ACCEPT brought a file that is not a socket", source=self._source.name, error=str(error))
            return None

    def _submit(self, group: str, accepted: Accepted, custody: Custody) -> int:
        """Give the request to the dispatcher.  Return 0, or the errno with which it is refused."""
        try:
            submission, origin = self._requests.take(self._source, group, accepted, custody)
            self._dispatcher.submit(submission, custody, origin)
        except HsframeworkError as error:
            _log.warning("a request of the kernel's is refused", source=self._source.name, error=str(error))
            # ESRCH means that nobody listens; this consumer's request was taken.
            return errno.EIO if error.errno == errno.ESRCH else error.errno
        except Exception as error:
            _log.error("a fault in the dispatcher", error=repr(error), during=f"a request of {self._source.name}")
            return errno.EIO
        self._completion.submitted(group)
        self._requests.taken(submission, origin)
        return 0

    def _turn_away(self, group: str, accepted: Accepted, custody: Custody) -> int:
        _log.warning(
            "a request of the kernel's is refused", source=self._source.name, error=f"the group {group!r} was left"
        )
        return errno.EIO

    def _pause_over(self, group: str | None) -> None:
        del self._pauses[group]
        self._resume(group)
