"""Child processes: started, kept, ended, and killed when they break the protocol; under every Python there is."""

from __future__ import annotations

import json
import sys
import textwrap
from dataclasses import dataclass
from typing import Any

import pytest

from hsframework.supervisor.child import MOST_MESSAGES
from tests.support.interpreters import interpreters, run_in

BEGIN = """
import asyncio, errno, os, signal, socket
from hsframework.local.control import *
from hsframework.local.control_form import *
from tests.unit.supervisor.children_program import *
"""
EVERY_PYTHON = pytest.mark.parametrize("interpreter", interpreters().values(), ids=interpreters().keys())


@dataclass
class Seen:
    """Output and log of a supervisor."""

    messages: list[str]
    log: list[dict[str, Any]]

    def events(self, event: str, **values: object) -> list[dict[str, Any]]:
        """Return the lines of the log with these values."""
        return [line for line in self.log if {"event": event, **values}.items() <= line.items()]


def supervised(program: str, interpreter: str = sys.executable) -> Seen:
    """Run it to its end; its assertions hold."""
    ended = run_in(interpreter, BEGIN + textwrap.dedent(program))
    assert ended.returncode == 0, ended.stderr
    return Seen(ended.stdout.splitlines(), [json.loads(line) for line in ended.stderr.splitlines()])


@EVERY_PYTHON
def test_children_are_kept(interpreter: str) -> None:
    """They are forked with asyncio imported, which resets the wake-up fd; one that ends is started again and again."""
    seen = supervised(
        """
        def ends(control):
            control.send(WorkerJoined(1).encode())
            return 5
        asked, toy, other = dispatcher(answers), keeper("toy", ends), keeper("other", serves)
        assert run([asked, toy, other], lambda: toy.failures >= 3, asked=asked) is None
        """,
        interpreter,
    )
    assert seen.messages.count("toy WorkerJoined(pid=1)") >= 3
    ended = seen.events("ended and is started again", child="toy", status=5)
    assert [line["pause"] for line in ended[:3]] == [0.0, 0.1, 0.5]
    assert [len(seen.events("started", child=name)) for name in ("dispatcher", "other")] == [1, 1]


@EVERY_PYTHON
@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_the_signals_that_end_it(number: str, interpreter: str) -> None:
    """The whole ends with status 0, and with it every child."""
    seen = supervised(
        f"""
        def signals(control):
            os.kill(os.getppid(), signal.{number})
            return serves(control)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the suite may run where it is ignored
        assert run([keeper("toy", signals), keeper("other", serves)], lambda: False) == 0
        """,
        interpreter,
    )
    assert not seen.events("does not stop and is killed")


def test_an_interrupt_that_is_ignored() -> None:
    """Ends neither the supervisor nor a child: all of them go on with ignoring it."""
    seen = supervised("""
        def signals(control):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            os.kill(os.getppid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            control.send(WorkerJoined(1).encode())
            return 6
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        asked, toy = dispatcher(answers), keeper("toy", signals)
        assert run([asked, toy], lambda: toy.failures, asked=asked) is None
    """)
    assert "toy WorkerJoined(pid=1)" in seen.messages
    assert {line["status"] for line in seen.events("ended and is started again")} == {6}


NONSENSE = {
    "no-json": "control.send(b'no JSON')",
    "a-list": "control.send(b'[]')",
    "deep": "control.send(b'[' * 50_000)",
    "too-long": "control.send(WorkerJoined(1).encode().ljust(MAX_MESSAGE + 1))",
    "unknown": """control.send(b'{"event": "nothing"}')""",
    "wrong-type": """control.send(b'{"event": "loaded", "protocols": 5, "groups": []}')""",
    "the-dispatcher's": "control.send(Known('agent of toy').encode())",
    "flood": f"[control.send(WorkerDied(1, 1).encode()) for _ in range({MOST_MESSAGES + 1})]",
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE.keys())
def test_a_child_that_breaks_the_protocol(nonsense: str) -> None:
    """It is killed, since it may heed nothing else, and started again after pauses; others are served meanwhile."""
    seen = supervised(f"""
        def breaks(control):
            {nonsense}
            stays(control)
        asked, bad = dispatcher(answers), keeper("bad", breaks)
        run([asked, bad], lambda: bad.failures >= 3, asked=asked)
    """)
    broken = seen.events("a child breaks the protocol and is killed", child="bad")
    ended = seen.events("ended and is started again", child="bad", status=-9)
    assert len(ended) >= 3
    assert 0 <= len(broken) - len(ended) <= 1, "one error for each process"
    assert [line["pause"] for line in ended[:3]] == [0.0, 0.1, 0.5]
    assert not seen.events("ended and is started again", child="dispatcher")


def test_a_child_after_one_that_floods() -> None:
    """The messages of a process before it do not count."""
    seen = supervised(f"""
        def floods(control):
            for _ in range({MOST_MESSAGES + 1}):
                control.send(WorkerJoined(1).encode())
            stays(control)
        def talks(control):
            control.send(WorkerJoined(2).encode())
            return 2
        toy = keeper("toy", lambda control: talks(control) if toy.failures else floods(control))
        run([toy], lambda: toy.failures and toy.due is None and not toy.pid)
    """)
    assert seen.messages[-1] == "toy WorkerJoined(pid=2)"
    assert len(seen.events("a child breaks the protocol and is killed")) == 1


def test_a_child_that_closes_its_socket() -> None:
    """It is left alone: its end is what counts."""
    seen = supervised("""
        def closes(control):
            control.send(b"")
            control.close()
            return 5
        toy = keeper("toy", closes)
        run([toy], lambda: toy.failures)
    """)
    assert not seen.events("a child breaks the protocol and is killed")


def test_a_child_that_does_not_read() -> None:
    """A message that it does not take is logged, nobody waits for it, and it is replaced: it has hung."""
    seen = supervised("""
        toy = keeper("toy", stays)
        def full():
            for _ in range(0 if toy.failures else 10_000):
                toy.send(Go())
            return toy.failures
        run([toy], full)
    """)
    assert seen.events("a child does not take a message and is killed", child="toy", message="go")
    assert seen.events("ended and is started again", child="toy", status=-9)


def test_a_child_that_reports_no_more() -> None:
    """It hangs, though it is not stopped: it is killed after the limit, and started again."""
    seen = supervised("""
        def hangs(control):
            control.send(WorkerJoined(1).encode())
            return stays(control)
        toy = keeper("toy", hangs)
        run([toy], lambda: toy.failures, limit=0.5)
    """)
    assert seen.events("does not turn and is killed", child="toy", limit=0.5)
    assert seen.events("ended and is started again", child="toy", status=-9)


def test_last_words() -> None:
    """Messages that a child had sent are read before its end counts, however many."""
    seen = supervised("""
        def ends(control):
            for number in range(20):
                control.send(WorkerJoined(number).encode())
            control.send(Failed("why", 2).encode())
            return 2
        toy = keeper("toy", ends)
        run([toy], lambda: toy.ended)
    """)
    assert len(seen.messages) == 21
    assert seen.messages[-1] == "toy Failed(message='why', status=2)"


def test_a_fork_that_fails() -> None:
    """It is tried again after pauses, and nothing stays open of it."""
    seen = supervised("""
        fork, refused = os.fork, []
        def refuse():
            refused.append(len(os.listdir("/proc/self/fd")))
            if len(refused) == 4:
                os.fork = fork
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        os.fork = refuse
        toy = keeper("toy", serves)
        run([toy], lambda: bool(toy.pid))
        assert len(set(refused)) == 1
    """)
    pauses = [line["pause"] for line in seen.events("cannot be started now", child="toy")]
    assert pauses == [0.0, 0.1, 0.5, 1.0]
    assert len(seen.events("started", child="toy")) == 1


@pytest.mark.parametrize(("status", "essential", "ends"), [(2, True, 2), (2, False, None), (0, False, None)])
def test_a_child_that_is_not_started_again(status: int, essential: bool, ends: int | None) -> None:
    """One with a wrong configuration, or a keeper without work; the dispatcher's status is that of the whole."""
    seen = supervised(f"""
        leaves = (dispatcher if {essential} else lambda start: keeper("toy", start))(lambda control: {status})
        assert run([leaves, keeper("other", serves)], lambda: leaves.ended) == {ends}
        assert leaves.due is None
    """)
    assert len(seen.events("ended and is not started again", status=status)) == 1


@pytest.mark.parametrize("statuses", [(2,), (2, 2), (2, 0), (0, 2)])
def test_no_agent_is_left(statuses: tuple[int, ...]) -> None:
    """The service ends with a status after its last agent has given up for good: it would serve nothing."""
    seen = supervised(f"""
        def ends(status):
            return lambda control: status
        keepers = [keeper(f"toy {{n}}", ends(status)) for n, status in enumerate({statuses})]
        assert run([dispatcher(serves), *keepers], lambda: False) == 2
    """)
    assert len(seen.events("the service ends: no agent is left, and nothing is served")) == 1


def test_all_processes_are_told_to_stop_at_once() -> None:
    """A child that has ended by the supervisor's own signal, as by Ctrl-C, has not died: no warning, no other."""
    seen = supervised("""
        def ends(control):
            # The supervisor goes on once both have happened: it has its signal, and this process has ended.
            supervisor, me = os.getppid(), os.getpid()
            os.kill(supervisor, signal.SIGSTOP)
            os.kill(supervisor, signal.SIGTERM)
            if not os.fork():
                while os.getppid() == me:
                    pass
                os.kill(supervisor, signal.SIGCONT)
                os._exit(0)
            return 7
        assert run([keeper("toy", ends), dispatcher(serves)], lambda: False) == 0
    """)
    assert seen.events("ended", child="toy", status=7)
    assert not seen.events("ended and is started again", child="toy")


def test_an_error_in_a_child() -> None:
    """It is logged by the child, which ends with status 1: with 2 where it is the configuration's."""
    seen = supervised("""
        from hsframework.errors import ConfigurationError
        def fails(error):
            def start(control):
                raise error
            return start
        toy, other = keeper("toy", fails(OSError("no room"))), keeper("other", fails(ConfigurationError("wrong")))
        run([toy, other], lambda: toy.failures and other.ended)
    """)
    assert seen.events("a child cannot go on", child="toy", error="no room", kind="OSError")
    assert seen.events("ended and is started again", child="toy", status=1)
    assert seen.events("ended and is not started again", child="other", status=2)


def test_a_child_that_cannot_be_forked() -> None:
    """The supervisor lives on, tries again, and leaves no descriptor of what failed."""
    seen = supervised("""
        fork, failures = os.fork, [OSError(errno.ENOMEM, "short"), OSError(errno.EAGAIN, "short")]
        before = len(os.listdir("/proc/self/fd"))
        def short():
            if failures:
                raise failures.pop()
            return fork()
        os.fork = short
        def ends(control):
            control.send(WorkerJoined(1).encode())
            return serves(control)
        asked, toy = dispatcher(answers), keeper("toy", ends)
        assert run([toy, asked], lambda: toy.pid and asked.pid and not failures) is None
        assert len(os.listdir("/proc/self/fd")) == before
    """)
    assert len(seen.events("cannot be started now")) == 2
    assert {line["child"] for line in seen.events("started")} == {"dispatcher", "toy"}


def test_a_configuration_that_was_right_before() -> None:
    """In a shortage a file that cannot be read looks like a wrong one: who has reported once is started again."""
    seen = supervised("""
        def fails(control):
            return 2
        known, strange, asked = keeper("known", fails), keeper("strange", fails), dispatcher(answers)
        known.has_reported = True
        assert run([asked, known, strange], lambda: known.failures >= 2 and strange.ended, asked=asked) is None
    """)
    assert seen.events("ended and is started again", child="known", status=2)
    assert seen.events("ended and is not started again", child="strange", status=2)


def test_a_child_that_cannot_be_told() -> None:
    """A message that memory is too short for kills the child, which would wait for it, and another is started."""
    seen = supervised("""
        from hsframework.local import control_socket as module
        module.SEND_TIME = 0.0
        class Short:
            def __init__(self, control):
                self.control = control
            def __getattr__(self, name):
                return getattr(self.control, name)
            def send(self, data, flags):
                raise OSError(errno.ENOBUFS, "short")
        def tells():
            if not toy.ended and toy.control is not None:
                toy.control._socket = Short(toy.control._socket)
                toy.send(Go())
            return toy.ended
        toy = keeper("toy", serves)
        assert run([toy, dispatcher(ready)], tells) is None
    """)
    assert seen.events("a child cannot be told and is killed", child="toy")
    assert seen.events("ended and is started again", child="toy", status=-9)
