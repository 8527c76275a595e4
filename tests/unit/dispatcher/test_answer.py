"""Answers to READY: an agent that holds no work is asked, too, whether it lives."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.agents.answer import INTERVAL, LOOKS, Answer
from hsframework.dispatcher.agents.connection import AgentConnection, Service
from hsframework.dispatcher.agents.operations import TABLE
from hsframework.dispatcher.keys.trusts import TrustFiles
from hsframework.dispatcher.policy import PeerCredentials, Policy
from hsframework.netlink.messages import encode_error
from hsframework.process.states import process_state
from hsframework.testing import virtual_time
from tests.support.running import until
from tests.support.turned import TurnedLoop
from tests.unit.dispatcher.played import GROUP, Stage, stage

SLEEPS = "import time; time.sleep(3600)"
STOPPED = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
SPINS = "while True: pass"


@contextlib.contextmanager
def process(program: str, state: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a Python program, and wait until it is in this state."""
    with subprocess.Popen([sys.executable, "-c", program]) as started:
        try:
            until(lambda: process_state(started.pid) == state, f"state {state}")
            yield started
        finally:
            started.kill()


@contextlib.asynccontextmanager
async def asked(pid: int) -> AsyncIterator[tuple[Stage, socket.socket, list[AgentConnection]]]:
    """Have an agent of this pid join a group in which a request waits: READY is sent."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    trusts, closed = TrustFiles(), list[AgentConnection]()
    async with stage() as played:
        service = Service(played.dispatcher, Policy(Configuration()), trusts, TABLE, asyncio.get_running_loop())
        made = AgentConnection(ours, PeerCredentials(pid, 0, 0), service, closed.append)
        made.groups.add(GROUP)
        played.dispatcher.joined(made, [GROUP])
        with theirs:
            yield played, theirs, closed
        made.close()
        trusts.close()


@pytest.mark.parametrize(
    ("program", "state", "lives"), [(SLEEPS, "S", False), (STOPPED, "T", False), (SPINS, "R", True)]
)
def test_an_agent_that_does_not_answer(program: str, state: str, lives: bool) -> None:
    """After a second, and not before, it is killed if it sleeps or is stopped; one that runs has too little time."""

    async def body(agent: subprocess.Popen[bytes]) -> None:
        async with asked(agent.pid) as (_, _, closed):
            await asyncio.sleep(INTERVAL * LOOKS - 0.01)
            assert agent.poll() is None
            await asyncio.sleep(0.02)
            assert bool(closed) is not lives
            if not lives:
                assert agent.wait() == -signal.SIGKILL

    with process(program, state) as agent:
        virtual_time.run(body(agent))


@pytest.mark.parametrize("answers", [True, False])
def test_an_agent_that_lives_on(answers: bool) -> None:
    """One that has sent anything since READY, and one whose request another agent has taken."""

    async def body(agent: subprocess.Popen[bytes]) -> None:
        async with asked(agent.pid) as (played, theirs, closed):
            await asyncio.sleep(INTERVAL * LOOKS - 0.01)
            if answers:
                theirs.send(encode_error(0, 1))
            else:
                played.pulled()
            await asyncio.sleep(60)
            assert not closed
            assert agent.poll() is None

    with process(SLEEPS, "S") as agent:
        virtual_time.run(body(agent))


def test_looks_that_come_late_count_from_the_beginning() -> None:
    """This process was stopped itself, and the answer may be there, unread."""
    failed: list[bool] = []
    with process(SLEEPS, "S") as agent:
        loop = TurnedLoop()
        answer = Answer(loop, agent.pid, lambda: True, lambda: failed.append(True))  # type: ignore[arg-type]
        answer.silent, answer.due, answer.timer = 0, INTERVAL, loop.call_at(INTERVAL, answer.look)  # type: ignore[assignment]
        for seconds in (0.25, 0.25, 0.25, 5.0, 0.25, 0.25, 0.25):
            loop.now += seconds
            loop.turn()
        assert not failed
        loop.now += 0.25
        loop.turn()
        assert failed
        answer.close()


def test_a_process_that_is_gone_has_no_state() -> None:
    """Nobody is killed for that."""
    with process(SLEEPS, "S") as gone:
        gone.kill()
        gone.wait()
        assert process_state(gone.pid) == ""
    assert process_state(os.getpid()) == "R"
