"""The conversation with dispatcher and keepers, without processes: what is sent on which message."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from hsframework.configuration.settings import AgentSettings, Configuration
from hsframework.errors import MessageError
from hsframework.local.control import (
    DISPATCHER_TO_SUPERVISOR,
    KEEPER_TO_SUPERVISOR,
    SUPERVISOR_TO_DISPATCHER,
    SUPERVISOR_TO_KEEPER,
    AgentStarted,
    Failed,
    Go,
    Known,
    Loaded,
    Ready,
    Serving,
    WorkerDied,
    WorkerJoined,
)
from hsframework.local.control_form import Message
from hsframework.local.control_socket import ControlSocket
from hsframework.supervisor.child import AnyChild, Child
from hsframework.supervisor.conversation import Agent, Conversation


class Cast:
    """A dispatcher and the keepers of two plugins, of which only the sockets are there."""

    def __init__(self) -> None:
        self.ends: dict[str, ControlSocket[Any, Any]] = {}
        self.dispatcher = Child("dispatcher", lambda _: 0, SUPERVISOR_TO_DISPATCHER, DISPATCHER_TO_SUPERVISOR)
        self.tls = self._agent("tls13", 100)
        self.toy = self._agent("toy", 200)
        self.conversation = Conversation(
            Configuration(agents={"missing": AgentSettings()}),
            self.dispatcher,
            (self.tls, self.toy),
            ("tls13", "toy", "blocked"),
        )

    def _agent(self, plugin: str, uid: int) -> Agent:
        return Agent(plugin, uid, Child(f"agent of {plugin}", lambda _: 0, SUPERVISOR_TO_KEEPER, KEEPER_TO_SUPERVISOR))

    def start(self, *children: AnyChild) -> None:
        """Act as if these were forked: each has a new control socket."""
        for child in children:
            self.end(child)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            child.control = ControlSocket(ours, child.sends, child.receives)
            self.ends[child.name] = ControlSocket(theirs, child.receives, child.sends)

    def end(self, child: AnyChild) -> None:
        """Act as if it had ended."""
        if child.control is not None:
            child.control.close()
            child.control = None
            self.ends.pop(child.name).close()

    def sent(self, child: AnyChild) -> list[Message]:
        """Return what the supervisor has sent to a child since the last call."""
        return list(iter(self.ends[child.name].receive, None))

    def close(self) -> None:
        for child in (self.dispatcher, self.tls.keeper, self.toy.keeper):
            self.end(child)


@pytest.fixture
def cast() -> Iterator[Cast]:
    structlog.reset_defaults()
    found = Cast()
    found.start(found.dispatcher, found.tls.keeper, found.toy.keeper)
    yield found
    found.close()


TOY = AgentStarted("agent of toy", 200, ("toy",))
TLS = AgentStarted("agent of tls13", 100, ("tls13", "tlshd"))


def test_from_loaded_to_go(cast: Cast) -> None:
    """A keeper that has loaded is made known to the dispatcher, and may start its workers when that is so."""
    cast.conversation.take("agent of toy", Loaded(("toy",), ("toy",)))
    assert cast.sent(cast.dispatcher) == [TOY]
    assert cast.sent(cast.toy.keeper) == []
    cast.conversation.take("dispatcher", Known("agent of toy"))
    assert cast.sent(cast.toy.keeper) == [Go()]
    assert cast.sent(cast.tls.keeper) == []


def test_a_dispatcher_that_is_ready(cast: Cast) -> None:
    """Every agent that has loaded is made known to it: it may be another one than before."""
    cast.conversation.take("agent of toy", Loaded(("toy",), ("toy",)))
    cast.conversation.take("agent of tls13", Loaded(("tls13", "tlshd"), ("tls13",)))
    cast.start(cast.dispatcher)
    assert cast.conversation.granted() == {"toy": {200}, "tls13": {100}, "tlshd": {100}}
    cast.conversation.take("dispatcher", Ready())
    assert cast.sent(cast.dispatcher) == [TLS, TOY]


def test_no_dispatcher(cast: Cast) -> None:
    """A keeper that loads while none runs waits until there is one."""
    cast.end(cast.dispatcher)
    cast.conversation.take("agent of toy", Loaded(("toy",), ("toy",)))
    cast.start(cast.dispatcher)
    assert cast.sent(cast.dispatcher) == []
    cast.conversation.take("dispatcher", Ready())
    assert cast.sent(cast.dispatcher) == [TOY]


def test_groups_that_are_not_granted(cast: Cast) -> None:
    """Groups that are not granted are not passed on, and the log has advice; without any, the keeper goes on."""
    with capture_logs() as log:
        cast.conversation.take("agent of toy", Loaded(("tls13", "tlshd"), ("toy",)))
    assert [(line["child"], line["group"]) for line in log] == [("agent of toy", "tls13"), ("agent of toy", "tlshd")]
    assert cast.sent(cast.dispatcher) == [AgentStarted("agent of toy", 200, ())]


def test_a_keeper_that_loads_twice(cast: Cast) -> None:
    """Breaks the protocol: else it could fill the dispatcher's queue; the next process of it may load again."""
    cast.conversation.take("agent of toy", Loaded(("toy",), ("toy",)))
    with pytest.raises(MessageError, match="sent twice"):
        cast.conversation.take("agent of toy", Loaded(("toy", "other"), ("toy",)))
    assert cast.sent(cast.dispatcher) == [TOY]
    cast.start(cast.toy.keeper)
    cast.conversation.take("agent of toy", Loaded(("toy",), ("toy",)))
    assert cast.sent(cast.dispatcher) == [TOY]


def test_a_keeper_that_has_not_loaded(cast: Cast) -> None:
    """A keeper does not go on by what the dispatcher knows of a process before it, nor a name without an agent."""
    cast.conversation.take("agent of toy", Loaded(("toy",), ("toy",)))
    cast.start(cast.toy.keeper)
    cast.conversation.take("dispatcher", Known("agent of toy"))
    cast.conversation.take("dispatcher", Known("nobody"))
    cast.end(cast.tls.keeper)
    cast.conversation.take("dispatcher", Known("agent of tls13"))
    assert cast.sent(cast.toy.keeper) == []


@pytest.mark.parametrize("message", [WorkerJoined(5), WorkerDied(5, -9), Serving((5,)), Failed("why", 1)])
def test_reports(cast: Cast, message: Any) -> None:
    """A keeper's reports of its workers change nothing."""
    cast.conversation.take("agent of toy", message)
    assert cast.sent(cast.dispatcher) == cast.sent(cast.toy.keeper) == []


def test_tables_that_nobody_reads(cast: Cast) -> None:
    """They are looked for once, when each keeper has loaded or ended."""
    with capture_logs() as log:
        cast.conversation.check_tables()
        cast.conversation.take("agent of toy", Loaded(("toy",), ("toy",)))
        cast.conversation.check_tables()
        assert log == []
        cast.tls.keeper.ended = True
        cast.conversation.check_tables()
        cast.conversation.check_tables()
    assert [(line["event"], line["table"]) for line in log] == [("nobody reads a table", "agents.missing")]
