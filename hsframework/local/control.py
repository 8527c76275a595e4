"""Messages between the supervisor and its children: the dispatcher, the keeper of each plugin, and the cells.

::

    dispatcher                  supervisor                    keeper
        │                           │◄───────── Loaded ──────────│   once, and first: the plugin is imported
        │────────── Ready ─────────►│                            │   once: both sockets are served
        │───────── Served ─────────►│                            │   once: every required group has an agent
        │───── DispatcherAlive ────►│                            │   after Ready, every few seconds
        │───────── Stated ─────────►│                            │   what is served, when it has changed
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
        │                           │───────── CellHung ────────►│   a cell was given up: its workers are killed
        │◄────── CellCounted ───────│                            │   requests of cells that have ended
        │────── ReloadWanted ──────►│                            │   somebody wants a reload
        │◄──────── NewTerms ────────│                            │   two, with a snapshot each: what is in force now
        │◄──────── NotTaken ────────│                            │   a file is wrong, and nothing has changed
        │───────── Renewed ────────►│                            │   after NewTerms: it is in force

    reader                      supervisor, or a dispatcher without one
        │◄─────── ReadAgain ────────│   read everything anew
        │──────── TermsRead ───────►│   two, with a snapshot each, also without ReadAgain: a file has changed
        │───────── NotRead ────────►│   in their place: what is wrong
        │─────── ReaderAlive ──────►│   every second

    cell                        supervisor
        │◄───────── Guest ──────────│   with the connection of a consumer, or of whoever has no cell
        │◄─────── CellTerms ────────│   two, with a snapshot each, at first and when they have changed
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
* A packet has no file descriptors, but for Introduction, ServeCell, Guest, WorkerLink, NewTerms and CellTerms, which
  the supervisor sends, and TermsRead.  Keepers and cells send none: the kernel refuses them where it can (Linux 6.16);
  else they are closed unseen.
* A child stops when its socket is closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from hsframework.local.control_form import Direction, Message, fitting


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
class Stated(Message):
    """Report of what is served, and what is waited for, in a line for people."""

    event = "stated"
    line: str

    @classmethod
    def of(cls, line: str) -> Self:
        """Make it of any text, which is cut if it is too long and escaped where UTF-8 cannot have it."""
        return cls(fitting(line))


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
        return cls(fitting(reason), int(status))


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
class CellHung(Message):
    """Order to kill the workers of a cell that was given up: no question of theirs is answered."""

    event = "cell-hung"
    cell: int


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


@dataclass(frozen=True, slots=True)
class ReadAgain(Message):
    """Order to read every file anew.  ``order``: a number, by which the answer names it; 0: nobody waits for that."""

    event = "read-again"
    order: int


@dataclass(frozen=True, slots=True)
class TermsRead(Message):
    """Snapshot of one part of what was read (:mod:`hsframework.dispatcher.terms`), which comes with it.

    ``order``: the last order before; 0: there was none.
    """

    event = "terms-read"
    part: str
    order: int


@dataclass(frozen=True, slots=True)
class NotRead(Message):
    """Report that nothing was taken of what was read, and the reason.  ``order``: as that of TermsRead."""

    event = "not-read"
    message: str
    order: int

    @classmethod
    def because(cls, reason: object, order: int) -> Self:
        """Make it of any text, which is cut if it is too long and escaped where UTF-8 cannot have it."""
        return cls(fitting(reason), order)


@dataclass(frozen=True, slots=True)
class ReaderAlive(Message):
    """Report that the reader's loop turns."""

    event = "reader-alive"


@dataclass(frozen=True, slots=True)
class ReloadWanted(Message):
    """Wish of the dispatcher for the same as ReadAgain."""

    event = "reload-wanted"
    order: int


@dataclass(frozen=True, slots=True)
class NewTerms(Message):
    """The same as TermsRead, for the dispatcher."""

    event = "new-terms"
    part: str
    order: int


@dataclass(frozen=True, slots=True)
class NotTaken(Message):
    """The same as NotRead, for the dispatcher."""

    event = "not-taken"
    message: str
    order: int


@dataclass(frozen=True, slots=True)
class Renewed(Message):
    """Report that the dispatcher serves by the terms that it was sent last."""

    event = "renewed"


@dataclass(frozen=True, slots=True)
class CellTerms(Message):
    """Snapshot of one part of what is in force for the cell, which comes with it."""

    event = "cell-terms"
    part: str


FromDispatcher = Ready | Served | Stated | DispatcherAlive | Known | ReloadWanted | Renewed
ToDispatcher = AgentStarted | Introduction | CellCounted | NewTerms | NotTaken
ToReader = ReadAgain
FromReader = TermsRead | NotRead | ReaderAlive
ToKeeper = Go | ServeCell | CellHung
ToCell = Guest | Offer | WorkerLink | CellTerms
FromCell = WorkerWanted | CellAlive | Idle | Counted
FromKeeper = Loaded | KeeperAlive | Serving | WorkerJoined | WorkerDied | Failed


DISPATCHER_TO_SUPERVISOR: Direction[FromDispatcher] = Direction(
    "dispatcher", "supervisor", Ready, Served, Stated, DispatcherAlive, Known, ReloadWanted, Renewed
)
SUPERVISOR_TO_DISPATCHER: Direction[ToDispatcher] = Direction(
    "supervisor", "dispatcher", AgentStarted, Introduction, CellCounted, NewTerms, NotTaken
)
TO_READER: Direction[ToReader] = Direction("supervisor", "reader", ReadAgain)
FROM_READER: Direction[FromReader] = Direction("reader", "supervisor", TermsRead, NotRead, ReaderAlive)
SUPERVISOR_TO_KEEPER: Direction[ToKeeper] = Direction("supervisor", "keeper", Go, ServeCell, CellHung)
KEEPER_TO_SUPERVISOR: Direction[FromKeeper] = Direction(
    "keeper", "supervisor", Loaded, KeeperAlive, Serving, WorkerJoined, WorkerDied, Failed
)
SUPERVISOR_TO_CELL: Direction[ToCell] = Direction("supervisor", "cell", Guest, Offer, WorkerLink, CellTerms)
CELL_TO_SUPERVISOR: Direction[FromCell] = Direction("cell", "supervisor", WorkerWanted, CellAlive, Idle, Counted)
DIRECTIONS: tuple[Direction[Any], ...] = (
    DISPATCHER_TO_SUPERVISOR,
    SUPERVISOR_TO_DISPATCHER,
    TO_READER,
    FROM_READER,
    SUPERVISOR_TO_KEEPER,
    KEEPER_TO_SUPERVISOR,
    SUPERVISOR_TO_CELL,
    CELL_TO_SUPERVISOR,
)
