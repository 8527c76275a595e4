"""Use of the machine by processes, as Prometheus' own clients have it: memory, descriptors, processor time, start.

All of it is read from /proc without a right over the processes; what a process does not show is left out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_UTIME, _STIME, _START, _RESIDENT = 11, 12, 19, 21
"""Fields of /proc/PID/stat after the name, from 0 (proc_pid_stat(5): 14, 15, 22 and 24, from 1)."""

Part = tuple[str, str, int]
"""Role of a process, its name within the role, and its process id."""


@dataclass(slots=True)
class Use:
    """Use by one process, or by several together.

    ``memory``: resident, in bytes.  ``fds``: number of open descriptors; None: the kernel does not tell it (before
    Linux 6.2).  ``seconds``: of processor time.  ``started``: Unix time, of the last one.
    """

    memory: int = 0
    fds: int | None = None
    seconds: float = 0.0
    started: float = 0.0

    def add(self, other: Use) -> None:
        """Add the use by another process."""
        self.memory += other.memory
        self.seconds += other.seconds
        self.started = max(self.started, other.started)
        if other.fds is not None:
            self.fds = (self.fds or 0) + other.fds


def use_of(pid: int) -> Use | None:
    """Return the use by a process; None if there is none, or it may not be seen."""
    folder = Path(f"/proc/{pid}")
    try:
        fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        seconds = (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS
        since_boot = int(fields[_START]) / _TICKS
        memory = int(fields[_RESIDENT]) * _PAGE
        number = (folder / "fd").stat().st_size
    except (OSError, ValueError, IndexError):
        return None
    started = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot
    return Use(memory, number or None, seconds, started)


def use_of_parts(parts: Iterable[Part]) -> Iterator[tuple[tuple[str, str], Use]]:
    """Yield the use by each role and name, of all processes that have them."""
    found: dict[tuple[str, str], Use] = {}
    for role, name, pid in parts:
        use = use_of(pid) if pid > 0 else None
        if use is not None:
            found.setdefault((role, name), Use()).add(use)
    yield from found.items()
