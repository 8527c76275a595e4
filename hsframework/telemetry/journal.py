"""The journal as the reader of stderr: lines with their priorities (sd-daemon(3)).  It imports little."""

from __future__ import annotations

import os
from collections.abc import Mapping

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "exception": 3, "critical": 2}
"""Priorities of syslog(3) by level."""


def is_journal(fd: int, environment: Mapping[str, str]) -> bool:
    """True if a descriptor is the stream to the journal that the service manager has set up (JOURNAL_STREAM)."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    status = os.fstat(fd)
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def with_priority(text: str, level: str) -> str:
    """Return a text with the priority of a level before each line: ``<6>...``."""
    priority = f"<{PRIORITIES.get(level, 6)}>"
    return "\n".join(priority + line for line in text.split("\n"))
