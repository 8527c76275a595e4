"""Outcomes that no dispatcher has read: they are the next one's to report, and each request is completed once."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from hsframework.process.states import process_state
from tests.kernel import raw
from tests.kernel.house import End, dispatcher
from tests.kernel.machine import load
from tests.kernel.raw import Outcome, submitted
from tests.kernel.raw_house import CLIENT, RAW, SOURCE, Pair, await_joined, peer_context, talk
from tests.kernel.scripted import ScriptedAgent
from tests.support.running import Running, children, only, short_folder, sockets, tcp_pairs, until, write_configuration

ALERT = 21
"""Content type of a TLS record (RFC 8446 section 5.1)."""
FORMS = pytest.mark.parametrize("form", [raw.RAW, raw.KERNEL_TLS], ids=["raw", "the kernel's own"])


@pytest.fixture(scope="module", autouse=True)
def module() -> Iterator[None]:
    load("tls")
    with raw.loaded(protocols=4):
        yield


@pytest.fixture(autouse=True)
def left_nothing() -> Iterator[None]:
    """Close after each test what it has left open."""
    with raw.returned():
        yield


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A consumer's socket and its peer."""
    with tcp_pairs() as (made,):
        yield made


class Apart:
    """A dispatcher that can be stopped, killed and replaced, and an agent of TLS that is not its child's child."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        folder = stack.enter_context(short_folder())
        lines = End(CLIENT).lines(folder, "kernel-client")
        self._file = write_configuration(folder, only("tls13") + "\n".join([RAW, *lines]))
        self._folder = folder
        self._stack = stack
        self.dispatcher = self._started("dispatcher")
        self.agent = self._started("agent", "tls13")
        self.agent.log.wait("joined", protocol="tls13")
        for source in ("kernel", SOURCE):
            await_joined(self.dispatcher, source=source)

    def _started(self, *words: str) -> Running:
        made = Running((*words, "--config", str(self._file)), self._folder)
        self._stack.callback(made.clean_up)
        return made

    def worker(self) -> int:
        (worker,) = children(self.agent.pid)
        return worker

    def replace_dispatcher(self) -> None:
        """Kill the dispatcher, and start another one."""
        self.dispatcher.clean_up()
        self.dispatcher = self._started("dispatcher")


@pytest.fixture
def apart() -> Iterator[Apart]:
    with contextlib.ExitStack() as stack:
        made = Apart(stack)
        yield made
        print(made.dispatcher.log.text, made.agent.log.text)


def await_alert(sock: socket.socket) -> None:
    """Read records until an alert has come."""
    sock.settimeout(20)
    with sock.makefile("rb") as stream:
        while stream.read(3)[0] != ALERT:
            stream.read(int.from_bytes(stream.read(2)))


@FORMS
def test_a_dispatcher_dies_before_it_has_read_a_success(apart: Apart, pair: Pair, form: int) -> None:
    """It stands still while the agent ends the handshake, and is killed: the consumer has its session all the same."""
    before = len(sockets(apart.worker()))
    with submitted(pair[0], auth=raw.X509, peername="server.test", service=form) as request:
        until(lambda: len(sockets(apart.worker())) > before, "the agent has the request in hand")
        os.kill(apart.dispatcher.pid, signal.SIGSTOP)
        pair[1].settimeout(20)
        context = peer_context(apart.dispatcher.folder, server=True)
        with context.wrap_socket(pair[1].dup(), server_side=True) as session:
            until(lambda: process_state(apart.worker()) == "S", "the agent has sent what it has to say")
            assert request.waits
            apart.replace_dispatcher()
            outcome = request.outcome()
            assert (outcome.status, len(outcome.peers)) == (0, 1)
            session.sendall(b"from OpenSSL")
            talk(pair[0])
            assert session.recv(100) == b"from the consumer"
    until(lambda: len(sockets(apart.worker())) == before, "the agent has let go of the socket")


@FORMS
def test_a_dispatcher_dies_before_it_has_read_a_failure(apart: Apart, pair: Pair, form: int) -> None:
    """The next one reports it, as the agent has found it."""
    before = len(sockets(apart.worker()))
    with submitted(pair[0], auth=raw.X509, peername="server.test", service=form) as request:
        until(lambda: len(sockets(apart.worker())) > before, "the agent has the request in hand")
        os.kill(apart.dispatcher.pid, signal.SIGSTOP)
        pair[1].sendall(b"\x16\x03\x03\x00\x04\x7f\x00\x00\x00")
        await_alert(pair[1])
        until(lambda: process_state(apart.worker()) == "S", "the agent has sent what it has to say")
        assert request.waits
        apart.replace_dispatcher()
        assert request.outcome() == Outcome(errno.EPROTO)


@FORMS
def test_an_outcome_that_the_kernel_has_had(pair: Pair, form: int) -> None:
    """Given back a second time it changes nothing: not the first request's end, and not the next one on the socket."""
    source = SOURCE if form == raw.RAW else "kernel"
    with dispatcher(RAW) as process, ScriptedAgent(process.runtime_dir) as agent:
        await_joined(process, source=source)
        with submitted(pair[0], service=form) as request:
            ((handed, sock),) = agent.accept()
            kept = socket.socket(fileno=os.dup(sock.fileno()))
            agent.done(handed, errno.EACCES)
            assert request.outcome() == Outcome(errno.EACCES)
        with kept, submitted(pair[0]) as following:
            ((second, _),) = agent.accept()
            agent.restore(handed, kept, source)
            assert following.waits
            agent.done(second, errno.EKEYREJECTED)
            assert following.outcome() == Outcome(errno.EKEYREJECTED)
        assert not process.log.events("DONE is refused")
