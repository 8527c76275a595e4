"""Reload in the supervisor, without processes: the way of what was read, and of orders that nobody has answered."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from hsframework.configuration.settings import Configuration, Profile
from hsframework.dispatcher.terms import CONFIGURATION, CREDENTIALS, InForce, Terms, opened
from hsframework.local.control import (
    DISPATCHER_TO_SUPERVISOR,
    SUPERVISOR_TO_DISPATCHER,
    FromReader,
    NewTerms,
    NotRead,
    NotTaken,
    ReadAgain,
    ReaderAlive,
    TermsRead,
)
from hsframework.local.control_socket import ControlSocket
from hsframework.process.kept import VAULT, Shelf
from hsframework.process.snapshot import thaw
from hsframework.supervisor.child import AnyChild, Child
from hsframework.supervisor.reloading import MOST_READERS, Reloading

STATE = InForce(Configuration(profiles={"new": Profile()}))
CONTENTS = {("psks", "new"): ()}


class House:
    """A supervisor whose children are played: each has the other end of its control socket."""

    def __init__(self) -> None:
        self.ends: dict[AnyChild, ControlSocket[Any, Any]] = {}
        self.dispatcher: AnyChild = Child(
            "dispatcher", lambda _: 0, SUPERVISOR_TO_DISPATCHER, DISPATCHER_TO_SUPERVISOR, essential=True
        )
        self.shelf = Shelf()
        self.in_force: list[InForce] = []
        self.refused = 0
        self.reloading = Reloading(
            Configuration,
            InForce(Configuration()),
            (),
            self.dispatcher,
            self.shelf,
            leave=lambda: None,
            put_in_force=self.in_force.append,
            refused=self._refuse,
        )

    def _refuse(self) -> None:
        self.refused += 1

    def run(self, child: AnyChild) -> None:
        """Have a process run."""
        self.end(child)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        child.begun(1, ControlSocket(ours, child.sends, child.receives, takes_fds=child.takes_fds))
        self.ends[child] = ControlSocket(theirs, child.receives, child.sends, takes_fds=True)

    def end(self, child: AnyChild) -> None:
        """End it."""
        if child in self.ends:
            self.ends.pop(child).close()
            assert child.control is not None
            child.control.close()
            child.control = None

    def heard(self, child: AnyChild) -> list[tuple[Any, int | None]]:
        """Return what a process was sent."""
        return list(iter(self.ends[child].receive_with_fd, None))

    def reads(self, message: FromReader, fd: int | None = None) -> None:
        """Have the reader send a message."""
        child = self.reloading.child
        self.ends[child].send(message, fd)
        received = child.receive(0.0)
        assert received is not None
        self.reloading.take(received)

    def reads_terms(self, order: int = 0) -> None:
        """Have the reader send both snapshots."""
        for part, fd in zip((CONFIGURATION, CREDENTIALS), Terms(STATE, CONTENTS).frozen(), strict=True):
            self.reads(TermsRead(part, order), fd)
            os.close(fd)

    def close(self) -> None:
        for child in list(self.ends):
            self.end(child)
        self.reloading.leave()
        self.shelf.close()


@pytest.fixture
def house() -> Iterator[House]:
    with contextlib.closing(House()) as made:
        made.run(made.reloading.child)
        yield made


def _check_terms(heard: list[tuple[Any, int | None]], order: int) -> None:
    assert [message for message, _ in heard] == [NewTerms(CONFIGURATION, order), NewTerms(CREDENTIALS, order)]
    first, second = (fd for _, fd in heard)
    assert first is not None
    assert second is not None
    state, vault = opened((first, second))
    assert (state, vault.contents()) == (STATE, CONTENTS)


def test_what_was_read(house: House) -> None:
    """It is in force here, on the shelf for whoever is forked, and with the dispatcher."""
    house.run(house.dispatcher)
    house.reads_terms(5)
    assert house.in_force == [STATE]
    assert house.reloading.state == STATE
    kept = house.shelf.copy(VAULT)
    assert kept is not None
    assert thaw(kept) == CONTENTS
    _check_terms(house.heard(house.dispatcher), 5)


def test_a_dispatcher_that_is_not_there(house: House) -> None:
    """It gets what was read last when it is, once."""
    house.reads_terms(1)
    house.reads_terms(2)
    house.run(house.dispatcher)
    house.reloading.look()
    _check_terms(house.heard(house.dispatcher), 2)
    house.reloading.look()
    assert house.heard(house.dispatcher) == []


def test_a_fault(house: House) -> None:
    """Nothing changes; the dispatcher, which may have been asked, is told the reason."""
    house.run(house.dispatcher)
    house.reads(NotRead("why", 4))
    assert house.heard(house.dispatcher) == [(NotTaken("why", 4), None)]
    assert (house.in_force, house.refused, house.shelf.copy(VAULT)) == ([], 1, None)


def test_an_order_that_was_not_answered(house: House) -> None:
    """The reader has died: the next one gets it, with the highest number; one that was answered is forgotten."""
    reader = house.reloading.child
    house.reloading.order(3)
    house.reloading.order()
    assert house.heard(reader)[-1] == (ReadAgain(3), None)
    house.end(reader)
    house.reloading.look()
    house.run(reader)
    house.reloading.look()
    assert house.heard(reader) == [(ReadAgain(3), None)]
    house.reads(ReaderAlive())
    house.reads_terms(3)
    house.run(reader)
    house.reloading.look()
    assert house.heard(reader) == []


def test_an_order_over_which_readers_end(house: House) -> None:
    """The second one was the last: nothing is taken, whoever has asked gets the reason, and a new order counts anew."""
    reader = house.reloading.child
    house.run(house.dispatcher)
    for number in (7, 8):
        house.reloading.order(number)
        for _ in range(MOST_READERS):
            assert house.heard(house.dispatcher) == []
            assert house.heard(reader) == [(ReadAgain(number), None)]
            house.end(reader)
            house.reloading.look()
            house.run(reader)
            house.reloading.look()
        assert house.heard(reader) == []
        ((answer, _),) = house.heard(house.dispatcher)
        assert (type(answer), answer.order) == (NotTaken, number)
        assert "2 readers have ended" in answer.message
    assert (house.refused, house.in_force) == (2, [])


def test_snapshots_that_cannot_be_opened(house: House) -> None:
    """They are closed, and nothing is in force of them."""
    house.run(house.dispatcher)
    with open("/dev/null", "rb") as nothing:
        for part in (CREDENTIALS, CONFIGURATION, CONFIGURATION, CREDENTIALS):
            house.reads(TermsRead(part, 0), nothing.fileno())
    assert (house.in_force, house.heard(house.dispatcher)) == ([], [])
