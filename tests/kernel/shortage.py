"""Memory that is short: a cgroup at its limit with a hog in it, and allocations of the kernel's that fail.

Rules:

* Memory belongs to the cgroup of the process that used it first, also when that has moved away: so service and hog
  enter by themselves, and no memory of the test's is in the group, where it would be taken away with theirs.
* The kernel's fault injection fails allocations of processes that are chosen, and in their own system calls alone.
  :func:`prepare_injection` comes first; :class:`FailingOnce` fails one allocation, :func:`failing` some of all of them.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.kernel import grouped, hog
from tests.kernel.consumers import until
from tests.kernel.house import House, house_of

MIB = 1 << 20
_GROUPS = Path("/sys/fs/cgroup")
_INJECTION = Path("/sys/kernel/debug")
_KINDS = ("failslab", "fail_page_alloc")
_SETTINGS = {
    # By default the kernel spares what may wait for memory, and single pages.
    "failslab": {"ignore-gfp-wait": "N"},
    "fail_page_alloc": {"ignore-gfp-wait": "N", "ignore-gfp-highmem": "N", "min-order": "0"},
}


class MemoryGroup:
    """A cgroup with a limit of memory."""

    def __init__(self, name: str) -> None:
        (_GROUPS / "cgroup.subtree_control").write_text("+memory")
        self._path = _GROUPS / name
        self._path.mkdir()

    @contextlib.contextmanager
    def house(self, **options: Any) -> Iterator[House]:
        """Run `hsframework run` in the group; the options are those of :func:`tests.kernel.house.house`."""

        class GroupedHouse(House):
            program = (str(Path(grouped.__file__)), str(self._path))

        with house_of(GroupedHouse, **options) as service:
            yield service

    def hog(self, score: int) -> subprocess.Popen[str]:
        """Start the program of :mod:`tests.kernel.hog` in the group."""
        command = [sys.executable, "-I", "-S", str(Path(hog.__file__)), str(self._path), str(score)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @property
    def used(self) -> int:
        """Bytes in use now."""
        return int((self._path / "memory.current").read_text())

    @property
    def swapped(self) -> int:
        """Bytes of the group's that are in swap alone: what is in memory too is read without the device."""
        return int((self._path / "memory.swap.current").read_text()) - self._numbers("memory.stat")["swapcached"]

    @property
    def on_the_way(self) -> int:
        """Bytes that are being written to swap."""
        return self._numbers("memory.stat")["file_writeback"]

    @property
    def kills(self) -> int:
        """Number of processes that were killed for want of memory in the group."""
        return self._numbers("memory.events")["oom_kill"]

    @property
    def met(self) -> int:
        """Number of times that the limit was met."""
        return self._numbers("memory.events")["max"]

    def _numbers(self, file: str) -> dict[str, int]:
        lines = (line.split() for line in (self._path / file).read_text().splitlines())
        return {name: int(number) for name, number in lines}

    def limit(self, size: int | None) -> None:
        """Set the limit, in bytes, or none.  Memory above it is reclaimed at once, or a process is killed."""
        (self._path / "memory.max").write_text("max" if size is None else str(size))

    def reclaim(self, size: int) -> None:
        """Let the kernel take so many bytes from the group's processes, as far as it can."""
        with contextlib.suppress(BlockingIOError):
            (self._path / "memory.reclaim").write_text(str(size))

    def close(self) -> None:
        """Kill what lives in the group, and remove it."""
        self.limit(None)
        (self._path / "cgroup.kill").write_text("1")
        until(lambda: "populated 0" in (self._path / "cgroup.events").read_text(), "the group is empty")
        self._path.rmdir()


@contextlib.contextmanager
def memory_group(name: str) -> Iterator[MemoryGroup]:
    """Make a group, without a limit at first."""
    made = MemoryGroup(name)
    try:
        yield made
    finally:
        made.close()


class Hog:
    """A process that uses a group's memory, and can tell whether it has kept its contents."""

    def __init__(self, group: MemoryGroup, score: int) -> None:
        self.process = group.hog(score)
        assert self.answer() == "ready"

    def begin(self, command: str) -> None:
        """Give a command, whose answer nobody waits for."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        """Return the answer to the command before, once it is there; empty if the program was killed."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, command: str) -> str:
        """Give a command and return its answer."""
        self.begin(command)
        return self.answer()

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@contextlib.contextmanager
def hog_in(group: MemoryGroup, score: int = 0) -> Iterator[Hog]:
    """Start a hog that is gone with the block."""
    made = Hog(group, score)
    try:
        yield made
    finally:
        made.end()


def prepare_injection() -> None:
    """Let every allocation be one that may fail, and none fail."""
    for kind in _KINDS:
        for name, value in {**_SETTINGS[kind], "verbose": "0", "times": "-1", "task-filter": "Y"}.items():
            (_INJECTION / kind / name).write_text(value)
    _set_probability(0)


def _set_probability(percent: int) -> None:
    for kind in _KINDS:
        (_INJECTION / kind / "probability").write_text(str(percent))


class FailingOnce:
    """One allocation that is to fail: the one with this number, from now on, of a process's main thread."""

    def __init__(self, pid: int, number: int) -> None:
        self._fd = os.open(f"/proc/{pid}/fail-nth", os.O_RDWR | os.O_CLOEXEC)
        os.pwrite(self._fd, b"%d" % number, 0)

    def end(self) -> bool:
        """Return True if it has failed, or the process has ended; from now on none fails."""
        try:
            failed = os.pread(self._fd, 16, 0).strip() == b"0"
            os.pwrite(self._fd, b"0", 0)
        except ProcessLookupError:
            failed = True
        os.close(self._fd)
        return failed


@contextlib.contextmanager
def failing(pids: Iterable[int], percent: int) -> Iterator[None]:
    """Let so many of a hundred allocations of these processes, and of those that they fork, fail."""
    for pid in pids:
        Path(f"/proc/{pid}/make-it-fail").write_text("1")
    _set_probability(percent)
    try:
        yield
    finally:
        _set_probability(0)
