"""The dispatcher and the agents of the demonstration, as child processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hsframework.errors import HsframeworkError

START_TIMEOUT = 15.0
STOP_TIMEOUT = 5.0
_POLL = 0.01
_LOG_LINES = 12


class DemoError(HsframeworkError):
    """A demonstration that could not be run to its end."""


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """Facts of a process, from ``/proc``."""

    pid: int
    uid: int
    capabilities: int
    """The effective set, one bit for each capability."""


class Service:
    """A child process ``hsframework WORDS``; the end of its output is shown if it fails."""

    def __init__(self, name: str, words: Sequence[str], folder: Path) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "hsframework", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that all its children are found, also those of a process that has ended
            )

    @property
    def pid(self) -> int:
        """Process id of the child itself, which may have children of its own."""
        return self._process.pid

    def check(self) -> None:
        """Raise DemoError with the end of the log if the child has ended."""
        status = self._process.poll()
        if status is not None:
            lines = self._log.read_text(errors="replace").strip().splitlines()[-_LOG_LINES:]
            raise DemoError(f"the {self.name} ended with status {status}: {' | '.join(lines) or 'it said nothing'}")

    def stop(self) -> None:
        """Terminate the child and every process of its session; kill those that do not end in ``STOP_TIMEOUT``."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT)
        end = time.monotonic() + STOP_TIMEOUT
        while (left := _session(self.pid)) and time.monotonic() < end:
            time.sleep(_POLL)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def worker(self) -> ProcessFacts:
        """Return the youngest descendant, which does the work, or the child itself if it has no children."""
        pid = self.pid
        while children := _children(pid):
            pid = children[-1]
        return process_facts(pid)


def process_facts(pid: int) -> ProcessFacts:
    """Read ``/proc/PID/status``.  Raises DemoError if the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        raise DemoError(f"process {pid} is gone") from None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return ProcessFacts(pid, int(fields["Uid"].split()[1]), int(fields["CapEff"], 16))


def _session(number: int) -> list[int]:
    """Return the live processes of a session (setsid(2))."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
            if int(session) == number and state not in "ZX":
                found.append(int(path.parent.name))
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return sorted(found)


async def wait_for_socket(path: Path, service: Service) -> float:
    """Wait until ``path`` exists, and return the seconds that it took.  Raises DemoError."""
    begun = time.monotonic()
    while not os.access(path, os.F_OK):
        service.check()
        if time.monotonic() - begun > START_TIMEOUT:
            raise DemoError(f"the {service.name} did not listen at {path} within {START_TIMEOUT:.0f} s")
        await asyncio.sleep(_POLL)
    return time.monotonic() - begun
