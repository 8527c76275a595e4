"""A source of requests: one form of the service in one network namespace.

The parts, each with its rules:

* :mod:`~hsframework.dispatcher.sources.kernel.states`: the states of the source and of its groups, as tables.
* :mod:`~hsframework.dispatcher.sources.kernel.memberships`: the groups, joined while an agent serves them.
* :mod:`~hsframework.dispatcher.sources.kernel.rounds`: rounds of ACCEPT.
* :mod:`~hsframework.dispatcher.sources.kernel.completion`: DONE.
* :mod:`~hsframework.dispatcher.sources.kernel.sockets`: the sockets, open while a group is served or to be drained, or
  a request pending.

Each call comes from the dispatcher, the owner or the loop, and none comes from within another: a part returns its
result and calls nobody back.  A call sends its event, and closes the sockets at its end if nothing needs them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import structlog

from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.planted import session_planted
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.requests.request import Outcome, PendingRequest
from hsframework.dispatcher.sources.kernel.completion import INTERRUPTED, Completion
from hsframework.dispatcher.sources.kernel.memberships import Memberships
from hsframework.dispatcher.sources.kernel.request import KernelRequests
from hsframework.dispatcher.sources.kernel.rounds import Rounds
from hsframework.dispatcher.sources.kernel.sockets import ServiceLost, Sockets
from hsframework.dispatcher.sources.kernel.states import (
    GroupEvent,
    LifecycleError,
    SourceAction,
    SourceEvent,
    SourceState,
    step_source,
)
from hsframework.dispatcher.sources.kernel.wire import Wire
from hsframework.process.kept import Kept

_log = structlog.get_logger("hsframework.dispatcher")


class KernelSource:
    """One form of the service in one namespace, as a :class:`~hsframework.dispatcher.requests.request.Source`.

    ``open_wire``: opens the form in the namespace; raises HsframeworkError or OSError.  ``groups``: those that the form
    has.  ``missing``: called when the service is wanted and missing; :meth:`look` is to be called later.
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
        kept: Kept | None = None,
    ) -> None:
        self.name = name
        self._groups = tuple(sorted(groups))
        self._missing = missing
        self._state = SourceState.OPEN
        self._sockets = Sockets(name, open_wire, self._announced, loop=loop, kept=kept or Kept())
        self._completion = Completion(name, requests, self._sockets, self._completed_later, loop=loop)
        self._rounds = Rounds(self, dispatcher, requests, self._sockets, self._completion, self._resume, loop=loop)
        self._memberships = Memberships(name, self._groups, self._sockets, self._rounds, missing)
        self._actions: Mapping[SourceAction, Callable[[], None]] = {
            SourceAction.CLOSE_GROUPS: self._close_groups,
            SourceAction.CLOSE_SOCKETS: self._close_sockets,
            SourceAction.FORGET: lambda: dispatcher.remove_source(self),
        }
        dispatcher.add_source(self)

    # Calls of the dispatcher

    def group_opened(self, group: str) -> None:
        """Join a group that an agent serves, and take the requests that wait."""
        if self._state is SourceState.OPEN:
            with self._guarded():
                self._memberships.send(group, GroupEvent.OPENED)
            self._settle()

    def group_closed(self, group: str) -> None:
        """Leave a group that no agent serves any longer, and refuse the requests that wait."""
        with self._guarded():
            self._memberships.send(group, GroupEvent.CLOSED)
        self._settle()

    def complete(self, request: PendingRequest, outcome: Outcome) -> None:
        """Send DONE to the kernel: now, or once it has memory for that.  One that is refused ends the request, too."""
        try:
            self._completion.deliver(request, outcome)
            with self._guarded():
                self._memberships.drain(request.submission.group)
        finally:
            self._settle()

    def restored(self, custody: Custody, values: Mapping[str, Any], outcome: Outcome | None) -> None:
        """Complete a request that an earlier dispatcher took: DONE works from any process on its own copy.

        A success is looked for in the socket, as ever; where that cannot be asked, the agent's report is enough.
        """
        dialect = values.get("dialect", "")
        if outcome is not None and not outcome.status and _in_the_kernel(values.get("group", ""), custody, outcome):
            self._completion.restored(custody, outcome, dialect)
        else:
            custody.shut_down()
            status = INTERRUPTED if outcome is None else outcome.status
            # EIO is the agent's word for a fault of the service, such as a look-up that there was nobody to answer.
            self._completion.refuse(custody, status if status not in (0, errno.EIO) else INTERRUPTED, dialect)
        self._settle()

    def room_made(self, group: str) -> None:
        """Take the requests of the group that wait: the dispatcher has room for them again."""
        with self._guarded():
            self._memberships.send(group, GroupEvent.READY)
        self._settle()

    def group_number(self, group: str) -> int | None:
        """Return the number of the multicast group, or None while we are no member of it."""
        return self._memberships.number(group)

    # Calls of the owner

    def held(self) -> list[str]:
        """Return the groups that a predecessor had joined: the kernel counts us a listener of them still."""
        held: list[str] = []
        with self._guarded():
            held.extend(self._sockets.held(self._groups))
        return held

    def look(self) -> None:
        """Join the groups that are served and not joined yet, if the service is there."""
        with self._guarded():
            self._memberships.send_all(GroupEvent.RETRY)
        self._settle()

    def retire(self) -> None:
        """Take no more: the namespace is gone.  The source is :attr:`over` once its last request is completed."""
        self._happen(SourceEvent.RETIRED)
        self._settle()

    @property
    def over(self) -> bool:
        """True if the source has retired and its last request is completed, so that it can be closed."""
        return self._state is SourceState.OVER

    @property
    def inode(self) -> int | None:
        """Inode of the socket by which the source is a member of groups; None: it is not open."""
        return self._sockets.inode

    def close(self) -> None:
        """Leave every group and close the sockets.  Requests that are pending have lost their consumer."""
        self._completion.close()
        self._happen(SourceEvent.CLOSED)

    # Calls of the loop

    def _announced(self) -> None:
        """Ask every group: the one socket has the announcements of all, and may have lost some in an overrun."""
        with self._guarded():
            self._sockets.drain()
            self._memberships.send_all(GroupEvent.READY)
        self._settle()

    def _resume(self, group: str | None) -> None:
        """Take the requests that wait, in one group or in all: a pause is over."""
        if group is not None:
            self.room_made(group)
            return
        with self._guarded():
            self._memberships.send_all(GroupEvent.READY)
        self._settle()

    def _completed_later(self, group: str | None) -> None:
        """Refuse what waits in a group that was left: a DONE that met a shortage of memory was sent."""
        if group is not None:
            with self._guarded():
                self._memberships.drain(group)
        self._settle()

    # The source's own life

    def _happen(self, event: SourceEvent) -> None:
        try:
            self._state, actions = step_source(self._state, event)
        except LifecycleError as error:
            _log.error("a fault in the dispatcher", source=self.name, error=str(error))
            return
        for action in actions:
            self._actions[action]()

    def _settle(self) -> None:
        """Close the sockets if nothing needs them."""
        if self._completion.idle and self._memberships.idle:
            self._happen(SourceEvent.IDLE)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Close the sockets if the service turns out to be gone, and ask to be called again."""
        try:
            yield
        except ServiceLost as error:
            self._sockets.report(error)
            self._close_sockets()
            self._missing()

    def _close_groups(self) -> None:
        for group in self._groups:
            with self._guarded():
                self._memberships.send(group, GroupEvent.CLOSED)

    def _close_sockets(self) -> None:
        self._rounds.stop()
        self._sockets.close()
        self._memberships.send_all(GroupEvent.LOST)


def _in_the_kernel(group: str, custody: Custody, outcome: Outcome) -> bool:
    """Return True if a restored success has its session; the rule is that of a DONE, ``missing_session``."""
    planted = session_planted(group, custody)
    has_one = bool(outcome.values.get("in-kernel")) if planted is None else planted
    if not has_one:
        _log.error("an agent gives back a success without a session in the kernel", peer=custody.peer_address)
    return has_one
