"""Subordinate user ids (subuid(5)): numbers that a user may take on in a user namespace, by newuidmap(1).

To SO_PEERCRED each of them is another user, with the groups of its owner: 65,536 users for one.  So whatever is limited
by user is counted for the owner.
"""

from __future__ import annotations

import contextlib
import pwd
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

FILE = Path("/etc/subuid")
"""The ranges of this machine.  Those of a directory service (``subid`` in nsswitch.conf) are unknown here."""


class Range(NamedTuple):
    """Numbers of one owner."""

    numbers: range
    owner: int


class Subordinates:
    """Owners of subordinate user ids."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._ranges = tuple(ranges)

    def owner(self, uid: int) -> int:
        """Return the owner of a number, or the number itself if it is nobody's."""
        return next((owner for numbers, owner in self._ranges if uid in numbers), uid)


def load_subordinates(file: Path = FILE) -> Subordinates:
    """Read the ranges of a file; a line that makes no sense, or names no user, is left out."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return Subordinates()
    return Subordinates(found for line in lines if (found := _range(line)) is not None)


def _range(line: str) -> Range | None:
    with contextlib.suppress(ValueError, KeyError):
        owner, start, count = line.strip().split(":")
        first = int(start)
        return Range(range(first, first + int(count)), int(owner) if owner.isdigit() else pwd.getpwnam(owner).pw_uid)
    return None
