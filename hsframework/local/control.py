"""Messages between the supervisor and its children: the dispatcher, the keeper of each plugin, and the cells.

::

    dispatcher                  supervisor                    keeper
        │                           │◄───────── Loaded ──────────│   once, and first: the plugin is imported
        │────────── Ready ─────────►│                            │   once: both sockets are served
        │───────── Served ─────────►│                            │   once: every required group has an agent
        │───── DispatcherAlive ────►│                            │   after Ready, every few seconds
        │                           │◄─────── KeeperAlive ───────│   after Loaded, every few seconds
        │◄────── AgentStarted ──────│                            │   after a Loaded; after a Ready, one for each agent
        │────────── Known ─────────►│                            │   the agent's user may join its groups
        │                           │──────────── Go ───────────►│   after each Known: workers may start
        │                           │◄────── WorkerJoined ───────│
        │                           │◄───────── Serving ─────────│   once: every worker has joined
        │                           │◄─────── WorkerDied ────────│
        │                           │◄───────── Failed ──────────│   at any time, and last: the keeper ends
        │◄───── Introduction ───────│                            │   with a connection to one of the two local sockets
        │                           │──────── ServeCell ────────►│   with a link: a worker for a cell
        │◄────── CellCounted ───────│                            │   requests of cells that have ended

    cell                        supervisor
        │◄───────── Guest ──────────│   with the connection of a consumer, or of whoever has no cell
        │◄───────── Offer ──────────│   at first, and when it has changed: the groups for which there are agents
        │──────── WorkerWanted ────►│   requests wait in a group that has no worker here
        │◄─────── WorkerLink ───────│   with a link to a worker, which may join these groups
        │───────── CellAlive ──────►│   every few seconds
        │─────────── Idle ─────────►│   no connection is open; so many came
        │───────── Counted ────────►│   requests that have ended, for the metrics

Rules:

* Each child has a SOCK_SEQPACKET socket pair with the supervisor; children exchange no message.
  A packet is one message: a JSON object in UTF-8 whose ``event`` names it, with the message's fields and no others.
* :data:`DIRECTIONS` is the table of senders and receivers.  What it does not list is refused.
* A keeper runs a plugin's code, so what it sends is a stranger's word: :meth:`Direction.decode` raises MessageError for
  whatever is not exactly a message.  So does a message's own constructor: whatever can be made can be sent and read.
* A message that meets a shortage of memory is sent again: whoever waits for it would wait for ever.
* A packet has no file descriptors, but for Introduction, ServeCell, Guest and WorkerLink, which the supervisor sends.
  Keepers and cells send none: the kernel refuses them where it can (Linux 6.16); else they are closed unseen.
* A child stops when its socket is closed.
"""

from __future__ import annotations

import dataclasses
import json
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeGuard, TypeVar, get_type_hints

from hsframework.errors import MessageError

MAX_MESSAGE = 60 * 1024
"""Bytes of a packet: far below Linux's default SO_SNDBUF."""

LONGEST_TEXT = 4096
"""Characters of a field that is a text."""

LONGEST_NAME = 256
MOST_NAMES = 64
"""Names in a field that is a list of them, and characters of each: what one message costs its receiver is bounded."""

MOST_NUMBERS = 1024

_NUMBERS = range(-(1 << 31), 1 << 32)
_EVENT = "event"


@dataclass(frozen=True, slots=True)
class Message:
    """Base of all messages.  Raises MessageError for values that cannot be sent."""

    event: ClassVar[str]

    def __post_init__(self) -> None:
        for name, is_right in _checks(type(self)).items():
            value = getattr(self, name)
            if not is_right(value):
                raise MessageError(f"{self.event}: {name} is {_shown(value)}")
        self.encode()

    def encode(self) -> bytes:
        """Return the packet."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        data = json.dumps({_EVENT: self.event, **values}, ensure_ascii=False).encode()
        if len(data) > MAX_MESSAGE:
            raise MessageError(f"{self.event}: {len(data)} bytes; at most {MAX_MESSAGE} go into a message")
        return data


@dataclass(frozen=True, slots=True)
class AgentStarted(Message):
    """Report of an agent that has started: ``uid`` may join ``groups``.  None: it is the dispatcher's own user."""

    event = "agent"
    name: str
    uid: int | None
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ready(Message):
    """Report that the dispatcher serves its sockets."""

    event = "ready"


@dataclass(frozen=True, slots=True)
class Served(Message):
    """Report that every required group has an agent."""

    event = "served"


@dataclass(frozen=True, slots=True)
class DispatcherAlive(Message):
    """Report that the dispatcher's loop turns."""

    event = "dispatcher-alive"


@dataclass(frozen=True, slots=True)
class KeeperAlive(Message):
    """Report that the keeper's loop turns."""

    event = "keeper-alive"


@dataclass(frozen=True, slots=True)
class Known(Message):
    """Report that the dispatcher lets the agent of that name join its groups."""

    event = "known"
    name: str


@dataclass(frozen=True, slots=True)
class Go(Message):
    """Permission for the keeper to start its workers."""

    event = "go"


@dataclass(frozen=True, slots=True)
class Loaded(Message):
    """Report that a keeper has loaded its plugin, which has these protocols and wants to join these groups."""

    event = "loaded"
    groups: tuple[str, ...]
    protocols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Serving(Message):
    """Report that every worker of the keeper has joined."""

    event = "serving"
    pids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WorkerJoined(Message):
    """Report that one worker of the keeper has joined its groups."""

    event = "worker-joined"
    pid: int


@dataclass(frozen=True, slots=True)
class WorkerDied(Message):
    """Report that a worker of the keeper has ended, with its exit status or a signal's number below zero."""

    event = "worker-died"
    pid: int
    status: int


@dataclass(frozen=True, slots=True)
class Failed(Message):
    """Report that the keeper ends, with the exit status that it is about to have."""

    event = "failed"
    message: str
    status: int

    @classmethod
    def because(cls, reason: object, status: int) -> Self:
        """Make it of any text, which is cut if it is too long and escaped where UTF-8 cannot have it."""
        text = str(reason).encode("utf-8", "backslashreplace").decode()
        return cls(text[:LONGEST_TEXT], int(status))


@dataclass(frozen=True, slots=True)
class Introduction(Message):
    """Connection to the local socket of that name, which comes with it, for the dispatcher to serve."""

    event = "introduction"
    listener: str


@dataclass(frozen=True, slots=True)
class ServeCell(Message):
    """Order to fork a worker for a cell; its link for one protocol comes with it.  Each protocol has a message."""

    event = "serve-cell"
    cell: int
    protocol: str


@dataclass(frozen=True, slots=True)
class Guest(Message):
    """Connection to the local socket of that name, which comes with it, for the cell to serve."""

    event = "guest"
    listener: str


@dataclass(frozen=True, slots=True)
class Offer(Message):
    """Names of the groups for which the cell may have workers."""

    event = "offer"
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkerWanted(Message):
    """Wish for a worker that serves the group."""

    event = "worker-wanted"
    group: str


@dataclass(frozen=True, slots=True)
class WorkerLink(Message):
    """Link to a worker, which comes with it: that of the agent with this user, which may join these groups."""

    event = "worker-link"
    uid: int
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CellAlive(Message):
    """Report that the cell's loop turns."""

    event = "cell-alive"


@dataclass(frozen=True, slots=True)
class Idle(Message):
    """Report that the cell has no connection open, after so many guests."""

    event = "idle"
    guests: int


@dataclass(frozen=True, slots=True)
class Counted(Message):
    """Report of requests of a group: status and microseconds of each that has ended, errno of each that was refused."""

    event = "counted"
    group: str
    statuses: tuple[int, ...]
    durations: tuple[int, ...]
    refused: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CellCounted(Message):
    """The same, of a cell."""

    event = "cell-counted"
    group: str
    statuses: tuple[int, ...]
    durations: tuple[int, ...]
    refused: tuple[int, ...]


M = TypeVar("M", bound=Message)

FromDispatcher = Ready | Served | DispatcherAlive | Known
ToDispatcher = AgentStarted | Introduction | CellCounted
ToKeeper = Go | ServeCell
ToCell = Guest | Offer | WorkerLink
FromCell = WorkerWanted | CellAlive | Idle | Counted
FromKeeper = Loaded | KeeperAlive | Serving | WorkerJoined | WorkerDied | Failed


class Direction(Generic[M]):
    """Set of the messages that one kind of process may send to another."""

    def __init__(self, sender: str, receiver: str, *messages: type[M]) -> None:
        self.sender = sender
        self.receiver = receiver
        self.messages: Mapping[str, type[M]] = {message.event: message for message in messages}

    def encode(self, message: M) -> bytes:
        """Return the packet.  Raises MessageError for a message that does not go this way."""
        if self.messages.get(message.event) is not type(message):
            raise MessageError(f"{message.event}: not sent by the {self.sender} to the {self.receiver}")
        return message.encode()

    def decode(self, data: bytes) -> M:
        """Return the message of a packet.  Raises MessageError if it is not exactly one of this direction."""
        values = _object(data)
        event = values.pop(_EVENT, None)
        kind = self.messages.get(event) if isinstance(event, str) else None
        if kind is None:
            raise MessageError(f"{_shown(event)}: not sent by the {self.sender} to the {self.receiver}")
        wanted = {field.name for field in dataclasses.fields(kind)}
        if values.keys() != wanted:
            raise MessageError(f"{event}: {_shown(sorted(values))} where {sorted(wanted)} are the fields")
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


DISPATCHER_TO_SUPERVISOR: Direction[FromDispatcher] = Direction(
    "dispatcher", "supervisor", Ready, Served, DispatcherAlive, Known
)
SUPERVISOR_TO_DISPATCHER: Direction[ToDispatcher] = Direction(
    "supervisor", "dispatcher", AgentStarted, Introduction, CellCounted
)
SUPERVISOR_TO_KEEPER: Direction[ToKeeper] = Direction("supervisor", "keeper", Go, ServeCell)
KEEPER_TO_SUPERVISOR: Direction[FromKeeper] = Direction(
    "keeper", "supervisor", Loaded, KeeperAlive, Serving, WorkerJoined, WorkerDied, Failed
)
SUPERVISOR_TO_CELL: Direction[ToCell] = Direction("supervisor", "cell", Guest, Offer, WorkerLink)
CELL_TO_SUPERVISOR: Direction[FromCell] = Direction("cell", "supervisor", WorkerWanted, CellAlive, Idle, Counted)
DIRECTIONS: tuple[Direction[Any], ...] = (
    DISPATCHER_TO_SUPERVISOR,
    SUPERVISOR_TO_DISPATCHER,
    SUPERVISOR_TO_KEEPER,
    KEEPER_TO_SUPERVISOR,
    SUPERVISOR_TO_CELL,
    CELL_TO_SUPERVISOR,
)


def _object(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_MESSAGE:
        raise MessageError(f"{len(data)} bytes; at most {MAX_MESSAGE} go into a message")
    try:
        found = json.loads(data.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"not a JSON object: {error!s:.80}") from None
    if not isinstance(found, dict):
        raise MessageError("not a JSON object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MessageError("a field is there twice")
    return found


def _is_text(value: object) -> bool:
    """Return True for a text that UTF-8 can have: half of a surrogate pair cannot be logged."""
    return isinstance(value, str) and len(value) <= LONGEST_TEXT and value == value.encode("utf-8", "ignore").decode()


def _is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_NAME and _is_text(value)


def _is_list(value: object, most: int) -> TypeGuard[tuple[object, ...]]:
    return isinstance(value, tuple) and len(value) <= most


def _is_number(value: object) -> bool:
    return type(value) is int and value in _NUMBERS


_KINDS: Mapping[object, Callable[[object], bool]] = {
    str: _is_text,
    int: _is_number,
    int | None: lambda value: value is None or _is_number(value),
    tuple[str, ...]: lambda value: _is_list(value, MOST_NAMES) and all(map(_is_name, value)),
    tuple[int, ...]: lambda value: _is_list(value, MOST_NUMBERS) and all(map(_is_number, value)),
}


def _checks(kind: type[Message]) -> dict[str, Callable[[object], bool]]:
    hints = get_type_hints(kind)
    return {field.name: _KINDS[hints[field.name]] for field in dataclasses.fields(kind)}


def _shown(value: object) -> str:
    """Return a short form of any value, which is made without looking at all of it."""
    return reprlib.repr(value)[:80]
