"""Doorman without processes: who is passed to whom, and what waits."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hsframework.configuration.settings import AllowRule, Configuration, GroupSettings, Profile
from hsframework.dispatcher.policy import PeerCredentials
from hsframework.dispatcher.subordinates import Range, Subordinates
from hsframework.local.control import (
    DISPATCHER_TO_SUPERVISOR,
    KEEPER_TO_SUPERVISOR,
    SUPERVISOR_TO_DISPATCHER,
    SUPERVISOR_TO_KEEPER,
    Introduction,
)
from hsframework.local.control_socket import ControlSocket
from hsframework.supervisor import doorman as module
from hsframework.supervisor.child import Child
from hsframework.supervisor.children import Children
from hsframework.supervisor.conversation import Agent
from hsframework.supervisor.doorman import MOST_WAITING, PAUSE, Doorman
from tests.support.running import until

ROOT, USER, MEMBER, STRANGER, AGENT, JOINER = 0, 1000, 1001, 1002, 60_900, 60_901
GROUP_OF_USERS = 500
CONFIGURATION = Configuration(
    profiles={"web": Profile(), "mail": Profile(), "other": Profile()},
    allow=(
        AllowRule(users=(str(USER),), profiles=("web",)),
        AllowRule(groups=(str(GROUP_OF_USERS),), profiles=("mail",)),
    ),
    groups={"toy": GroupSettings(users=(str(JOINER),))},
)


class Door:
    """A doorman whose listeners are real, and whose dispatcher is the other end of a control socket."""

    def __init__(self, folder: Path) -> None:
        self.peer = PeerCredentials(1, ROOT, ROOT)
        self.placed: list[tuple[int | None, frozenset[str], str]] = []
        self._open = contextlib.ExitStack()
        self.folder = folder
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.dispatcher = Child("dispatcher", lambda _: 0, SUPERVISOR_TO_DISPATCHER, DISPATCHER_TO_SUPERVISOR)
        self.dispatcher.begun(0, ControlSocket(ours, SUPERVISOR_TO_DISPATCHER, DISPATCHER_TO_SUPERVISOR))
        self.end = ControlSocket(theirs, DISPATCHER_TO_SUPERVISOR, SUPERVISOR_TO_DISPATCHER, takes_fds=True)
        self._open.callback(ours.close)
        self._open.callback(theirs.close)
        listeners = {}
        for name in ("consumer", "agent"):
            listener = listeners[name] = self._open.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            listener.bind(str(folder / name))
            listener.listen(64)
        keeper = Child("agent of toy", lambda _: 0, SUPERVISOR_TO_KEEPER, KEEPER_TO_SUPERVISOR)
        self.children = Children(())
        self.doorman = Doorman(
            CONFIGURATION,
            listeners,
            self.children,
            self.dispatcher,
            lambda: (Agent("toy", AGENT, keeper),),
            lambda: None,
        )
        self.doorman.cells = cast(Any, self)

    def admit(
        self, uid: int | None, profiles: frozenset[str], listener: str, sock: socket.socket, peer: object = None
    ) -> None:
        """Take a connection, as the cells do."""
        self.placed.append((uid, profiles, listener))
        sock.close()

    def look(self) -> None:
        """Look for cells, of which there are none."""

    def leave(self) -> None:
        """Do nothing: no connection waits."""

    def connect(self, name: str, uid: int, *groups: int) -> socket.socket:
        """Connect as a user, and let the doorman open."""
        self.peer = PeerCredentials(1, uid, uid, frozenset(groups))
        client = self._open.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        client.connect(str(self.folder / name))
        for _ in self.children.wait():
            pass
        return client

    def introduced(self) -> list[str]:
        """Return the local sockets of the connections that the dispatcher got since the last call."""
        return [cast(Introduction, message).listener for message in iter(self.end.receive, None)]

    def close(self) -> None:
        self.doorman.leave()
        self._open.close()
        self.children.stop()


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    with contextlib.closing(Door(tmp_path)) as made:
        made.dispatcher.has_reported = True
        monkeypatch.setattr(module, "peer_credentials", lambda sock: made.peer)
        yield made


def test_root_and_agents_are_the_dispatchers(door: Door) -> None:
    """On the agents' socket also those whom the supervisor has started, or the configuration names."""
    door.connect("consumer", ROOT)
    for uid in (ROOT, AGENT, JOINER):
        door.connect("agent", uid)
    assert door.introduced() == ["consumer", "agent", "agent", "agent"]
    assert not door.placed


def test_users_have_cells_by_what_rules_give_them(door: Door) -> None:
    """By number and by group; one whom two rules name gets what both give.  Everybody else is a stranger."""
    door.connect("consumer", USER)
    door.connect("consumer", MEMBER, GROUP_OF_USERS)
    door.connect("consumer", USER, GROUP_OF_USERS)
    door.connect("consumer", STRANGER)
    door.connect("consumer", AGENT)
    for uid in (USER, STRANGER):
        door.connect("agent", uid)
    assert door.placed == [
        (USER, frozenset({"web"}), "consumer"),
        (MEMBER, frozenset({"mail"}), "consumer"),
        (USER, frozenset({"web", "mail"}), "consumer"),
        (None, frozenset(), "consumer"),
        (None, frozenset(), "consumer"),
        (None, frozenset(), "agent"),
        (None, frozenset(), "agent"),
    ]
    assert not door.introduced()


def test_a_users_subordinate_numbers_have_his_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member of an allowed group has one cell, and not one for each number that he may take on."""
    ranges = Subordinates([Range(range(100_000, 165_536), MEMBER)])
    monkeypatch.setattr("hsframework.dispatcher.policy.load_subordinates", lambda: ranges)
    with contextlib.closing(Door(tmp_path)) as made:
        monkeypatch.setattr(module, "peer_credentials", lambda sock: made.peer)
        for uid in (MEMBER, 100_000, 100_001):
            made.connect("consumer", uid, GROUP_OF_USERS)
        made.connect("consumer", 100_002)
        assert made.placed == [(MEMBER, frozenset({"mail"}), "consumer")] * 3 + [(None, frozenset(), "consumer")]


def test_connections_wait_for_the_dispatcher(door: Door) -> None:
    """Until it has reported, and while it does not read; users' are passed to cells meanwhile."""
    door.dispatcher.has_reported = False
    door.connect("consumer", ROOT)
    assert not door.introduced()
    door.connect("consumer", USER)
    assert door.placed
    door.dispatcher.has_reported = True
    for _ in range(400):
        door.connect("consumer", ROOT)
    found = len(door.introduced())
    assert 0 < found < 401
    assert door.children.wake_at is None
    door.doorman.look()
    assert found + len(door.introduced()) == 401


def test_what_is_too_much_is_closed_by_another_process(door: Door) -> None:
    """Beyond a number of connections that wait the peer sees the end of its own, and the others wait on."""
    door.dispatcher.has_reported = False
    clients = [door.connect("consumer", ROOT) for _ in range(MOST_WAITING + 1)]
    clients[-1].setblocking(False)
    with pytest.raises(BlockingIOError):
        clients[-1].recv(1)
    door.doorman.look()
    clients[-1].setblocking(True)
    assert clients[-1].recv(1) == b""
    until(lambda: reaped(door.doorman), "the process has been reaped")
    clients[0].setblocking(False)
    with pytest.raises(BlockingIOError):
        clients[0].recv(1)


def test_a_storm_of_connections_costs_no_fork_each_turn(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that are refused soon after others wait for a moment, and are closed together."""
    now = [1000.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    door.dispatcher.has_reported = False
    first = [door.connect("consumer", ROOT) for _ in range(MOST_WAITING + 1)][-1]
    door.doorman.look()
    assert first.recv(1) == b""
    until(lambda: reaped(door.doorman), "the process has been reaped")
    others = [door.connect("consumer", ROOT) for _ in range(3)]
    door.doorman.look()
    for other in others:
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(1)
    now[0] += PAUSE
    door.doorman.look()
    for other in others:
        other.setblocking(True)
        assert other.recv(1) == b""


def reaped(doorman: Doorman) -> bool:
    doorman.look()
    return not doorman._undertaker
