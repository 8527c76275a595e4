"""Flow control: whatever consumers and agents do, and in whatever order processes run, nobody waits in a circle.

The dispatcher and all channels are the real ones, over real sockets with room for a few packets.  Each process has a
loop of its own, which is turned when the state machine says so: one that is not turned is stopped.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from itertools import count
from typing import Any, cast

import pytest
from hypothesis import Phase, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from hsframework.configuration.settings import Configuration, Limits, Timeouts
from hsframework.dispatcher.agents.connection import AgentConnection, Service
from hsframework.dispatcher.agents.operations import TABLE
from hsframework.dispatcher.keys.trusts import TrustFiles
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.policy import PeerCredentials, Policy
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.sources.consumers import ConsumerConnection, LocalSource
from hsframework.local.channel import AsyncChannel, PacketChannel
from hsframework.netlink.messages import NLM_F_ACK, encode_error
from tests.support.house import REQUEST, codec
from tests.support.turned import TurnedLoop

HIGH_WATER = 3
BATCH = 4
ASKED = 2
BUFFER = 2048
"""Bytes of a send buffer: the kernel's least, enough for about five packets."""

_ROUNDS = 10_000


class Process:
    """A consumer or an agent: its loop, and its end of the link to the dispatcher."""

    holds_back = False

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self.loop = TurnedLoop()
        self.alive = True
        self.numbers = count(1)
        loop = cast("asyncio.AbstractEventLoop", self.loop)
        self.channel = AsyncChannel(sock, self.heard, lambda _: self.die(), loop=loop, holds_back=self.holds_back)

    def heard(self, data: bytes, fd: int | None) -> None:
        raise NotImplementedError

    def send(self, operation: str, values: dict[str, Any], fd: int | None = None) -> int:
        number = next(self.numbers)
        self.channel.send(codec.encode(operation, values, sequence=number), fd)
        return number

    def die(self) -> None:
        self.alive = False
        self.channel.close()


class Consumer(Process):
    """A program: it asks for as many handshakes as it likes."""

    def __init__(self, sock: socket.socket) -> None:
        self.pending: set[int] = set()
        super().__init__(sock)

    def heard(self, data: bytes, fd: int | None) -> None:
        # A second answer to one submit raises KeyError.
        self.pending.remove(codec.decode(data).sequence)

    def submit(self, fd: int) -> None:
        self.pending.add(self.send("submit", REQUEST, fd))

    def cancel(self) -> None:
        for number in list(self.pending):
            self.send("cancel", {"request-id": number})


class Agent(Process):
    """A worker that behaves: it acknowledges, asks within its window, and ends what it has in hand at its leisure."""

    def __init__(self, sock: socket.socket) -> None:
        self.in_hand: set[int] = set()
        self.asked: set[int] = set()
        self.round: int | None = None
        self.left = 0
        super().__init__(sock)
        self.send("join", {"group": ["toy"], "protocol": "toy", "agent": "model"})

    def heard(self, data: bytes, fd: int | None) -> None:
        message = codec.decode(data)
        if fd is not None:
            os.close(fd)
        if message.operation == "ready":
            self._begin_round()
        elif message.operation == "accept":
            self.in_hand.add(message.values["request-id"])
            self.left -= 1
            if not self.left:
                self.round = None
                self._begin_round()
        elif message.operation == "cancel":
            self.in_hand.discard(message.values["request-id"])
            assert message.flags & NLM_F_ACK
            self.channel.send(encode_error(0, message.sequence))
        elif message.operation == "psk-lookup" or message.sequence in self.asked:
            self.asked.remove(message.sequence)
        elif message.error == errno.EAGAIN and message.sequence == self.round:
            self.round = None

    def _begin_round(self) -> None:
        if self.round is None:
            self.left = BATCH
            self.round = self.send("accept", {"group": "toy", "count": BATCH})

    def ask(self) -> None:
        for number in list(self.in_hand)[: ASKED - len(self.asked)]:
            self.asked.add(self.send("psk-lookup", {"request-id": number, "identity": b"nobody"}))

    def work(self) -> None:
        for number in list(self.in_hand):
            self.in_hand.remove(number)
            self.send("done", {"request-id": number, "status": errno.EACCES})


class Flow(RuleBasedStateMachine):
    """The dispatcher, two consumers at most that are alive, and two agents."""

    @initialize()
    def begin(self) -> None:
        self.high_water, PacketChannel.HIGH_WATER = PacketChannel.HIGH_WATER, HIGH_WATER
        self.loop = TurnedLoop()
        loop = cast("asyncio.AbstractEventLoop", self.loop)
        configuration = Configuration(
            timeouts=Timeouts(client=3000, server=3000, maximum=3600), limits=Limits(per_consumer=40)
        )
        self.dispatcher = Dispatcher(configuration, loop=loop)
        self.trusts, policy = TrustFiles(), Policy(configuration)
        self.service = Service(self.dispatcher, policy, self.trusts, TABLE, loop)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind("")
        listener.listen()
        self.local = LocalSource(self.dispatcher, policy, Vault(configuration), listener, configuration, loop=loop)
        self.consumers: list[Consumer] = []
        self.agents: list[Agent] = []
        self.opened: list[AgentConnection | ConsumerConnection] = []
        self.connect_agent()
        self.connect_consumer()

    def living(self) -> list[Process]:
        return [each for each in (*self.consumers, *self.agents) if each.alive]

    @rule()
    @precondition(lambda self: sum(each.alive for each in self.agents) < 2)
    def connect_agent(self) -> None:
        ours, theirs = self._link()
        self.opened.append(AgentConnection(ours, self._peer(), self.service, lambda _: None))
        self.agents.append(Agent(theirs))

    @rule()
    @precondition(lambda self: sum(each.alive for each in self.consumers) < 2)
    def connect_consumer(self) -> None:
        ours, theirs = self._link()
        self.opened.append(ConsumerConnection(self.local, ours, self._peer()))
        self.consumers.append(Consumer(theirs))

    @rule(turns=st.integers(1, 20))
    def dispatcher_runs(self, turns: int) -> None:
        for _ in range(turns):
            self.loop.turn()

    @rule(which=st.integers(0, 3), turns=st.integers(1, 20))
    def another_runs(self, which: int, turns: int) -> None:
        for process in self.living()[which : which + 1]:
            for _ in range(turns):
                process.loop.turn()

    @rule(which=st.integers(0, 1), number=st.integers(1, 30))
    def floods(self, which: int, number: int) -> None:
        for consumer in [each for each in self.consumers if each.alive][which : which + 1]:
            for _ in range(number):
                ours, theirs = socket.socketpair()
                with ours, theirs:
                    consumer.submit(ours.fileno())

    @rule(which=st.integers(0, 1))
    def withdraws_all(self, which: int) -> None:
        for consumer in [each for each in self.consumers if each.alive][which : which + 1]:
            consumer.cancel()

    @rule(which=st.integers(0, 1), what=st.sampled_from(["ask", "work"]))
    def agent_acts(self, which: int, what: str) -> None:
        for agent in [each for each in self.agents if each.alive][which : which + 1]:
            agent.work() if what == "work" else agent.ask()

    @rule(which=st.integers(0, 3))
    def one_dies(self, which: int) -> None:
        for process in self.living()[which : which + 1]:
            process.die()

    def teardown(self) -> None:
        """Let every process run: all comes to an end by itself, with one answer for each submit and nothing queued."""
        if not hasattr(self, "loop"):
            return
        try:
            if not any(agent.alive for agent in self.agents):
                self.connect_agent()
            self._settle()
            for process in self.living():
                assert not process.channel._queue
            assert not any(each.pending for each in self.consumers if each.alive)
            assert not any(each.asked for each in self.agents if each.alive)
            assert not self.dispatcher.requests
        finally:
            self._close()

    def _settle(self) -> None:
        quiet = 0
        for _ in range(_ROUNDS):
            moved = self.loop.turn()
            for process in self.living():
                moved = process.loop.turn() or moved
            for agent in self.agents:
                if agent.alive and agent.in_hand:
                    moved = True
                    agent.work()
            quiet = 0 if moved else quiet + 1
            if quiet > 2:
                return
        raise AssertionError("it never comes to rest")

    def _close(self) -> None:
        PacketChannel.HIGH_WATER = self.high_water
        for process in self.living():
            process.die()
        for opened in self.opened:
            opened.close()
        self.local.close()
        self.dispatcher.stop()
        self.trusts.close()
        self.dispatcher.close()

    def _link(self) -> tuple[socket.socket, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        return ours, theirs

    def _peer(self) -> PeerCredentials:
        return PeerCredentials(os.getpid(), 0, 0)


def test_no_state_is_stuck() -> None:
    """All that live come to rest with one answer for each question, after any steps before."""
    run_state_machine_as_test(Flow, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))


def test_two_ends_that_hold_back_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model finds the circle in which consumers and agents, too, leave a peer unread that does not read."""
    monkeypatch.setattr(Process, "holds_back", True)
    with pytest.raises(AssertionError, match=r"_queue|pending|asked|requests"):
        run_state_machine_as_test(
            Flow,
            settings=settings(
                max_examples=300, stateful_step_count=40, deadline=None, database=None, phases=[Phase.generate]
            ),
        )
