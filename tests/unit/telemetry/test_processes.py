"""Use of the machine by processes, as /proc shows it."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from hsframework.telemetry.processes import use_of, use_of_parts


def test_a_process() -> None:
    """Its start is between those of two looks at the clock, and it has memory and the descriptors that it holds."""
    before = time.time()
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        use = use_of(child.pid)
        assert use is not None
        # A tick of the kernel's clock is 10 ms; the clock of the day may be set meanwhile.
        assert before - 1 <= use.started <= time.time() + 1
        assert use.memory > 0
    assert use_of(child.pid) is None


def test_descriptors() -> None:
    """Their number is that of the folder's entries, where the kernel tells it."""
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(10)]
    use = use_of(os.getpid())
    for fd in held:
        os.close(fd)
    assert use is not None
    assert use.fds is None or use.fds >= len(held)


def test_parts() -> None:
    """Processes of one part are added up; one that is gone, or of another namespace (0), is left out."""
    own = os.getpid()
    found = dict(use_of_parts([("agent", "a", own), ("agent", "a", own), ("agent", "b", 0), ("dispatcher", "", own)]))
    assert set(found) == {("agent", "a"), ("dispatcher", "")}
    assert found["agent", "a"].memory > 1.5 * found["dispatcher", ""].memory
