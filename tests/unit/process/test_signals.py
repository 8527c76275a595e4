"""Signals of a process that waits in a selector: each in a process of its own, under every Python of this machine."""

from __future__ import annotations

import sys
import textwrap

import pytest

from tests.support.interpreters import interpreters, run_in

BEGIN = """
import os, select, signal, socket
from hsframework.process.signals import *

def come(signals):
    select.select([signals], [], [])
    return signals.take()
"""
EVERY_PYTHON = pytest.mark.parametrize("interpreter", interpreters().values(), ids=interpreters().keys())


def succeeds(program: str, interpreter: str = sys.executable) -> None:
    """Check that a program's assertions hold."""
    ended = run_in(interpreter, BEGIN + textwrap.dedent(program))
    assert ended.returncode == 0, ended.stderr


@EVERY_PYTHON
def test_a_child_leaves_after_its_libraries(interpreter: str) -> None:
    """The child closes the socket although asyncio has reset the wake-up fd at the fork, and the parent goes on."""
    succeeds(
        """
        import asyncio
        signals = SignalPipe((signal.SIGTERM,))
        before = len(os.listdir("/proc/self/fd"))
        with signals.held():
            pid = os.fork()
            if not pid:
                signals.leave()
                left = len(os.listdir("/proc/self/fd"))
                os._exit(0 if left == before - 2 and signal.set_wakeup_fd(-1) == -1 else 1)
        assert os.waitpid(pid, 0)[1] == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert come(signals) == {signal.SIGTERM}
        """,
        interpreter,
    )


@EVERY_PYTHON
def test_a_signal_for_a_child_that_was_just_forked(interpreter: str) -> None:
    """It waits until the child has its own handlers; the parent's never have it there."""
    succeeds(
        """
        signals = SignalPipe((signal.SIGTERM,))
        with signals.held():
            pid = os.fork()
            if not pid:
                os.kill(os.getpid(), signal.SIGTERM)
                signals.leave()
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
        assert signals.take() == frozenset()
        """,
        interpreter,
    )


@EVERY_PYTHON
@pytest.mark.parametrize(
    "reset",
    [
        "signal.set_wakeup_fd(-1)",
        "signal.set_wakeup_fd(other.fileno())",
        "signal.signal(signal.SIGTERM, lambda *_: None)",
    ],
)
def test_a_library_that_resets(reset: str, interpreter: str) -> None:
    """The wake-up fd or the handler: the other one still reports."""
    succeeds(
        f"""
        other = socket.socket()
        signals = SignalPipe((signal.SIGTERM,))
        other.setblocking(False)
        {reset}
        os.kill(os.getpid(), signal.SIGTERM)
        assert come(signals) == {{signal.SIGTERM}}
        assert signals.take() == frozenset()
        """,
        interpreter,
    )


def test_more_signals_than_the_socket_takes() -> None:
    """One that came when the socket was full is reported all the same, and Python writes no warning."""
    succeeds("""
        signals = SignalPipe((signal.SIGTERM, signal.SIGUSR1))
        for _ in range(2000):
            signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)
        assert come(signals) == {signal.SIGTERM, signal.SIGUSR1}
        assert signals.take() == frozenset()
    """)


def test_the_signals_of_others() -> None:
    """The wake-up fd brings every number that has a handler; only those that were named are reported."""
    succeeds("""
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signals = SignalPipe((signal.SIGTERM,))
        signal.raise_signal(signal.SIGUSR1)
        assert come(signals) == frozenset()
    """)


def test_a_mask_that_was_inherited() -> None:
    """A program that was started with SIGTERM blocked is ended by it all the same."""
    succeeds("""
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
        signals = SignalPipe((signal.SIGTERM,))
        signal.raise_signal(signal.SIGTERM)
        assert come(signals) == {signal.SIGTERM}
    """)


def test_closing() -> None:
    """Nothing stays open, a signal does nothing, and the wake-up fd of another library is left to it."""
    succeeds("""
        before = len(os.listdir("/proc/self/fd"))
        signals = SignalPipe((signal.SIGTERM,))
        signals.close()
        assert len(os.listdir("/proc/self/fd")) == before
        signal.raise_signal(signal.SIGTERM)
        assert signal.set_wakeup_fd(-1) == -1
        signals = SignalPipe((signal.SIGTERM,))
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno())
        signals.close()
        assert signal.set_wakeup_fd(-1) == theirs.fileno()
    """)


@pytest.mark.parametrize(
    ("handler", "expected"),
    [("SIG_IGN", "SIGTERM"), ("SIG_DFL", "SIGTERM, signal.SIGINT"), ("default_int_handler", "SIGTERM, signal.SIGINT")],
)
def test_which_signals_end_a_process(handler: str, expected: str) -> None:
    """SIGINT does not when it is ignored."""
    succeeds(f"""
        signal.signal(signal.SIGINT, signal.{handler})
        assert stop_signals() == (signal.{expected},)
    """)


def test_children_can_be_waited_for() -> None:
    """Also where SIGCHLD is ignored, so that the kernel reaps them."""
    succeeds("""
        def child():
            if not (pid := os.fork()):
                os._exit(7)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            child()
        except ChildProcessError:
            expect_children()
            assert child() == 7
        else:
            raise AssertionError
    """)
