"""The dispatcher's end of its control socket."""

from __future__ import annotations

import asyncio
import socket

import pytest
from structlog.testing import capture_logs

from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.control import ControlChannel
from hsframework.dispatcher.policy import PeerCredentials, Policy
from hsframework.errors import RequestRefused
from hsframework.local.control import (
    DISPATCHER_TO_SUPERVISOR,
    SUPERVISOR_TO_DISPATCHER,
    AgentStarted,
    CellCounted,
    FromDispatcher,
    Go,
    Introduction,
    Known,
    Ready,
)

AGENT = PeerCredentials(5, 60_800, 60_800)


class Supervisor:
    """The other end."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.setblocking(False)
        self.policy = Policy(Configuration())
        self.stop = asyncio.Event()
        self.counted: list[CellCounted] = []
        self.channel = ControlChannel(
            theirs, self.policy, {}, self.counted.append, self.stop, loop=asyncio.get_running_loop()
        )

    async def hears(self) -> FromDispatcher:
        """Wait for a message."""
        async with asyncio.timeout(10):
            return DISPATCHER_TO_SUPERVISOR.decode(await asyncio.get_running_loop().sock_recv(self.socket, 65536))

    def close(self) -> None:
        self.socket.close()
        self.channel.close()


async def test_an_agent_is_made_known() -> None:
    """Its user may join its groups by the time that the answer comes."""
    supervisor = Supervisor()
    assert await supervisor.hears() == Ready()
    supervisor.socket.send(SUPERVISOR_TO_DISPATCHER.encode(AgentStarted("agent of toy", AGENT.uid, ("toy",))))
    assert await supervisor.hears() == Known("agent of toy")
    supervisor.policy.check_join(AGENT, "toy")
    supervisor.socket.send(SUPERVISOR_TO_DISPATCHER.encode(AgentStarted("agent of ours", None, ("ours",))))
    assert await supervisor.hears() == Known("agent of ours")
    supervisor.close()


async def test_what_a_keeper_names_anew_replaces_what_it_had() -> None:
    """So a keeper that names other groups at each start costs no more than one that does not."""
    supervisor = Supervisor()
    assert await supervisor.hears() == Ready()
    for number in range(3):
        started = AgentStarted("agent of toy", AGENT.uid, (f"toy {number}",))
        supervisor.socket.send(SUPERVISOR_TO_DISPATCHER.encode(started))
        assert await supervisor.hears() == Known("agent of toy")
    supervisor.policy.check_join(AGENT, "toy 2")
    supervisor.policy.check_restore(AGENT)
    for name in ("toy 0", "toy 1"):
        with pytest.raises(RequestRefused):
            supervisor.policy.check_join(AGENT, name)
    supervisor.close()


async def test_nonsense() -> None:
    """A message that makes no sense is logged, not answered, its file descriptor closed, and the next one counts."""
    supervisor = Supervisor()
    assert await supervisor.hears() == Ready()
    with capture_logs() as log:
        for data in (b"nonsense", Go().encode(), b'{"event": "agent", "name": "toy", "uid": "0", "groups": []}'):
            supervisor.socket.send(data)
        with socket.socket() as passed:
            socket.send_fds(supervisor.socket, [b"{}"], [passed.fileno()])
        supervisor.socket.send(SUPERVISOR_TO_DISPATCHER.encode(AgentStarted("agent of toy", 5, ("toy",))))
        assert await supervisor.hears() == Known("agent of toy")
    assert [line["event"] for line in log] == ["a message of the supervisor is not understood"] * 4
    assert not supervisor.stop.is_set()
    supervisor.close()


async def test_what_cells_count() -> None:
    """It is handed on; a connection without a descriptor, or to a socket of another name, is no message."""
    supervisor = Supervisor()
    assert await supervisor.hears() == Ready()
    counted = CellCounted("toy", (0, 5), (1000, 2000), (11,))
    with capture_logs() as log:
        supervisor.socket.send(SUPERVISOR_TO_DISPATCHER.encode(counted))
        supervisor.socket.send(SUPERVISOR_TO_DISPATCHER.encode(Introduction("consumer")))
        supervisor.socket.send(SUPERVISOR_TO_DISPATCHER.encode(AgentStarted("agent of toy", 5, ("toy",))))
        assert await supervisor.hears() == Known("agent of toy")
    assert supervisor.counted == [counted]
    assert [line["event"] for line in log] == ["a message of the supervisor is not understood"]
    supervisor.close()


async def test_a_supervisor_that_is_gone() -> None:
    """Stops the dispatcher."""
    supervisor = Supervisor()
    supervisor.socket.close()
    async with asyncio.timeout(10):
        await supervisor.stop.wait()
