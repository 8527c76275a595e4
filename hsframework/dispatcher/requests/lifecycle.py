"""Life cycle of a request, as a table.

::

              ACCEPTED              SUCCEEDED, FAILED, DEADLINE, CANCELLED,
    QUEUED ───────────▶ IN_FLIGHT ────────────────────────────────────────────▶ CLOSED
       │                              AGENT_GONE, CONSUMER_GONE                   ▲
       └─ DEADLINE, CANCELLED, GROUP_GONE, CONSUMER_GONE ─────────────────────────┘

The rules that the table keeps:

* COMPLETE stands on every way into CLOSED but two, and nothing leads out of CLOSED: so a request has exactly one
  completion.  Where the consumer itself is gone, it is RELEASE.  Where it withdraws the request, it is HAND_BACK: its
  source has called the dispatcher, and is not called in return.
* Where an agent may still hold a copy of the socket and the request did not end by its word, SHUT_DOWN comes before
  COMPLETE: the consumer gets back a dead connection rather than one that two write to.
* COMPLETE and HAND_BACK are the last action of their row, and the last step is the source's.  The request is forgotten
  by then, and its socket the source's, which may hold it until the outcome is acknowledged.
* A pair that is not listed is a fault of the dispatcher: it is logged, and changes nothing.

No input or output here, and no clock.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping


class _Name(enum.Enum):
    """Enum that is hashed by identity: its own hash costs more than the look-up."""

    __hash__ = object.__hash__


class State(_Name):
    """State of a request."""

    QUEUED = "waits for an agent"
    IN_FLIGHT = "an agent runs the handshake"
    CLOSED = "over; nothing is held but by its source"


class Event(_Name):
    """Event in the life of a request."""

    ACCEPTED = "an agent pulled it"
    SUCCEEDED = "the agent reported success, and the session was found in place"
    FAILED = "the agent reported an error, or a success that is none"
    DEADLINE = "the dispatcher's own deadline passed"
    CANCELLED = "the consumer withdrew it"
    CONSUMER_GONE = "nobody is left to be told"
    AGENT_GONE = "the agent that had it is gone"
    GROUP_GONE = "no agent serves the group any more"


class Action(_Name):
    """Action of the dispatcher; those of a row are done in its order."""

    SHUT_DOWN = "shut the connection down, in every process that has a copy"
    COMPLETE = "forget the request, and give its outcome and its socket to the source"
    HAND_BACK = "forget the request, whose source takes outcome and socket from the call that it has made"
    TELL_AGENT = "tell the agent to let go"
    WATCH_AGENT = "kill the agent unless it shows that it lives"
    RELEASE = "forget the request, and close our copy of the socket"


Row = tuple[State, tuple[Action, ...]]

TABLE: Mapping[tuple[State, Event], Row] = {
    (State.QUEUED, Event.ACCEPTED): (State.IN_FLIGHT, ()),
    (State.QUEUED, Event.DEADLINE): (State.CLOSED, (Action.COMPLETE,)),
    (State.QUEUED, Event.CANCELLED): (State.CLOSED, (Action.HAND_BACK,)),
    (State.QUEUED, Event.GROUP_GONE): (State.CLOSED, (Action.COMPLETE,)),
    (State.QUEUED, Event.CONSUMER_GONE): (State.CLOSED, (Action.RELEASE,)),
    (State.IN_FLIGHT, Event.SUCCEEDED): (State.CLOSED, (Action.COMPLETE,)),
    (State.IN_FLIGHT, Event.FAILED): (State.CLOSED, (Action.COMPLETE,)),
    (State.IN_FLIGHT, Event.DEADLINE): (
        State.CLOSED,
        (Action.SHUT_DOWN, Action.TELL_AGENT, Action.WATCH_AGENT, Action.COMPLETE),
    ),
    (State.IN_FLIGHT, Event.CANCELLED): (State.CLOSED, (Action.SHUT_DOWN, Action.TELL_AGENT, Action.HAND_BACK)),
    (State.IN_FLIGHT, Event.AGENT_GONE): (State.CLOSED, (Action.SHUT_DOWN, Action.COMPLETE)),
    (State.IN_FLIGHT, Event.CONSUMER_GONE): (State.CLOSED, (Action.SHUT_DOWN, Action.TELL_AGENT, Action.RELEASE)),
}
