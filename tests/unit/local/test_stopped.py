"""Children that are stopped: found, and told from those that a pause of the whole machine has stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator

from hsframework.local.stopped import LIMIT, StoppedChildren, is_stopped
from tests.support.running import until

LOOK = LIMIT / 4


@contextlib.contextmanager
def children(number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(subprocess.Popen(["sleep", "3600"])) for _ in range(number)]
        try:
            yield started
        finally:
            for child in started:
                child.kill()


def change(child: subprocess.Popen[bytes], number: int) -> None:
    child.send_signal(number)
    until(lambda: is_stopped(child.pid) == (number == signal.SIGSTOP), "the signal has arrived")


def test_one_that_stays_stopped() -> None:
    """It is found after the limit, once, and the one that runs is not."""
    with children(2) as (runs, stands):
        both = [("runs", runs.pid), ("stands", stands.pid)]
        stopped: StoppedChildren[str] = StoppedChildren()
        assert stopped.look(both, 100.0) == []
        assert stopped.look_at is None
        change(stands, signal.SIGSTOP)
        now, looks = 200.0, list[str]()
        while not looks:
            looks = stopped.look(both, now)
            assert looks or stopped.look_at == now + LOOK
            now += LOOK
        assert looks == ["stands"]
        assert LIMIT < now - 200.0 <= LIMIT + 3 * LOOK
        assert stopped.look_at is None


def test_one_that_is_continued() -> None:
    """Its time begins anew when it is stopped again."""
    with children(1) as (child,):
        one = [("one", child.pid)]
        stopped: StoppedChildren[str] = StoppedChildren()
        for number in range(20):
            change(child, signal.SIGSTOP if number % 2 else signal.SIGCONT)
            assert stopped.look(one, number * LOOK) == []


def test_a_pause_of_everybody() -> None:
    """The parent, which did not run itself for five seconds, gives its children the whole time again."""
    with children(1) as (child,):
        one = [("one", child.pid)]
        stopped: StoppedChildren[str] = StoppedChildren()
        change(child, signal.SIGSTOP)
        for now in (0.0, LOOK, 5.0, 5.0 + LOOK):
            assert stopped.look(one, now) == []
        change(child, signal.SIGCONT)
        assert stopped.look(one, 5.0 + 2 * LOOK) == []
        assert stopped.look_at is None


def test_no_child() -> None:
    """A process that is no child, or has been reaped, is not stopped."""
    with children(1) as (child,):
        child.kill()
        child.wait()
        assert not is_stopped(child.pid)
    assert not is_stopped(os.getpid())
