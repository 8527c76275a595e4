"""The states of a source and of each of its groups, as two tables.

A group::

    UNSERVED ──OPENED──▶ WANTED ──JOINED──▶ JOINED ──CLOSED──▶ LEFT ──DRAINED──▶ UNSERVED
                           ▲                   │                 │ ▲
                           ├── LOST, REFUSED ──┘          OPENED │ │ CLOSED
                           │                                     ▼ │
                           └───────── LOST, REFUSED ────────── REOPENED ──JOINED──▶ JOINED

The rules that the table keeps:

* ACCEPT stands in rows that lead to a group which an agent serves, REFUSE in rows that lead to LEFT.
* LEAVE stands on every way out of JOINED but LOST: then the sockets are closed, and the membership with them.
* LOST has no action: every group is sent it, wherever the call was that found the service gone.
* An action whose result is an event ends its row: the actions behind it are void.

A source::

    OPEN ──RETIRED──▶ RETIRED ──IDLE──▶ OVER ──CLOSED──▶ CLOSED

CLOSED leads from each of them to CLOSED, where the dispatcher no longer knows the source.

A pair that is not listed is an error of the dispatcher; the two functions raise, and the caller fails closed.

No input or output here, and no clock.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from hsframework.errors import HsframeworkError


class GroupState(enum.Enum):
    """The state of one group."""

    UNSERVED = "no agent serves it, and nothing of it waits"
    WANTED = "an agent serves it, and the service is missing or refuses it"
    JOINED = "an agent serves it, and we are a member"
    LEFT = "no agent serves it, and its queue may hold requests"
    REOPENED = "an agent serves it again, it is not joined yet, and its queue may hold requests"


class GroupEvent(enum.Enum):
    """The events of one group."""

    OPENED = "the first agent serves it"
    CLOSED = "no agent serves it any longer"
    RETRY = "it is time to try again"
    JOINED = "the service took the membership"
    NOT_JOINED = "the service refused the membership"
    READY = "requests may wait, or the dispatcher has room again"
    DRAINED = "nothing waits in its queue"
    REFUSED = "the service refuses ACCEPT for it"
    LOST = "the service is gone, and the sockets are closed"


class GroupAction(enum.Enum):
    """The actions of a source for one group, in the order of the row."""

    JOIN = "become a member: ends in JOINED or NOT_JOINED"
    LEAVE = "cease to be a member"
    ACCEPT = "submit the requests that wait while the dispatcher has room: may end in REFUSED"
    REFUSE = "complete the requests that wait with ETIMEDOUT: may end in DRAINED or REFUSED"
    REPORT_JOINED = "log that it was joined"
    REPORT_LEFT = "log that it was left"
    ASK_LATER = "have RETRY sent later"


GroupRow = tuple[GroupState, tuple[GroupAction, ...]]
_S, _E, _A = GroupState, GroupEvent, GroupAction

GROUPS: Mapping[tuple[GroupState, GroupEvent], GroupRow] = {
    (_S.UNSERVED, _E.OPENED): (_S.WANTED, (_A.JOIN,)),
    (_S.UNSERVED, _E.CLOSED): (_S.UNSERVED, ()),
    (_S.UNSERVED, _E.RETRY): (_S.UNSERVED, ()),
    (_S.UNSERVED, _E.READY): (_S.UNSERVED, ()),
    (_S.UNSERVED, _E.LOST): (_S.UNSERVED, ()),
    (_S.WANTED, _E.OPENED): (_S.WANTED, (_A.JOIN,)),
    (_S.WANTED, _E.CLOSED): (_S.UNSERVED, ()),
    (_S.WANTED, _E.RETRY): (_S.WANTED, (_A.JOIN,)),
    (_S.WANTED, _E.JOINED): (_S.JOINED, (_A.ACCEPT, _A.REPORT_JOINED)),
    (_S.WANTED, _E.NOT_JOINED): (_S.WANTED, (_A.ASK_LATER,)),
    (_S.WANTED, _E.READY): (_S.WANTED, ()),
    (_S.WANTED, _E.LOST): (_S.WANTED, ()),
    (_S.JOINED, _E.OPENED): (_S.JOINED, ()),
    (_S.JOINED, _E.CLOSED): (_S.LEFT, (_A.LEAVE, _A.REPORT_LEFT, _A.REFUSE)),
    (_S.JOINED, _E.RETRY): (_S.JOINED, ()),
    (_S.JOINED, _E.READY): (_S.JOINED, (_A.ACCEPT,)),
    (_S.JOINED, _E.REFUSED): (_S.WANTED, (_A.LEAVE, _A.ASK_LATER)),
    (_S.JOINED, _E.LOST): (_S.WANTED, ()),
    (_S.LEFT, _E.OPENED): (_S.REOPENED, (_A.JOIN,)),
    (_S.LEFT, _E.CLOSED): (_S.LEFT, ()),
    (_S.LEFT, _E.RETRY): (_S.LEFT, ()),
    (_S.LEFT, _E.READY): (_S.LEFT, (_A.REFUSE,)),
    (_S.LEFT, _E.DRAINED): (_S.UNSERVED, ()),
    (_S.LEFT, _E.REFUSED): (_S.UNSERVED, ()),
    (_S.LEFT, _E.LOST): (_S.UNSERVED, ()),
    (_S.REOPENED, _E.OPENED): (_S.REOPENED, (_A.JOIN,)),
    (_S.REOPENED, _E.CLOSED): (_S.LEFT, (_A.REFUSE,)),
    (_S.REOPENED, _E.RETRY): (_S.REOPENED, (_A.JOIN,)),
    (_S.REOPENED, _E.JOINED): (_S.JOINED, (_A.ACCEPT, _A.REPORT_JOINED)),
    (_S.REOPENED, _E.NOT_JOINED): (_S.REOPENED, (_A.ASK_LATER,)),
    (_S.REOPENED, _E.READY): (_S.REOPENED, (_A.ACCEPT,)),
    (_S.REOPENED, _E.REFUSED): (_S.WANTED, (_A.ASK_LATER,)),
    (_S.REOPENED, _E.LOST): (_S.WANTED, ()),
}


class SourceState(enum.Enum):
    """The state of a source."""

    OPEN = "groups are joined as agents come"
    RETIRED = "its namespace is gone, and requests are still to be completed"
    OVER = "nothing is left to complete"
    CLOSED = "the dispatcher no longer knows it"


class SourceEvent(enum.Enum):
    """The events of a source."""

    RETIRED = "its namespace is gone"
    IDLE = "no group is served or to be drained, and no request is pending"
    CLOSED = "its owner closes it"


class SourceAction(enum.Enum):
    """The actions on a source, in the order of the row."""

    CLOSE_GROUPS = "send CLOSED to every group"
    CLOSE_SOCKETS = "close the sockets, and send LOST to every group"
    FORGET = "take the source out of the dispatcher"


SourceRow = tuple[SourceState, tuple[SourceAction, ...]]
_CLOSE: SourceRow = (
    SourceState.CLOSED,
    (SourceAction.CLOSE_SOCKETS, SourceAction.CLOSE_GROUPS, SourceAction.FORGET),
)

SOURCES: Mapping[tuple[SourceState, SourceEvent], SourceRow] = {
    (SourceState.OPEN, SourceEvent.RETIRED): (SourceState.RETIRED, (SourceAction.CLOSE_GROUPS,)),
    (SourceState.OPEN, SourceEvent.IDLE): (SourceState.OPEN, (SourceAction.CLOSE_SOCKETS,)),
    (SourceState.OPEN, SourceEvent.CLOSED): _CLOSE,
    (SourceState.RETIRED, SourceEvent.RETIRED): (SourceState.RETIRED, ()),
    (SourceState.RETIRED, SourceEvent.IDLE): (SourceState.OVER, (SourceAction.CLOSE_SOCKETS,)),
    (SourceState.RETIRED, SourceEvent.CLOSED): _CLOSE,
    (SourceState.OVER, SourceEvent.RETIRED): (SourceState.OVER, ()),
    # A request that an earlier dispatcher took may still be given back, and opens the sockets once more.
    (SourceState.OVER, SourceEvent.IDLE): (SourceState.OVER, (SourceAction.CLOSE_SOCKETS,)),
    (SourceState.OVER, SourceEvent.CLOSED): _CLOSE,
    (SourceState.CLOSED, SourceEvent.CLOSED): (SourceState.CLOSED, ()),
    # A call that the loop had scheduled before.
    (SourceState.CLOSED, SourceEvent.IDLE): (SourceState.CLOSED, ()),
}


class LifecycleError(HsframeworkError):
    """An event that a table does not have for a state: a fault of the dispatcher."""


def step_group(state: GroupState, event: GroupEvent) -> GroupRow:
    """Return the next state of a group and the actions.  Raises LifecycleError."""
    row = GROUPS.get((state, event))
    if row is None:
        raise LifecycleError(f"a group in the state {state.name} cannot take the event {event.name}")
    return row


def step_source(state: SourceState, event: SourceEvent) -> SourceRow:
    """Return the next state of a source and the actions.  Raises LifecycleError."""
    row = SOURCES.get((state, event))
    if row is None:
        raise LifecycleError(f"a source in the state {state.name} cannot take the event {event.name}")
    return row
