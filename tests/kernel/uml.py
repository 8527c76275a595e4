"""The test kernel as a program: boot it, run one command in it, get output and exit code whole.

Linux runs in User-Mode Linux, as a process of this user on this machine, with the machine's files (read-only) as its
root: the checkout and its virtual environment are there as they are.  :mod:`tests.kernel.init` is its process 1 and
says what else is where.  Nothing of a boot is left behind: its memory is an unlinked file, its scratch files a
temporary directory.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kernel import mconsole

CHECKOUT = Path(__file__).resolve().parents[2]
BUILT = CHECKOUT / "build" / "kernel"
TIMEOUT = 300.0
"""Seconds until a boot that makes no progress counts as hung."""
MEMORY = "8G"
"""Pages that are never touched cost the host nothing.  The kernel's limit of pending handshakes grows with it."""
MOST_TEXT = 1 << 20
"""Bytes of a log that a report has: one that is short of memory fills it by the gigabyte."""
POLL = 0.02
_PASSED_ON = ("CI", "FUZZ_SECONDS", "HYPOTHESIS_PROFILE", "LANG", "PYTHONPATH")


class Unavailable(Exception):
    """There is no test kernel on this machine; the text says how to get it."""


class KernelFailed(Exception):
    """The kernel hung or died before the command was through.  The text has the command's output and the kernel's
    log."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of the command.  ``console`` is the kernel's log."""

    exit_code: int
    output: str
    console: str


def unavailable() -> str | None:
    """Return the reason why there is no test kernel here, or None."""
    if not all((BUILT / name).exists() for name in ("linux", "modules", "root")):
        return "the test kernel is not built; `make kernel` does it (about ten minutes, once a machine)"
    return None


def _host_directories() -> list[str]:
    """Return what the command needs of the host, wherever it is."""
    needed = {CHECKOUT, Path(sys.prefix), Path(sys.base_prefix)}
    needed.update(Path(entry) for entry in sys.path if entry and Path(entry).is_dir())
    needed.update(module.resolve().parent for module in (BUILT / "ko").glob("*.ko"))
    found = sorted({path.absolute() for path in needed})
    return [str(path) for path in found if not any(path != other and path.is_relative_to(other) for other in found)]


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/tmp",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/hypothesis",
        **passed_on,
        **extra,
    }


def scratch_memory(exchange: Path, size: int) -> Path:
    """Return the place for the kernel's memory: in RAM if the machine has the room there, else on disk."""
    shared = Path("/dev/shm")
    if shared.is_dir():
        room = os.statvfs(shared)
        if room.f_bavail * room.f_frsize >= size and not room.f_flag & os.ST_NOEXEC:
            return shared
    return exchange


def size_in_bytes(memory: str) -> int:
    return int(memory[:-1]) << {"M": 20, "G": 30}[memory[-1]]


_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def prepare() -> None:
    """Prepare the kernel's process before it starts: it dies with us, and may have as many files open as can be.

    hostfs holds a descriptor for each file whose inode the kernel remembers.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Boot:
    """One run of the kernel.  A context manager: at the end the kernel is gone, whatever it was doing."""

    def __init__(
        self, command: Sequence[str], *, memory: str = MEMORY, environment: Mapping[str, str] | None = None
    ) -> None:
        reason = unavailable()
        if reason:
            raise Unavailable(reason)
        self._holder = tempfile.TemporaryDirectory(prefix="test-kernel-")
        self.exchange = Path(self._holder.name)
        settings = {
            "command": list(command),
            "directory": str(CHECKOUT),
            "environment": _environment(environment or {}),
            "keep": _host_directories(),
            "modules": str((BUILT / "modules" / "lib" / "modules").resolve()),
            "root": str((BUILT / "root").resolve()),
        }
        (self.exchange / "settings.json").write_text(json.dumps(settings))
        self._console = open(self.exchange / "console", "wb")
        init = [f"init={Path(sys.executable).resolve()}", "--", "-I", "-S", str(Path(__file__).with_name("init.py"))]
        console = ["con=null", "con0=null,fd:1", "ssl=null", "loglevel=7"]
        root = ["rootfstype=hostfs", "rootflags=/", "ro"]
        identity = [f"uml_dir={self.exchange}/", "umid=kernel"]
        self._process = subprocess.Popen(
            [str(BUILT / "linux"), f"mem={memory}", *root, *console, *identity, *init, str(self.exchange)],
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": str(scratch_memory(self.exchange, size_in_bytes(memory)))},
            preexec_fn=prepare,
            start_new_session=True,
        )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The command's exit code; None while it runs, and if the kernel ended without it."""
        written = self.exchange / "exit"
        return None if self.running or not written.exists() else int(written.read_text())

    def read(self, name: str) -> str:
        """Read a file of the exchange directory; empty if it is not there."""
        path = self.exchange / name
        return path.read_text(errors="replace") if path.exists() else ""

    def log(self) -> str:
        """Read the kernel's log, of a very long one the end."""
        path = self.exchange / "console"
        with path.open("rb") as file:
            skipped = max(0, path.stat().st_size - MOST_TEXT)
            file.seek(skipped)
            text = file.read().decode(errors="replace")
        return f"({skipped} bytes are left out)\n{text}" if skipped else text

    def watch(self, done: Callable[[], bool], timeout: float = TIMEOUT) -> None:
        """Wait until ``done()`` or the kernel has ended.  Raises KernelFailed when neither is so in time."""
        deadline = time.monotonic() + timeout
        while self.running and not done():
            if time.monotonic() > deadline:
                # What it answers, all tasks with their stacks, is in its log as well.
                mconsole.ask(self.exchange / "kernel" / "mconsole", "sysrq t")
                self.kill()
                raise KernelFailed(self.report(f"the test kernel made no progress for {timeout:g} s"))
            time.sleep(POLL)

    def wait(self, timeout: float = TIMEOUT) -> Outcome:
        """Wait for the end and return the outcome.  Raises KernelFailed."""
        self.watch(lambda: False, timeout)
        code = self.exit_code
        if code is None:
            raise KernelFailed(self.report("the test kernel ended before the command did"))
        return Outcome(code, self.read("output"), self.log())

    def report(self, headline: str) -> str:
        """Format the headline, and then all that helps to find the reason."""
        output, console = self.read("output"), self.log()
        return f"{headline}\n--- the command's output ---\n{output}\n--- the kernel's log ---\n{console}\n"

    def kill(self) -> None:
        """Kill the kernel's own process, and those that run its processes' code."""
        if self.running:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        self.kill()
        self._console.close()
        shutil.rmtree(self.exchange, ignore_errors=True)
        self._holder.cleanup()

    def __enter__(self) -> Boot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run(
    command: Sequence[str],
    *,
    memory: str = MEMORY,
    timeout: float = TIMEOUT,
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """Boot, run, power off.  Raises Unavailable, KernelFailed."""
    with Boot(command, memory=memory, environment=environment) as boot:
        return boot.wait(timeout)
