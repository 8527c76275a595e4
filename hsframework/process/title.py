"""Title of a process, as ``ps`` and ``top`` show it: ``hsframework agent tls13, worker``.

The kernel shows the memory in which it left the command line, and that is written over; a title that is longer is cut.
The place is looked up once, by the first process: those that are forked from it open no file for theirs.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

from hsframework.process.capabilities import set_thread_name

_START, _END = 47, 48
"""Fields ``arg_start`` and ``arg_end`` of /proc/PID/stat, from 0."""


def set_title(title: str) -> None:
    """Show this process under a title, also under its first 15 bytes as its name; where that is not possible, as
    before."""
    set_thread_name(title.removeprefix("hsframework ").encode())
    start, end = _place()
    if end > start:
        ctypes.memmove(start, title.encode()[: end - start - 1].ljust(end - start, b"\0"), end - start)


@cache
def _place() -> tuple[int, int]:
    """Return where the command line begins and ends in memory; two zeros if that is not shown."""
    try:
        fields = Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()
        return int(fields[_START - 2]), int(fields[_END - 2])
    except (OSError, ValueError, IndexError):
        return 0, 0
