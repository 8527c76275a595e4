"""The groups of one source, moved through the table of :mod:`~hsframework.dispatcher.sources.kernel.states`.

Rules:

* A group is joined while an agent serves it, so that the kernel's own answer about listeners stays true.
* The queue outlives the membership: ACCEPT is tried once more after joining and after leaving.
* A group that the service refuses is set aside and tried again later; the others are served.
* An event is handled to its end before the next: the result of an action is an event of the same loop, and no action
  calls back.  When the service is gone, every method raises
  :class:`~hsframework.dispatcher.sources.kernel.sockets.ServiceLost`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import structlog

from hsframework.dispatcher.sources.kernel.rounds import Rounds
from hsframework.dispatcher.sources.kernel.sockets import Sockets
from hsframework.dispatcher.sources.kernel.states import GroupAction, GroupEvent, GroupState, LifecycleError, step_group
from hsframework.netlink.socket import NetlinkError

_log = structlog.get_logger("hsframework.dispatcher")


class Memberships:
    """The state of every group that the form has.  ``missing``: called to have RETRY sent later."""

    def __init__(
        self, source: str, groups: Iterable[str], sockets: Sockets, rounds: Rounds, missing: Callable[[], None]
    ) -> None:
        self._states = dict.fromkeys(groups, GroupState.UNSERVED)
        self._source = source
        self._sockets = sockets
        self._rounds = rounds
        self._missing = missing
        self._problems: dict[str, str] = {}
        """Reasons of refusals that were logged, by group."""
        self._actions: Mapping[GroupAction, Callable[[str], GroupEvent | None]] = {
            GroupAction.JOIN: self._join,
            GroupAction.LEAVE: self._sockets.leave,
            GroupAction.ACCEPT: self._accept,
            GroupAction.REFUSE: self._refuse,
            GroupAction.REPORT_JOINED: self._report_joined,
            GroupAction.REPORT_LEFT: self._report_left,
            GroupAction.ASK_LATER: lambda _: self._missing(),
        }

    @property
    def idle(self) -> bool:
        """True if no group is served or to be drained."""
        return all(state is GroupState.UNSERVED for state in self._states.values())

    def send(self, group: str, event: GroupEvent) -> None:
        """Move one group on.  A group that the form does not have is passed over.  Raises ServiceLost."""
        if group not in self._states:
            return
        following: GroupEvent | None = event
        while following is not None:
            try:
                self._states[group], actions = step_group(self._states[group], following)
            except LifecycleError as error:
                _log.error("a fault in the dispatcher", source=self._source, group=group, error=str(error))
                return
            following = self._perform(group, actions)

    def send_all(self, event: GroupEvent) -> None:
        """Move every group on.  Raises ServiceLost, and then the groups behind have not had the event."""
        for group in self._states:
            self.send(group, event)

    def drain(self, group: str) -> None:
        """Refuse what waits in a group that was left.  Raises ServiceLost."""
        if self._states.get(group) is GroupState.LEFT:
            self.send(group, GroupEvent.READY)

    def _perform(self, group: str, actions: Iterable[GroupAction]) -> GroupEvent | None:
        """Perform the actions of a row up to the first whose result is an event, and return that."""
        for action in actions:
            event = self._actions[action](group)
            if event is not None:
                return event
        return None

    def _join(self, group: str) -> GroupEvent:
        try:
            self._sockets.join(group)
        except NetlinkError as error:
            return self._refused(group, error, GroupEvent.NOT_JOINED)
        return GroupEvent.JOINED

    def _accept(self, group: str) -> GroupEvent | None:
        try:
            self._rounds.serve(group)
        except NetlinkError as error:
            return self._refused(group, error, GroupEvent.REFUSED)
        return None

    def _refuse(self, group: str) -> GroupEvent | None:
        try:
            return GroupEvent.DRAINED if self._rounds.refuse(group) else None
        except NetlinkError as error:
            return self._refused(group, error, GroupEvent.REFUSED)

    def _refused(self, group: str, error: NetlinkError, event: GroupEvent) -> GroupEvent:
        """Log the reason once: the service lacks the group, so its configuration may name a wrong one."""
        if str(error) != self._problems.get(group):
            self._problems[group] = str(error)
            _log.warning(
                "the kernel's requests of a group cannot be taken", source=self._source, group=group, error=str(error)
            )
        return event

    def _report_joined(self, group: str) -> None:
        self._problems.pop(group, None)
        _log.info("joined the kernel's group", group=group, source=self._source)

    def _report_left(self, group: str) -> None:
        _log.info("left the kernel's group", group=group, source=self._source)
