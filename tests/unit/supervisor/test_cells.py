"""Cells without processes: who gets which connection, what waits, and what is given up."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any, cast

import pytest

from hsframework.configuration.settings import Configuration
from hsframework.local.control import (
    CELL_TO_SUPERVISOR,
    KEEPER_TO_SUPERVISOR,
    SUPERVISOR_TO_CELL,
    SUPERVISOR_TO_KEEPER,
    AgentStarted,
    CellCounted,
    CellHung,
    Counted,
    Guest,
    Idle,
    Loaded,
    Offer,
    ServeCell,
    WorkerLink,
    WorkerWanted,
)
from hsframework.local.control_socket import ControlSocket
from hsframework.supervisor import cells as module
from hsframework.supervisor.cells import MOST_HUNG, MOST_WAITING, NUMBERS, Cells
from hsframework.supervisor.child import AnyChild, Child
from hsframework.supervisor.children import Children
from hsframework.supervisor.conversation import Agent

NOTHING: frozenset[str] = frozenset()


class House:
    """Cells whose processes are played: each has the other end of its control socket, and a pid that nobody has."""

    def __init__(self) -> None:
        self.ends: dict[AnyChild, ControlSocket[Any, Any]] = {}
        self.killed: list[tuple[int, int]] = []
        self.dropped: list[socket.socket] = []
        keeper = Child("agent of toy", lambda _: 0, SUPERVISOR_TO_KEEPER, KEEPER_TO_SUPERVISOR)
        self.agent = Agent("toy", 60_900, keeper)
        self.run(keeper)
        self.agent.loaded, self.agent.loaded_over = Loaded(("toy",), ("one", "two")), keeper.control
        self.agent.granted = AgentStarted("agent of toy", 60_900, ("toy",))
        self.given_up: list[int] = []
        self.counted: list[CellCounted] = []
        self.cells = Cells(
            Configuration(),
            cast(Children, self),
            lambda: (self.agent,),
            lambda: None,
            drop=self.dropped.extend,
            give_up=self.given_up.append,
            report=self.counted.append,
        )

    def add(self, child: AnyChild) -> None:
        """Start a child, as Children does."""
        self.run(child)

    def run(self, child: AnyChild) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        child.begun(1_000_000 + len(self.ends), ControlSocket(ours, child.sends, child.receives))
        self.ends[child] = ControlSocket(theirs, child.receives, child.sends, takes_fds=True)

    def connect(self, uid: int | None, listener: str = "consumer") -> socket.socket:
        """Connect as a user, and return the consumer's end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.cells.admit(uid, NOTHING, listener, theirs)
        return ours

    def cell(self, uid: int | None) -> AnyChild:
        """Return the newest process of the user's cell."""
        name = "cell of strangers" if uid is None else f"cell of user {uid}"
        return [child for child in self.ends if child.name == name][-1]

    def heard(self, child: AnyChild) -> list[object]:
        """Return the messages that a process was sent since the last call; their descriptors are closed."""
        return list(iter(self.ends[child].receive, None))

    def end(self, child: AnyChild) -> None:
        """Have a process end."""
        child.pid, child.ended = 0, True

    def close(self) -> None:
        for child, end in self.ends.items():
            end.close()
            if child.control is not None:
                child.control.close()
        self.cells.leave()


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(module, "processes_of", lambda users: {})
    with contextlib.closing(House()) as made:
        monkeypatch.setattr(os, "kill", lambda pid, number: made.killed.append((pid, number)))
        yield made


def test_a_cell_for_each_user(house: House) -> None:
    """With a number of its own; a user's next connection, and the next stranger's, goes to the same."""
    kept = [house.connect(uid) for uid in (1000, 1001, 1000, None, None)]
    assert [house.heard(house.cell(uid)).count(Guest("consumer")) for uid in (1000, 1001, None)] == [2, 1, 2]
    numbers = [cell.tenant.number for cell in house.cells._cells.values()]
    assert len(set(numbers)) == 3
    assert set(numbers) <= set(NUMBERS)
    _close(kept)


def test_a_cell_that_an_earlier_supervisor_has_left(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number is nobody else's for as long as it lives."""
    living = {1: NUMBERS[0], 2: NUMBERS[1]}
    monkeypatch.setattr(module, "processes_of", lambda users: dict(living))
    monkeypatch.setattr(module, "user_of", living.get)
    kept = [house.connect(1000)]
    living.pop(1)
    kept += [house.connect(1001), house.connect(1002)]
    numbers = [cell.tenant.number for cell in house.cells._cells.values()]
    assert numbers == [NUMBERS[2], NUMBERS[0], NUMBERS[3]]
    _close(kept)


def test_groups_are_offered_to_users_alone(house: House) -> None:
    """They are sent anew after a change; strangers get no worker."""
    kept = [house.connect(uid) for uid in (1000, None)]
    assert house.heard(house.cell(1000))[0] == Offer(("toy",))
    house.agent.granted = AgentStarted("agent of toy", 60_900, ("toy", "other"))
    house.cells.look()
    assert house.heard(house.cell(1000)) == [Offer(("other", "toy"))]
    assert house.heard(house.cell(None)) == [Guest("consumer")]
    _close(kept)


def test_a_user_waits_for_keepers_that_load(house: House) -> None:
    """His connection is passed once every keeper has reported its groups, or has ended; a stranger's at once."""
    house.agent.granted = None
    kept = [house.connect(uid) for uid in (1000, 1001, None)]
    assert [house.heard(house.cell(uid)) for uid in (1000, 1001, None)] == [[], [], [Guest("consumer")]]
    house.agent.granted = AgentStarted("agent of toy", 60_900, ("toy",))
    house.cells.look()
    assert house.heard(house.cell(1000)) == [Offer(("toy",)), Guest("consumer")]
    house.agent.granted, house.agent.keeper.ended = None, True
    kept.append(house.connect(1002))
    assert house.heard(house.cell(1002)) == [Guest("consumer")]
    _close(kept)


def test_a_worker_for_a_cell(house: House) -> None:
    """The keeper gets a link for each protocol, the cell the other ends; a group without an agent has neither."""
    kept = [house.connect(1000)]
    cell = house.cell(1000)
    house.heard(cell)
    for group in ("nobody's", "toy"):
        house.cells.take(cell, WorkerWanted(group))
    assert house.heard(house.agent.keeper) == [ServeCell(1, "one"), ServeCell(1, "two")]
    assert house.heard(cell) == [WorkerLink(60_900, ("toy",))] * 2
    _close(kept)


def test_what_a_cell_counts(house: House) -> None:
    """It is handed on."""
    kept = [house.connect(1000)]
    house.cells.take(house.cell(1000), Counted("toy", (0,), (5,), ()))
    assert house.counted == [CellCounted("toy", (0,), (5,), ())]
    _close(kept)


def test_a_cell_that_is_idle(house: House) -> None:
    """It is ended, but for one to which a connection is under way."""
    kept = [house.connect(1000)]
    cell = house.cell(1000)
    house.cells.take(cell, Idle(0))
    assert not house.killed
    house.cells.take(cell, Idle(1))
    assert house.killed == [(cell.pid, signal.SIGTERM)]
    house.end(cell)
    house.cells.look()
    kept.append(house.connect(1000))
    assert house.cell(1000) is not cell
    _close(kept)


def test_connections_that_wait(house: House) -> None:
    """A cell that does not read has a bounded number of them here; another user's are passed on."""
    kept = [house.connect(1000) for _ in range(2_000)]
    assert len(house.cells._cells[1000, NOTHING].waiting) == MOST_WAITING
    assert house.dropped
    kept.append(house.connect(1001))
    assert Guest("consumer") in house.heard(house.cell(1001))
    passed = house.heard(house.cell(1000)).count(Guest("consumer"))
    house.cells.look()
    passed += house.heard(house.cell(1000)).count(Guest("consumer"))
    assert passed + len(house.dropped) == 2_000
    _close([*kept, *house.dropped])


def test_cells_that_hang(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that sleeps is killed and given up, one that runs is not; a user has so many of them at most."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    kept = [house.connect(1001)]
    monkeypatch.setattr(module, "process_state", lambda pid: "R" if pid == house.cell(1001).pid else "D")
    hung: list[AnyChild] = []
    for _ in range(MOST_HUNG + 2):
        kept.append(house.connect(1000))
        if not hung or house.cell(1000) is not hung[-1]:
            hung.append(house.cell(1000))
        for _ in range(10):
            now += 0.25
            house.cells.look()
    assert len(hung) == MOST_HUNG
    assert [pid for pid, _ in house.killed] == [child.pid for child in hung] == house.given_up
    assert [message for message in house.heard(house.agent.keeper) if isinstance(message, CellHung)] == [
        CellHung(cell.id) for cell in house.cells._hung
    ]
    numbers = {cell.tenant.number for cell in house.cells._hung}
    assert len(numbers) == MOST_HUNG
    house.end(hung[0])
    house.cells.look()
    assert house.cell(1000) not in hung
    _close(kept)


def test_more_users_than_numbers(house: House) -> None:
    """No cell ever runs as root: one waits until a number is free."""
    kept = [house.connect(uid) for uid in range(2000, 2000 + len(NUMBERS) + 1)]
    last = house.cells._cells[2000 + len(NUMBERS), NOTHING]
    assert last.stalled
    assert last.tenant.number is None
    assert last.child not in house.ends
    house.end(house.cell(2000))
    house.cells.look()
    house.cells.look()
    assert house.heard(house.cell(2000 + len(NUMBERS)))[-1] == Guest("consumer")
    assert last.tenant.number in NUMBERS
    _close(kept)


def _close(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def test_messages_go_their_way() -> None:
    """Messages of cells have directions of their own."""
    assert CELL_TO_SUPERVISOR.decode(Idle(3).encode()) == Idle(3)
    assert SUPERVISOR_TO_CELL.decode(Guest("agent").encode()) == Guest("agent")
