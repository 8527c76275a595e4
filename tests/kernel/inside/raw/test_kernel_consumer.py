"""The greeter, a consumer in the kernel whose mechanism is not TLS, in both dialects of the raw-netlink form."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel import raw
from tests.kernel.genl import attribute, attributes
from tests.kernel.greeter_plugin import PROTOCOL, Greeting
from tests.kernel.raw import Agent
from tests.kernel.raw_published import put, put_u32

TOPIC, GREETING = 64, 65
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(scope="module", autouse=True)
def module(request: pytest.FixtureRequest) -> Iterator[None]:
    """With the greeter on it."""
    with raw.loaded(protocols=5, limit=8), raw.loaded(raw.GREETER, protocol=PROTOCOL):
        yield


@pytest.fixture
def agent() -> Iterator[Agent]:
    """Of the greeter's mechanism."""
    with Agent(PROTOCOL) as made:
        yield made


def test_a_handshake_of_its_own_mechanism(pair: Pair, agent: Agent) -> None:
    """The agent is told the topic, shakes hands on the socket, and says the greeting that the kernel then sends."""
    with Greeting() as greeting:
        greeting.start(pair[0], "dinner")
        agent.await_ready()
        got = agent.take(PROTOCOL)
        assert dict(got.arguments)[TOPIC] == b"dinner\0"
        os.write(got.fd, b"shake? ")
        agent.done(got.fd, further=attribute(GREETING, b"bon appetit\0"))
        assert greeting.status() == 0
    assert pair[1].recv(100) == b"shake? bon appetit"


def test_attributes_of_its_own_in_the_published_dialect(pair: Pair, agent: Agent) -> None:
    """The same numbers, beside the published ones."""
    setting = Path("/proc/sys/net/hsframework_handshake/dialect")
    setting.write_text("1")
    try:
        with Greeting() as greeting:
            greeting.start(pair[0], "dinner")
            answer = dict(agent.ask(raw.ACCEPT, put_u32(raw.PROTOCOL, PROTOCOL)))
            assert attributes(answer[raw.ACCEPT_RESP])[-1] == (TOPIC, b"dinner\0")
            nest = put_u32(26, 0) + put(GREETING, b"mahlzeit\0")
            body = put(raw.SOCKFD, answer[raw.SOCKFD]) + put(raw.DONE_ARGS | raw.NLA_F_NESTED, nest)
            agent.ask(raw.DONE, body, acknowledge=True)
            assert greeting.status() == 0
        assert pair[1].recv(100) == b"mahlzeit"
    finally:
        setting.write_text("0")


def test_its_failures(pair: Pair, agent: Agent) -> None:
    """A refused handshake ends the connection with the agent's status; nothing was sent in plain text."""
    with Greeting() as greeting:
        greeting.start(pair[0])
        agent.done(agent.take(PROTOCOL).fd, errno.EACCES)
        assert greeting.status() == -errno.EACCES
        assert pair[1].recv(100) == b""


def test_its_own_timer(pair: Pair, agent: Agent) -> None:
    """Nobody accepts: the consumer withdraws its request, and an agent that comes late finds none."""
    setting = Path("/sys/module", raw.GREETER, "parameters/timeout_ms")
    before = setting.read_text()
    setting.write_text("1")
    try:
        with Greeting() as greeting:
            assert greeting.start(pair[0]).status() == -errno.ETIMEDOUT
        assert agent.accept(PROTOCOL) is None
    finally:
        setting.write_text(before)


def test_it_goes_with_its_requests(pair: Pair, agent: Agent) -> None:
    """Its data and its module stay while a request lives, also one that is withdrawn while an agent has the socket."""
    connections = Path("/sys/module", raw.GREETER, "parameters/connections")
    greeting = Greeting().start(pair[0])
    got = agent.take(PROTOCOL)
    greeting.close()
    with pytest.raises(AssertionError, match="in use"):
        raw.remove(raw.GREETER)
    assert connections.read_text() == "1\n"
    agent.done(got.fd)
    assert connections.read_text() == "0\n"
    raw.remove(raw.GREETER)
    raw.insert(raw.GREETER, protocol=PROTOCOL)


def test_a_lent_socket_is_none(pair: Pair, agent: Agent) -> None:
    """A consumer that is handed an agent's socket is refused, also when the request of that is over."""
    with Greeting() as greeting:
        greeting.start(pair[0])
        got = agent.take(PROTOCOL)
        with socket.socket(fileno=os.dup(got.fd)) as lent, Greeting() as second:
            agent.done(got.fd)
            with pytest.raises(OSError) as refused:
                second.start(lent)
            assert refused.value.errno == errno.ENOTSOCK


def test_nobody_serves_it(pair: Pair) -> None:
    """ESRCH to whoever hands the connection over, although TLS has an agent."""
    with Agent(raw.TLSHD), Greeting() as greeting, pytest.raises(OSError) as refused:
        greeting.start(pair[0])
    assert refused.value.errno == errno.ESRCH
    assert not select.select([pair[1]], [], [], 0)[0]
