"""Memory that is short: every allocation within a submit, an ACCEPT, a DONE and a close fails once."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel import raw
from tests.kernel.raw import Agent, Outcome, Submission, submitted
from tests.support.running import tcp_pairs

Pair = tuple[socket.socket, socket.socket]
EIO = Outcome(errno.EIO)
SETTINGS = Path("/sys/kernel/debug/failslab")


class Failing:
    """The n-th allocation of this thread in the kernel fails, from 1 on, until a run in which none did."""

    def __init__(self) -> None:
        self._fd = os.open("/proc/thread-self/fail-nth", os.O_RDWR | os.O_CLOEXEC)
        self._over = False

    def rounds(self) -> Iterator[int]:
        """Count until :meth:`allocation` has failed nothing."""
        number = 0
        while not self._over:
            number += 1
            yield number

    @contextlib.contextmanager
    def allocation(self, number: int) -> Iterator[None]:
        """Let the allocation of that number fail within the block."""
        os.pwrite(self._fd, b"%d" % number, 0)
        try:
            yield
        finally:
            self._over = os.pread(self._fd, 16, 0).strip() != b"0"
            os.pwrite(self._fd, b"0", 0)

    def close(self) -> None:
        """Let none fail any longer."""
        os.close(self._fd)


@pytest.fixture
def failing() -> Iterator[Failing]:
    before = {name: (SETTINGS / name).read_text() for name in ("ignore-gfp-wait", "verbose")}
    (SETTINGS / "ignore-gfp-wait").write_text("N")
    (SETTINGS / "verbose").write_text("0")
    with contextlib.closing(Failing()) as made:
        yield made
    for name, value in before.items():
        (SETTINGS / name).write_text(value)


def test_submit(pair: Pair, agent: Agent, failing: Failing) -> None:
    """ENOMEM, and nothing is left of the request: the next one on the socket is served."""
    before = raw.users()
    refused = 0
    for number in failing.rounds():
        with Submission() as request:
            try:
                with failing.allocation(number):
                    request.submit(pair[0].fileno())
            except OSError as error:
                assert error.errno in (errno.ENOMEM, errno.ENOBUFS)
                refused += 1
                assert agent.accept() is None
                request.submit(pair[0].fileno())
            agent.done(agent.take().fd)
            assert request.outcome() == Outcome(0)
        assert raw.users() == before
    assert refused > 3


def test_accept(pair: Pair, agent: Agent, failing: Failing) -> None:
    """The request is handed over, waits on, or has ended with EIO; it is not lent to nobody."""
    before = raw.users()
    lost = 0
    for number in failing.rounds():
        with submitted(pair[0], peername="server.example") as request:
            got = None
            with contextlib.suppress(OSError), failing.allocation(number):
                got = agent.accept()
            if got is None and request.waits:  # the message was not sent
                got = agent.take()
            if got is None:
                assert request.outcome() == EIO
                lost += 1
            else:
                agent.done(got.fd)
                assert request.outcome() == Outcome(0)
        assert raw.users() == before
    assert lost > 3


def test_nothing_waits(agent: Agent, failing: Failing) -> None:
    """An ACCEPT that cannot be answered is ENOMEM or ENOBUFS."""
    failed = 0
    for number in failing.rounds():
        try:
            with failing.allocation(number):
                assert agent.accept() is None
        except OSError as error:
            assert error.errno in (errno.ENOMEM, errno.ENOBUFS)
            failed += 1
    assert failed
    assert agent.accept() is None


def test_done(pair: Pair, agent: Agent, failing: Failing) -> None:
    """It ends its request, or is refused and can be said again."""
    for number in failing.rounds():
        with submitted(pair[0]) as request:
            got = agent.take()
            try:
                with failing.allocation(number):
                    agent.done(got.fd, errno.EACCES)
            except OSError:
                if request.waits:
                    agent.done(got.fd, errno.EACCES)
            assert request.outcome() == Outcome(errno.EACCES)


def test_closing(failing: Failing) -> None:
    """Room at the limit of lent sockets that cannot be announced is announced when the next of them comes back."""
    raw.set_limit(2, "lent")
    silent = 0
    with Agent(raw.TLSHD) as agent:
        for number in failing.rounds():
            with contextlib.ExitStack() as opened:
                pairs = opened.enter_context(tcp_pairs(3))
                for near, _ in pairs:
                    opened.enter_context(submitted(near))
                    agent.await_ready()
                lent = [agent.take().fd for _ in range(2)]
                assert agent.accept() is None
                with failing.allocation(number):
                    agent.let_go(lent.pop())
                if agent.hears_nothing:
                    silent += 1
                    agent.let_go(lent.pop())
                agent.await_ready()
                while lent:
                    agent.let_go(lent.pop())
            while not agent.hears_nothing:
                agent.await_ready()
    assert silent
