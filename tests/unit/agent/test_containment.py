"""The bounds for plugins, each in a process of its own: they cannot be taken back."""

from __future__ import annotations

import errno
import subprocess
import sys
import textwrap

import pytest

from hsframework.agent.containment import exhaustion

BEGIN = """
import os, subprocess, sys, time
from hsframework.agent.containment import *
from hsframework.process.forks import *
from hsframework.errors import PluginError

def refused(function, *arguments):
    try:
        function(*arguments)
    except PluginError as error:
        return "plugin" in str(error)
    return False
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a new interpreter."""
    words = [sys.executable, "-c", BEGIN + textwrap.dedent(program)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


def succeeds(program: str) -> None:
    """Check that a program's assertions hold."""
    ended = run(program)
    assert ended.returncode == 0, ended.stderr


def test_nobody_forks() -> None:
    """But we ourselves, and in the child it is forbidden again."""
    succeeds("""
        import pty
        forbid_forks()
        assert refused(os.fork) and refused(os.forkpty) and refused(pty.fork)
        subprocess.run(["true"], check=True)
        with our_own_fork():
            child = os.fork()
        if not child:
            os._exit(7 if refused(os.fork) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert refused(os.fork)
    """)


def test_no_program_is_started() -> None:
    """By any of Python's ways."""
    succeeds("""
        forbid_forks()
        forbid_programs()
        assert refused(subprocess.run, ["true"]) and refused(os.system, "true")
        assert refused(os.posix_spawn, "/bin/true", ["true"], {}) and refused(os.execv, "/bin/true", ["true"])
        assert refused(os.popen, "true")
    """)


def test_memory_ends() -> None:
    """MemoryError past the limit; what was given back can be had again; children have the same limit."""
    succeeds("""
        limit_memory(256)
        def take(mebibytes):
            try:
                return bool(bytearray(mebibytes << 20))
            except MemoryError:
                return False
        assert take(100) and not take(300) and take(100)
        child = os.fork()
        if not child:
            os._exit(7 if not take(300) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    """)


def test_time_ends() -> None:
    """The process ends with the status, and says who it was and where; what is ready in time goes on."""
    ended = run("""
        def prepare_for_ever():
            while True:
                try:
                    time.sleep(1000)
                except BaseException:
                    pass

        with limited_time(60, "quick", 5):
            pass
        with limited_time(0.2, "slow", 5):
            prepare_for_ever()
    """)
    assert ended.returncode == 5
    said = ended.stdout + ended.stderr
    assert "slow" in said
    assert "in prepare_for_ever" in said
    assert "quick" not in said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "memory runs out"),
        (OSError(errno.ENOMEM, "x"), "memory runs out"),
        (OSError(errno.EMFILE, "x"), "file descriptors run out"),
        (OSError(errno.ENFILE, "the machine's, not ours"), ""),
        (ValueError(), ""),
    ],
)
def test_exhaustion(error: BaseException, said: str) -> None:
    """The errors that show that a process should be replaced."""
    assert exhaustion(error) == said
