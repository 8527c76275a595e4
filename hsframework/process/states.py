"""States of processes, as the kernel shows them in /proc."""

from __future__ import annotations


def process_state(pid: int) -> str:
    """Return the letter of a process's state (proc_pid_stat(5)), or "" where nobody may know it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return chr(file.read(512).rpartition(b") ")[2][0])
    except (OSError, IndexError):
        return ""
