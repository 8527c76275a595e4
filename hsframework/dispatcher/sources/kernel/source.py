"""A source of requests: one form of the service in one network namespace.

Rules:

* A group is joined while an agent serves it, so that the kernel's own answer to "does anybody listen" stays true.  The
  queue outlives the membership: after joining and after leaving, ACCEPT is tried once more.  A group that cannot be
  had is set aside, and tried again with the next look; the others are served.
* The sockets are open while a group is wanted or a request pending, and not longer: they keep the namespace alive, and
  a module that offers the service.  Where they cannot be opened, or the service vanishes, ``missing`` is called, and
  :meth:`KernelSource.look` tries again.
* Announcements are read, all of them, before each round of ACCEPT.
* ACCEPT goes on until nothing waits, or until the dispatcher is full: then the kernel's queue is the back-pressure.  An
  ACCEPT that fails has cost one request its life; the next one, in whatever group, waits a little.
* What ACCEPT gave is completed by DONE in every case: a request that cannot be taken at once.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import structlog

from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.requests.request import Outcome, PendingRequest
from hsframework.dispatcher.sources.kernel.request import KernelRequests
from hsframework.dispatcher.sources.kernel.wire import GONE, Wire
from hsframework.errors import HsframeworkError, RequestRefused
from hsframework.netlink.socket import NetlinkError

RETRIED = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ENOTCONN, errno.EAGAIN})
"""A connection that broke is ETIMEDOUT to the kernel: NFS retries that one, and gives up on all others."""

ACCEPT_PAUSE = 0.05
"""Seconds until ACCEPT is tried again after one that failed for anything but an empty queue."""

_log = structlog.get_logger("hsframework.dispatcher")


class KernelSource:
    """A :class:`~hsframework.dispatcher.requests.request.Source`.

    ``open_wire``: opens the form in the namespace; raises HsframeworkError or OSError.  ``groups``: those that the form
    has.  ``missing``: called when the service is wanted and not there; :meth:`look` is to be called later.
    """

    def __init__(
        self,
        name: str,
        dispatcher: Dispatcher,
        requests: KernelRequests,
        open_wire: Callable[[], Wire],
        groups: Collection[str],
        missing: Callable[[], None],
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.name = name
        self._dispatcher = dispatcher
        self._requests = requests
        self._open_wire = open_wire
        self._groups = frozenset(groups)
        self._missing = missing
        self._loop = loop
        self._wire: Wire | None = None
        self._wanted: set[str] = set()
        self._joined: set[str] = set()
        self._left: set[str] = set()
        """Whose queues may hold requests still, which are refused."""
        self._pending = 0
        self._pause: asyncio.TimerHandle | None = None
        self._problem = ""
        self._problems: dict[str, str] = {}
        """Why groups are set aside."""
        self._retired = self._closed = False
        dispatcher.add_source(self)

    # A Source

    def group_opened(self, group: str) -> None:
        """An agent serves the group: join it, and take what waits."""
        if group in self._groups and not self._retired:
            self._wanted.add(group)
            self.look()

    def group_closed(self, group: str) -> None:
        """No agent is left: leave it, and refuse what waits."""
        self._wanted.discard(group)
        if group in self._joined and self._wire is not None:
            self._joined.discard(group)
            self._left.add(group)
            try:
                self._wire.leave(group)
            except NetlinkError as error:
                self._lost(error)
            else:
                _log.info("left the kernel's group", group=group, source=self.name)
                self._accept(group)
        self._close_when_idle()

    def complete(self, request: PendingRequest, outcome: Outcome) -> bool:
        """Send DONE to the kernel, and return True: one that is refused ends the request, too."""
        try:
            with self._requests.peers(request, outcome) as peers:
                self._done(request.custody.fileno(), outcome.status, peers)
        finally:
            self._pending -= 1
            self._close_when_idle()
        return True

    def restored(self, custody: Custody, values: Mapping[str, Any]) -> None:
        """DONE works from any process on its own copy, so a new dispatcher completes what the old one had taken."""
        custody.shut_down()
        self._done(custody.fileno(), errno.EIO, ())
        custody.release()
        self._close_when_idle()

    def room_made(self) -> None:
        """The dispatcher was full and is not any more."""
        for group in (*self._joined, *self._left):
            self._accept(group)

    # The sockets

    def look(self) -> None:
        """Join what is wanted and not joined yet, where the service is there."""
        for group in () if self._closed else sorted(self._wanted - self._joined):
            try:
                wire = self._opened()
            except (HsframeworkError, OSError) as error:
                self._lost(error)
                return
            try:
                wire.join(group)
            except NetlinkError as error:
                self._set_aside(group, error)
                continue
            self._joined.add(group)
            self._left.discard(group)
            self._problem = ""
            self._accept(group)
            if group in self._joined:
                self._problems.pop(group, None)
                _log.info("joined the kernel's group", group=group, source=self.name)

    def _set_aside(self, group: str, error: NetlinkError) -> None:
        """The service is there, and has no such group: whoever configured it may have meant another."""
        if str(error) != self._problems.get(group):
            self._problems[group] = str(error)
            _log.warning(
                "the kernel's requests of a group cannot be taken", source=self.name, group=group, error=str(error)
            )
        self._joined.discard(group)
        self._missing()

    def _opened(self) -> Wire:
        if self._wire is None:
            self._wire = self._open_wire()
            self._loop.add_reader(self._wire.fileno(), self._announced)
        return self._wire

    def _lost(self, error: Exception) -> None:
        """The service is not there, or not any more, or not for us."""
        if str(error) != self._problem:
            self._problem = str(error)
            _log.warning("the kernel's requests cannot be taken", source=self.name, reason=self._problem)
        self._close_wire()
        self._missing()

    def _close_wire(self) -> None:
        self._joined.clear()
        self._left.clear()
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._wire is not None:
            self._loop.remove_reader(self._wire.fileno())
            self._wire.close()
            self._wire = None

    def _close_when_idle(self) -> None:
        # Soon, and not at once: the caller may be in the middle of a round.
        if self._idle:
            self._loop.call_soon(self._close_if_idle)

    @property
    def _idle(self) -> bool:
        return not self._wanted and not self._pending and not self._left

    def _close_if_idle(self) -> None:
        if not self._idle:
            return
        if self._retired:
            self.close()
        else:
            self._close_wire()

    def retire(self) -> None:
        """The namespace is gone: take no more, and close when what was taken is completed."""
        self._retired = True
        for group in tuple(self._wanted):
            self.group_closed(group)
        self._close_when_idle()

    def close(self) -> None:
        """Leave every group and close the sockets."""
        if not self._closed:
            self._closed = True
            self._dispatcher.remove_source(self)
            self._close_wire()

    # ACCEPT

    def _announced(self) -> None:
        if self._wire is None:
            return
        try:
            self._wire.drain()
        except HsframeworkError as error:
            self._lost(error)
        else:
            self.room_made()

    def _accept(self, group: str) -> None:
        # To refuse a request takes no room.
        while self._wire is not None and not self._pause and (group in self._left or self._dispatcher.has_room(self)):
            try:
                values = self._wire.accept(group)
            except HsframeworkError as error:
                self._not_accepted(group, error)
                return
            if values is None:
                self._left.discard(group)
                return
            self._take(group, values)

    def _not_accepted(self, group: str, error: HsframeworkError) -> None:
        if error.errno in GONE:
            self._lost(error)
        elif isinstance(error, NetlinkError) and error.errno == errno.EINVAL:
            self._left.discard(group)
            if group in self._joined and self._wire is not None:
                self._wire.leave(group)
            self._set_aside(group, error)
        else:
            _log.error("ACCEPT failed, and perhaps a request with it", source=self.name, error=str(error))
            # Not at once again: without an fd each would cost one more request, others may go on for ever.
            self._pause = self._loop.call_later(ACCEPT_PAUSE, self._pause_over)

    def _pause_over(self) -> None:
        self._pause = None
        self.room_made()
        self._close_when_idle()

    def _take(self, group: str, values: Mapping[str, Any]) -> None:
        """Take one request; when that fails, it is completed at once."""
        fd = values.get("sockfd", -1)
        if fd < 0:
            _log.error("ACCEPT brought no socket", source=self.name)
            return
        try:
            custody = self._dispatcher.take_socket(fd, trusted=True, connected=False)
        except RequestRefused as error:
            _log.error("ACCEPT brought what is no socket", source=self.name, error=str(error))
            return
        self._requests.keys.hold(values.get("keyring"))
        try:
            if self._retired:
                raise RequestRefused("the namespace is gone", errno=errno.EIO)
            submission, origin = self._requests.take(self, group, values, custody)
            self._dispatcher.submit(submission, custody, origin)
            self._pending += 1
            self._requests.taken(submission, origin)
            return
        except HsframeworkError as error:
            # That nobody listens is no answer to somebody who was listened to.
            status = errno.EIO if error.errno == errno.ESRCH else error.errno
            _log.warning("a request of the kernel's is refused", source=self.name, error=str(error))
        except Exception as error:
            status = errno.EIO
            _log.error("a fault in the dispatcher", error=repr(error), during=f"a request of {self.name}")
        self._done(custody.fileno(), status, ())
        custody.release()
        self._requests.keys.forget(values.get("keyring"))

    # DONE

    def _done(self, fd: int, status: int, peers: Sequence[int]) -> None:
        try:
            self._opened().done(fd, errno.ETIMEDOUT if status in RETRIED else status, peers)
        except (HsframeworkError, OSError) as error:
            _log.error("DONE is refused", source=self.name, status=status, error=str(error))
