"""States and users of processes, as the kernel shows them in /proc."""

from __future__ import annotations

import os
from collections.abc import Container


def process_state(pid: int) -> str:
    """Return the letter of a process's state (proc_pid_stat(5)), or "" where nobody may know it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return chr(file.read(512).rpartition(b") ")[2][0])
    except (OSError, IndexError):
        return ""


def user_of(pid: int) -> int | None:
    """Return the real user id of a process, or None where nobody may know it: it has ended, for example."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("Uid:")), None)
    except OSError:
        return None


def processes_of(users: Container[int]) -> dict[int, int]:
    """Return the processes of these users, pid → real user id."""
    found = ((int(name), user_of(int(name))) for name in os.listdir("/proc") if name.isdigit())
    return {pid: user for pid, user in found if user is not None and user in users}
