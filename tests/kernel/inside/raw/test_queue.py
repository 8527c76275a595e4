"""The queues of the module that offers the raw-netlink form: their groups, order and limits."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hsframework.dispatcher.namespaces import network_namespace
from tests.kernel import raw
from tests.kernel.machine import debian
from tests.kernel.raw import Agent, Outcome, Submission, submitted
from tests.support.running import tcp_pairs, until

EIO = Outcome(errno.EIO)
LISTEN_ALL_NSID = 8

Pair = tuple[socket.socket, socket.socket]


def test_nobody_listens(pair: Pair) -> None:
    """ESRCH at once: without a member, with one of another group, and once the last has left."""
    with Agent(raw.QUIC) as other, Submission() as request:
        for leaving in (False, True):
            if leaving:
                other.join(raw.TLSHD)
                other.leave(raw.TLSHD)
            with pytest.raises(OSError) as refused:
                request.submit(pair[0].fileno())
            assert refused.value.errno == errno.ESRCH
        assert other.hears_nothing


def test_the_limit() -> None:
    """Past it EAGAIN; what is accepted makes room; the parameter can be changed."""
    with Agent(raw.TLSHD) as agent, tcp_pairs(10) as pairs, contextlib.ExitStack() as requests:
        for near, _ in pairs[:8]:
            requests.enter_context(submitted(near))
        with Submission() as one_more:
            with pytest.raises(OSError) as refused:
                one_more.submit(pairs[8][0].fileno())
            assert refused.value.errno == errno.EAGAIN
            agent.take()
            one_more.submit(pairs[8][0].fileno())
        raw.set_limit(9)
        requests.enter_context(submitted(pairs[9][0]))


def test_a_full_group_takes_nothing_from_others(yellow: str) -> None:
    """With TLS at its limit, QUIC's requests are taken up to theirs, and TLS's of another namespace."""
    with contextlib.ExitStack() as opened:
        with network_namespace(yellow):
            opened.enter_context(Agent(raw.TLSHD))
            there = [opened.enter_context(contextlib.closing(end)) for end in socket.socketpair()]
        quic = opened.enter_context(Agent(raw.TLSHD, raw.QUIC))
        pairs = opened.enter_context(tcp_pairs(17))
        for (near, _), protocol in zip(pairs, [raw.TLSHD] * 8 + [raw.QUIC] * 8, strict=False):
            opened.enter_context(submitted(near, protocol=protocol))
        for protocol in (raw.TLSHD, raw.QUIC):
            with Submission() as request, pytest.raises(OSError) as refused:
                request.submit(pairs[16][0].fileno(), protocol=protocol)
            assert refused.value.errno == errno.EAGAIN
        opened.enter_context(submitted(there[0]))
        assert quic.take(raw.QUIC).peer == pairs[8][1].getsockname()


def test_what_is_lent_is_limited() -> None:
    """At the limit nothing is given, whatever waits; an agent that was refused gets READY when there is room."""
    raw.set_limit(2, "lent")
    with Agent(raw.TLSHD) as agent, Agent(raw.QUIC) as other, contextlib.ExitStack() as opened:
        pairs = opened.enter_context(tcp_pairs(4))
        for near, _ in pairs[:3]:
            opened.enter_context(submitted(near))
            agent.await_ready()
        opened.enter_context(submitted(pairs[3][0], protocol=raw.QUIC))
        first = agent.take()
        agent.take()
        assert agent.accept() is None
        assert other.take(raw.QUIC).peer == pairs[3][1].getsockname()
        copy = os.dup(first.fd)
        agent.done(first.fd)
        assert agent.hears_nothing
        os.close(copy)
        agent.await_ready()
        assert agent.take().peer == pairs[2][1].getsockname()


def test_room_is_announced_to_those_who_were_refused() -> None:
    """Once, while something waits; a socket that comes back otherwise is announced to nobody."""
    raw.set_limit(2, "lent")
    with Agent(raw.TLSHD) as agent, contextlib.ExitStack() as opened:
        pairs = opened.enter_context(tcp_pairs(6))
        for near, _ in pairs[:5]:
            opened.enter_context(submitted(near))
            agent.await_ready()
        lent = [agent.take().fd for _ in range(2)]
        agent.let_go(lent.pop())
        assert agent.hears_nothing
        lent.append(agent.take().fd)
        assert agent.accept() is None
        agent.let_go(lent.pop())
        agent.await_ready()
        agent.let_go(lent.pop())
        assert agent.hears_nothing
        lent = [agent.take().fd for _ in range(2)]
        with submitted(pairs[5][0]):
            agent.await_ready()
            assert agent.accept() is None
        agent.let_go(lent.pop())
        assert agent.hears_nothing


def test_urgencies() -> None:
    """The highest first; of equals, the first that came."""
    asked = [0, 3, 7, 3, 0, 7]
    with Agent(raw.TLSHD) as agent, tcp_pairs(len(asked)) as pairs, contextlib.ExitStack() as requests:
        for (near, _), urgency in zip(pairs, asked, strict=True):
            requests.enter_context(submitted(near, urgency=urgency))
        order = [agent.take().peer for _ in asked]
        assert order == [pairs[index][1].getsockname() for index in (2, 5, 1, 3, 0, 4)]
        assert agent.accept() is None


def test_each_group_is_blind_to_the_others() -> None:
    """Agents of three groups and of one by parameter receive their own requests alone, and are given no other."""
    protocols = (raw.TLSHD, raw.QUIC, raw.PSP, 5)
    with contextlib.ExitStack() as opened:
        agents = {protocol: opened.enter_context(Agent(protocol)) for protocol in protocols}
        pairs = opened.enter_context(tcp_pairs(len(protocols)))
        for protocol, (near, _) in zip(protocols, pairs, strict=True):
            opened.enter_context(submitted(near, protocol=protocol))
            agents[protocol].await_ready()
            assert all(agent.hears_nothing for agent in agents.values())
        for protocol, (_, far) in zip(protocols, pairs, strict=True):
            assert agents[protocol].take(protocol).peer == far.getsockname()
            assert agents[protocol].accept(protocol) is None


def test_namespaces(agent: Agent, yellow: str) -> None:
    """A request is its socket's namespace's: agents of another get nothing; the namespace goes when all are done.

    A cable into it shows that: its end here goes with the other.
    """
    debian("ip", "link", "add", "cable", "type", "veth", "peer", "name", "end", "netns", yellow)
    with network_namespace(yellow):
        there = Agent(raw.TLSHD)
        near, far = socket.socketpair()
    with there, near, far, submitted(near) as request:
        assert agent.hears_nothing
        assert agent.accept() is None
        there.await_ready()
        debian("ip", "netns", "delete", yellow)
        got = there.take()
        there.done(got.fd, errno.EACCES)
        assert request.outcome() == Outcome(errno.EACCES)
        assert Path("/sys/class/net/cable").exists()
    until(lambda: not Path("/sys/class/net/cable").exists(), "the namespace is gone")


@pytest.mark.usefixtures("agent")
def test_an_agent_of_another_namespace(yellow: str) -> None:
    """It counts as nobody, ESRCH, also where it would get the announcements of all namespaces; nothing waits."""
    debian("ip", "netns", "set", yellow, "7")  # without an id it would not be heard of here
    with network_namespace(yellow):
        near, far = socket.socketpair()
        of_that = Agent()
    with near, far, of_that, Agent() as everywhere, Submission() as request:
        everywhere.socket.setsockopt(raw.SOL_NETLINK, LISTEN_ALL_NSID, 1)
        everywhere.join(raw.TLSHD)
        for _ in range(2):
            with pytest.raises(OSError) as refused:
                request.submit(near.fileno())
            assert refused.value.errno == errno.ESRCH
        assert of_that.accept() is None


def test_a_full_queue_without_an_agent() -> None:
    """The consumer gets ESRCH all the same: it does not help to try again."""
    with tcp_pairs(9) as pairs, contextlib.ExitStack() as requests:
        with Agent(raw.TLSHD):
            for near, _ in pairs[:8]:
                requests.enter_context(submitted(near))
        with Submission() as request, pytest.raises(OSError) as refused:
            request.submit(pairs[8][0].fileno())
        assert refused.value.errno == errno.ESRCH


def test_an_overrun_costs_nothing(agent: Agent) -> None:
    """A member whose queue is full counts as one: requests are taken, wait, and are all accepted."""
    agent.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    raw.set_limit(64)
    with tcp_pairs(40) as pairs, contextlib.ExitStack() as requests:
        for near, _ in pairs:
            requests.enter_context(submitted(near))
        with Agent() as other:
            for _ in pairs:
                other.take()
            assert other.accept() is None


@pytest.mark.usefixtures("agent")
def test_races() -> None:
    """Consumers that withdraw or wait, and agents that answer or let go, all at once: each request ends once."""
    ended: Counter[int] = Counter()
    stop = threading.Event()

    def consume() -> None:
        with tcp_pairs() as ((near, _),):
            for number in range(300):
                with Submission() as request:
                    try:
                        request.submit(near.fileno(), urgency=number % 8)
                    except OSError as error:
                        assert error.errno == errno.EAGAIN
                        continue
                    if number % 3 == 0:
                        with contextlib.suppress(OSError):
                            request.cancel()
                    elif number % 3 == 1:
                        continue
                    ended[request.outcome().status] += 1

    def serve(letting_go: bool) -> None:
        with Agent() as other:
            while not stop.is_set():
                got = other.accept()
                if got is None:
                    os.sched_yield()
                elif letting_go:
                    other.let_go(got.fd)
                else:
                    other.done(got.fd, errno.EACCES)

    with ThreadPoolExecutor(8) as pool:
        agents = [pool.submit(serve, letting_go) for letting_go in (False, True)]
        consumers = [pool.submit(consume) for _ in range(5)]
        for consumer in consumers:
            consumer.result(60)
        stop.set()
        for served in agents:
            served.result(20)
    assert set(ended) == {errno.EACCES, errno.EIO, errno.ECANCELED}
    with Agent() as other:
        assert other.accept() is None
