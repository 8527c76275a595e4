"""State of processes, as /proc shows it."""

from __future__ import annotations

from pathlib import Path


def is_stopped(pid: int) -> bool:
    """True if a process is stopped by a signal or a debugger."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in ("T", "t")
