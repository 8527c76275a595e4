"""Cells: a dispatcher and workers of its own for each user in user space, so that no user pays for another.

::

    doorman ── connection ──▶ cell of user 1000 (a number of its own, no privilege) ◀── link ── its worker
       (supervisor/doorman.py)     ▲ Guest, WorkerLink                                            ▲
                                   supervisor ─────────────── ServeCell, with the link ──────▶ keeper
                                       └ helper ── CellTerms, with what this user may have ──▶ cell

Rules:

* A cell serves one user, with one set of profiles; all to whom policy gives nothing have one together, which refuses
  them.  Root and the service's own user are the dispatcher's, with the kernel.
* It is forked when the first connection comes, and ended when it has been idle; it is not started again by itself.
* What it owns is a user id of a range of our own, unique among the processes that live, never a user's or an agent's.
* One whose loop does not turn is killed, and given up if it cannot be ended: it waits for its user, who has so many
  at most.  The next connection gets a new one.
* Its terms come from a helper, which is forked for that and ends: of the credentials in force it picks those of the
  user.  At a reload every cell gets new ones, and strangers another cell, since policy may know them now.
* Connections are passed as far as a cell takes them.  The others wait here, up to :data:`MOST_WAITING` for each.  So do
  a user's while keepers load for the first time: it is not known yet which groups there are.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import assert_never

import structlog

from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.cell import PULSE, Tenant, hand_over_terms, run_cell
from hsframework.dispatcher.policy import PeerCredentials, Policy
from hsframework.local.control import (
    CELL_TO_SUPERVISOR,
    FROM_READER,
    SUPERVISOR_TO_CELL,
    TO_READER,
    CellAlive,
    CellCounted,
    CellHung,
    Counted,
    FromCell,
    FromReader,
    Guest,
    Idle,
    Offer,
    ServeCell,
    ToCell,
    ToReader,
    WorkerLink,
    WorkerWanted,
)
from hsframework.local.liveness import SHARE, Liveness
from hsframework.process.states import process_state, processes_of, user_of
from hsframework.supervisor.child import Child
from hsframework.supervisor.children import Children
from hsframework.supervisor.conversation import Agent

NUMBERS = range(61_056, 61_184)
"""User ids of cells; systemd's table of user ids leaves these unused, and those of agents end below."""

MOST_WAITING = 256
"""Connections that wait here for one cell."""

MOST_HUNG = 3
"""Cells of one user that have been given up and cannot be ended; while there are so many, he gets no other."""

BETWEEN_WORKERS = 0.25
"""Seconds between two workers of one plugin for one cell."""

BETWEEN_HELPERS = 0.5
"""Seconds until terms that could not be sent are made again."""

MOST_PEERS = 64
"""Sets of groups of one user that are remembered."""

SILENCE = PULSE * SHARE
"""Seconds without a report after which a cell that does not run is killed."""

_log = structlog.get_logger("hsframework.supervisor")


@dataclass(eq=False)
class Cell:
    """One cell: its process, and the connections that it is to get."""

    tenant: Tenant
    id: int
    child: Child[ToCell, FromCell] = field(init=False)
    waiting: deque[tuple[str, socket.socket]] = field(default_factory=deque)
    """Connections that were not passed yet, with the name of the local socket."""
    passed: int = 0
    offered: tuple[str, ...] = ()
    found: dict[str, float] = field(default_factory=dict)
    """Time at which it last got a worker, by plugin."""
    stalled: bool = False
    """True if its process could not be started yet."""
    peers: dict[tuple[int, frozenset[int]], PeerCredentials] = field(default_factory=dict)
    """Consumers that have connected, by their groups: of several processes of one user each may have others."""
    stale: bool = True
    """True if other terms are in force than it has."""
    helper: Child[ToReader, FromReader] | None = None
    """The process that makes its terms; None: none runs."""
    helper_due: float = 0.0
    """Time before which none is started."""


class Cells:
    """All cells.  ``agents``: those of the supervisor's keepers.  ``leave``: closes, in a cell, what it must not have.

    ``drop``: closes connections without blocking.  ``give_up``: shuts down those of a process that cannot be ended.
    ``report``: takes what is counted in cells.  ``credentials``: returns a copy of the snapshot of those in force, None
    where there is none yet.
    """

    def __init__(
        self,
        configuration: Configuration,
        children: Children,
        agents: Callable[[], Iterable[Agent]],
        leave: Callable[[], None],
        *,
        drop: Callable[[Iterable[socket.socket]], None],
        give_up: Callable[[int], None],
        report: Callable[[CellCounted], object],
        credentials: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._report = report
        self._credentials = credentials
        self._configuration = configuration
        self._children = children
        self._agents = agents
        self._leave = leave
        self._drop = drop
        self._give_up = give_up
        self._cells: dict[tuple[int | None, frozenset[str]], Cell] = {}
        self._hung: list[Cell] = []
        self._leaving: list[Cell] = []
        """Cells that were told to end, and get nothing more."""
        self._left: dict[int, int] | None = None
        """Cells of an earlier supervisor that have not ended, pid → number; None: not looked for yet."""
        self._ids = count(1)
        self._liveness: Liveness[Cell] = Liveness(SILENCE)
        self._look_at = 0.0

    def admit(
        self,
        uid: int | None,
        profiles: frozenset[str],
        listener: str,
        sock: socket.socket,
        peer: PeerCredentials | None = None,
    ) -> None:
        """Pass a connection to the cell of a user, which is made if there is none; None: to that of strangers."""
        key = uid, profiles
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = Cell(Tenant(uid, profiles, None), next(self._ids))
            self._make(cell)
        if peer is not None and len(cell.peers) < MOST_PEERS:
            cell.peers[peer.gid, peer.groups] = peer
        if len(cell.waiting) >= MOST_WAITING:
            self._drop([sock])
        else:
            cell.waiting.append((listener, sock))
            self._pass(cell)

    def children(self) -> list[Child[ToCell, FromCell]]:
        """Return the processes that can be ended in good order."""
        return [cell.child for cell in [*self._cells.values(), *self._leaving]]

    def owns(self, child: object) -> bool:
        """True if the process is that of a cell."""
        return any(child is cell.child for cell in self._all())

    def _all(self) -> list[Cell]:
        return [*self._cells.values(), *self._leaving, *self._hung]

    def renew(self, configuration: Configuration, policy: Policy) -> None:
        """Serve by other terms: each user by the profiles that policy gives him now."""
        self._configuration = configuration
        cells, self._cells = self._cells, {}
        for (uid, _), cell in cells.items():
            if uid is None:
                if cell.child.pid:
                    os.kill(cell.child.pid, signal.SIGTERM)
                self._leaving.append(cell)
                continue
            given = (policy.profiles_of(peer) for peer in cell.peers.values())
            profiles = frozenset().union(*(names for names in given if names is not None))
            cell.tenant, cell.stale = replace(cell.tenant, profiles=profiles), True
            # Of two cells that have become alike the first gets the next connections.
            key = (uid, profiles) if (uid, profiles) not in self._cells else (uid, frozenset({f"cell {cell.id}"}))
            self._cells[key] = cell

    def take(self, child: object, message: FromCell) -> None:
        """Act on a message of a cell."""
        cell = next((cell for cell in self._cells.values() if cell.child is child), None)
        if cell is None:
            return
        self._liveness.heard(cell, time.monotonic())
        match message:
            case WorkerWanted():
                self._find_worker(cell, message.group)
            case Idle():
                if message.guests == cell.passed and not cell.waiting and cell.child.pid:
                    os.kill(cell.child.pid, signal.SIGTERM)
            case Counted():
                self._report(CellCounted(message.group, message.statuses, message.durations, message.refused))
            case CellAlive():
                pass
            case _:
                assert_never(message)

    def look(self) -> float | None:
        """Pass what waits, end cells that hang, and forget those that have ended.  Return the time of the next look."""
        now = time.monotonic()
        self._hung = [cell for cell in self._hung if cell.child.pid]
        self._leaving = [cell for cell in self._leaving if cell.child.pid]
        for key, cell in list(self._cells.items()):
            if cell.stalled:
                self._make(cell)
            elif cell.child.ended and not cell.child.pid:
                self._liveness.forget(cell)
                del self._cells[key]
                for listener, sock in cell.waiting:
                    self.admit(*key, listener, sock)
        if now >= self._look_at:
            self._look_at = now + self._liveness.interval
            for cell in self._liveness.silent(now):
                self._judge(cell, now)
        for cell in list(self._cells.values()):
            self._see_to_terms(cell, now)
            self._pass(cell)
        return self._look_at if self._cells else None

    def leave(self) -> None:
        """Close our copies of what waits, in a forked child."""
        for cell in self._all():
            for _, sock in cell.waiting:
                sock.close()

    def _make(self, cell: Cell) -> None:
        """Start the process of a cell; one that cannot be started now is tried again at each look."""
        problem = self._start(cell)
        if problem is not None and not cell.stalled:
            _log.error("cannot be started now", child=f"cell of {cell.tenant.name}", reason=problem)
        cell.stalled = problem is not None

    def _start(self, cell: Cell) -> str | None:
        """Return the reason for which the process of a cell cannot be started now; None: it was."""
        number = None
        if os.geteuid() == 0:
            used = {other.tenant.number for other in self._all() if other is not cell} | self._left_in_use()
            number = next((number for number in NUMBERS if number not in used), None)
        tenant = cell.tenant = replace(cell.tenant, number=number)

        def start(control: socket.socket) -> int:
            self._leave()
            return run_cell(self._configuration, tenant, control)

        cell.child = Child(f"cell of {tenant.name}", start, SUPERVISOR_TO_CELL, CELL_TO_SUPERVISOR, passing=True)
        if number is None and os.geteuid() == 0:
            return f"all {len(NUMBERS)} user ids of cells are in use"
        if sum(other.tenant.uid == tenant.uid for other in self._hung) >= MOST_HUNG:
            return f"{MOST_HUNG} of them hang and cannot be ended"
        try:
            self._children.add(cell.child)
        except OSError as error:
            return error.strerror
        self._liveness.heard(cell, time.monotonic())
        cell.stale, cell.helper = True, None
        self._see_to_terms(cell, time.monotonic())
        self._offer(cell)
        return None

    def _left_in_use(self) -> set[int]:
        """Return the numbers of cells that an earlier supervisor has left, as one that hangs outlives it."""
        if self._left is None:
            self._left = processes_of(NUMBERS)
        self._left = {pid: uid for pid, uid in self._left.items() if user_of(pid) == uid}
        return set(self._left.values())

    def _see_to_terms(self, cell: Cell, now: float) -> None:
        """Have a cell sent the terms in force, if it has others, by one helper at a time: the last are sent last."""
        if cell.helper is not None and cell.helper.ended:
            if cell.helper.status:
                cell.stale, cell.helper_due = True, now + BETWEEN_HELPERS
            cell.helper = None
        control = cell.child.control
        if not cell.stale or cell.helper is not None or now < cell.helper_due or control is None:
            return
        link, credentials = os.dup(control.fileno()), self._credentials()
        configuration, profiles = self._configuration, cell.tenant.profiles

        def start(_: socket.socket) -> int:
            self._leave()
            return hand_over_terms(socket.socket(fileno=link), configuration, profiles, credentials)

        helper = Child(f"terms of {cell.child.name}", start, TO_READER, FROM_READER, passing=True, serves=False)
        try:
            self._children.add(helper)
            cell.helper, cell.stale = helper, False
        except OSError as error:
            _log.error("cannot be started now", child=helper.name, reason=error.strerror)
            cell.helper_due = now + BETWEEN_HELPERS
        finally:
            for fd in (link, credentials):
                if fd is not None:
                    os.close(fd)

    def _judge(self, cell: Cell, now: float) -> None:
        """Kill a cell that is silent and does not run, and give it up."""
        pid = cell.child.pid
        if not pid or process_state(pid) == "R":
            self._liveness.heard(cell, now)
            return
        _log.error("a cell hangs and is killed", child=cell.child.name, process=pid)
        os.kill(pid, signal.SIGKILL)
        self._give_up(pid)
        for agent in self._agents():
            # One that does not read now kills its workers when it stops.
            agent.keeper.offer(CellHung(cell.id))
        self._hung.append(cell)
        for key in [key for key, known in self._cells.items() if known is cell]:
            del self._cells[key]
            for listener, sock in cell.waiting:
                self.admit(*key, listener, sock)

    def _pass(self, cell: Cell) -> None:
        self._offer(cell)
        if cell.tenant.uid is not None and not all(agent.is_settled for agent in self._agents()):
            return
        while cell.waiting:
            listener, sock = cell.waiting[0]
            if not cell.child.offer(Guest(listener), sock.fileno()):
                return
            cell.waiting.popleft()
            cell.passed += 1
            # Not the last copy: one is under way.
            sock.close()

    def _offer(self, cell: Cell) -> None:
        """Tell a cell for which groups there are agents, if that has changed; strangers get none."""
        groups = () if cell.tenant.uid is None else tuple(sorted(self._groups()))
        if cell.child.control is not None and groups != cell.offered:
            cell.offered = groups
            cell.child.send(Offer(groups))

    def _groups(self) -> set[str]:
        return {group for agent in self._agents() if agent.granted is not None for group in agent.granted.groups}

    def _find_worker(self, cell: Cell, group: str) -> None:
        """Have a keeper fork a worker for a cell, with a link for each protocol of its plugin."""
        for agent in self._agents():
            if agent.granted is None or group not in agent.granted.groups or not agent.has_loaded:
                continue
            now = time.monotonic()
            if now < cell.found.get(agent.plugin, 0.0) + BETWEEN_WORKERS:
                return
            cell.found[agent.plugin] = now
            assert agent.loaded is not None
            uid = os.geteuid() if agent.uid is None else agent.uid
            for protocol in agent.loaded.protocols:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with ours, theirs, contextlib.suppress(OSError):
                    if agent.keeper.offer(ServeCell(cell.id, protocol), theirs.fileno()):
                        cell.child.offer(WorkerLink(uid, agent.granted.groups), ours.fileno())
            return
