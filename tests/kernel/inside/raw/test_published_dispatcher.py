"""The published dialect and the dispatcher: what its DONE makes of each outcome, with agents by hand."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.kernel import raw
from tests.kernel.house import dispatcher
from tests.kernel.raw import Outcome, submitted
from tests.kernel.raw_house import QUIC, RAW, SOURCE, Pair, await_joined, dialect
from tests.kernel.scripted import ScriptedAgent
from tests.support.running import Running, short_folder, tcp_pairs, write_configuration

KEYS = struct.pack("=HH8s16s4s8s", 0x0304, 51, b"i" * 8, b"k" * 16, b"s" * 4, bytes(8))
EIO = Outcome(errno.EIO)


@pytest.fixture(scope="module", autouse=True)
def module() -> Iterator[None]:
    """In the published dialect."""
    with raw.published(protocols=4):
        yield


@pytest.fixture(scope="module")
def serving() -> Iterator[Running]:
    """A dispatcher without agents."""
    with dispatcher(RAW) as process:
        yield process


def tls_agent(process: Running) -> ScriptedAgent:
    """Join the group of TLS, of which each request in this dialect has a TLS policy."""
    return ScriptedAgent(process.runtime_dir, tls_policies=True)


def plant(sock: socket.socket) -> None:
    """Plant keys in both directions: the module would take closing the last copy for a success."""
    sock.setsockopt(6, 31, b"tls")
    for direction in (1, 2):
        sock.setsockopt(282, direction, KEYS)


@pytest.mark.parametrize(
    ("status", "heard"),
    [
        (0, 0),
        (errno.EACCES, errno.EACCES),
        (errno.EIO, errno.EIO),
        (errno.ETIMEDOUT, errno.EIO),
        (errno.EKEYREJECTED, errno.EIO),
        (errno.ECONNRESET, errno.EIO),
    ],
)
def test_statuses(serving: Running, pair: Pair, status: int, heard: int) -> None:
    """Success is ok, EACCES rejected, everything else a fault, also where the socket has keys already."""
    with tls_agent(serving) as agent, submitted(pair[0]) as request:
        ((handed, sock),) = agent.accept()
        plant(sock)
        agent.done(handed, status, **{"in-kernel": True} if not status else {})
        assert request.outcome() == Outcome(heard)


def test_a_success_without_keys(serving: Running, pair: Pair) -> None:
    """The agent's word is not enough."""
    with tls_agent(serving) as agent, submitted(pair[0]) as request:
        ((handed, _),) = agent.accept()
        agent.done(handed, 0, **{"in-kernel": True})
        assert request.outcome() == EIO


def test_an_agent_dies_with_the_keys_planted(serving: Running, pair: Pair) -> None:
    """The dispatcher's copy is the last, and its DONE comes before it is closed: EIO, and the connection has ended."""
    with submitted(pair[0]) as request:
        with tls_agent(serving) as agent:
            ((_, sock),) = agent.accept()
            plant(sock)
        assert request.outcome() == EIO
        assert pair[1].recv(1) == b""


def test_an_agent_that_keeps_to_no_policy(serving: Running, pair: Pair) -> None:
    """Gets no TLS request in this dialect, because each has a policy: a fault at once."""
    with ScriptedAgent(serving.runtime_dir) as agent, submitted(pair[0]) as request:
        agent.accept_nothing()
        assert request.outcome() == EIO


def test_another_mechanism(serving: Running, pair: Pair) -> None:
    """Another mechanism is asked in the same words, and its agent must report that the session is in the kernel."""
    with ScriptedAgent(serving.runtime_dir, QUIC) as agent:
        for values, heard in (({"in-kernel": True}, 0), ({}, errno.EIO)):
            with submitted(pair[0], protocol=raw.QUIC) as request:
                ((handed, _),) = agent.accept()
                agent.done(handed, 0, **values)
                assert request.outcome() == Outcome(heard)


def test_a_request_that_is_refused(serving: Running, pair: Pair) -> None:
    """A server's name that no message can hold: a fault at once, and the next request is served."""
    with (
        tls_agent(serving) as agent,
        submitted(pair[0], peername=os.fsdecode(b"caf\xe9.test")) as request,
        submitted(pair[1]) as following,
    ):
        ((handed, _),) = agent.accept()
        agent.done(handed, errno.EACCES)
        assert (request.outcome(), following.outcome()) == (EIO, Outcome(errno.EACCES))


@pytest.mark.parametrize(("accepted_in", "then"), [(1, 0), (0, 1)], ids=["published", "ours"])
def test_a_request_keeps_its_dialect(serving: Running, pair: Pair, accepted_in: int, then: int) -> None:
    """A request keeps its dialect, whatever its namespace has by then; the next one has the new one."""
    expected = {0: Outcome(errno.ETIMEDOUT), 1: EIO}
    with contextlib.ExitStack() as opened:
        agent = opened.enter_context(tls_agent(serving))
        ((near, _),) = opened.enter_context(tcp_pairs())
        opened.enter_context(dialect(accepted_in))
        request = opened.enter_context(submitted(pair[0]))
        ((handed, _),) = agent.accept()
        opened.enter_context(dialect(then))
        following = opened.enter_context(submitted(near))
        ((next_handed, _),) = agent.accept()
        agent.done(handed, errno.ETIMEDOUT)
        agent.done(next_handed, errno.ETIMEDOUT)
        assert (request.outcome(), following.outcome()) == (expected[accepted_in], expected[then])


@pytest.mark.parametrize("accepted_in", [1, 0], ids=["published", "ours"])
def test_a_dispatcher_that_comes_back(pair: Pair, accepted_in: int) -> None:
    """A request that is given back fails by DONE in the dialect that it has, though its keys are planted by then and
    its namespace has the other dialect."""
    with short_folder() as folder, contextlib.ExitStack() as opened:
        words = ("dispatcher", "--config", str(write_configuration(folder, RAW)))
        first = Running(words, folder)
        opened.callback(first.clean_up)
        first.log.wait("the dispatcher is ready")
        agent = opened.enter_context(tls_agent(first))
        await_joined(first)
        with dialect(accepted_in):
            request = opened.enter_context(submitted(pair[0]))
            ((handed, sock),) = agent.accept()
        plant(sock)
        first.clean_up()
        agent.lost()
        opened.enter_context(dialect(1 - accepted_in))
        second = Running(words, folder)
        opened.callback(second.clean_up)
        second.log.wait("the dispatcher is ready")
        assert request.waits
        agent.connect(second.runtime_dir)
        agent.restore(handed, sock, SOURCE)
        assert request.outcome() == EIO
        assert pair[1].recv(1) == b""
        assert not second.log.events("DONE is refused")


def test_the_limit_of_lent_sockets(serving: Running) -> None:
    """ACCEPT is answered with NOTREADY there: the rest waits in the module, and is taken when one is done."""
    raw.set_limit(2, "lent")
    with (
        tls_agent(serving) as agent,
        ScriptedAgent(serving.runtime_dir, QUIC) as other,
        tcp_pairs(6) as pairs,
        contextlib.ExitStack() as opened,
    ):
        requests = [opened.enter_context(submitted(near)) for near, _ in pairs[:5]]
        handed = agent.accept(2)
        # Another group's is not touched by it, and its agent's answer comes after the dispatcher's asking.
        with submitted(pairs[5][0], protocol=raw.QUIC) as further:
            ((number, _),) = other.accept()
            other.done(number, errno.EACCES)
            assert further.outcome() == Outcome(errno.EACCES)
        assert all(request.waits for request in requests)
        for _ in range(4):
            for number, _ in handed:
                agent.done(number, errno.EACCES)
            handed = agent.accept() if any(request.waits for request in requests[2:]) else []
        assert {request.outcome() for request in requests} == {Outcome(errno.EACCES)}


def test_everything_is_killed(pair: Pair) -> None:
    """Without keys the last copy of the socket is a failure, when it goes with the last process."""
    with dispatcher(RAW) as process, tls_agent(process) as agent, submitted(pair[0]) as request:
        agent.accept()
        os.kill(process.pid, signal.SIGKILL)
        agent.close()
        assert request.outcome() == EIO
        process.clean_up()
