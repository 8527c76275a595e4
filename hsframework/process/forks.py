"""Bounds on the processes that a plugin may fork or start.

A copy of a keeper or a worker would go on with its connections as if they were its own, so plugins do not fork at all;
and once requests are served they start no program either, which would be read from a disk that may hang.  Both raise
PluginError where it is tried.  What a native library does by itself is not seen.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from hsframework.errors import PluginError

FORKS = frozenset({"os.fork", "os.forkpty"})
PROGRAMS = frozenset({"subprocess.Popen", "os.posix_spawn", "os.exec", "os.system"})


class _Rule:
    """State of this process's bounds.  Forked processes go on with a copy."""

    installed = False
    ours = False
    programs = True


def forbid_forks() -> None:
    """Forbid forks in this process but within :func:`our_own_fork`, for good."""
    # An audit hook stays for the life of the process, and of those that are forked from it.
    if not _Rule.installed:
        _Rule.installed = True
        sys.addaudithook(_audit)


def forbid_programs() -> None:
    """Forbid this process, and those forked from it, to start programs."""
    _Rule.programs = False


@contextlib.contextmanager
def our_own_fork() -> Iterator[None]:
    """Allow os.fork in this block; its child is not allowed to fork."""
    _Rule.ours = True
    try:
        yield
    finally:
        _Rule.ours = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in FORKS and not _Rule.ours:
        raise PluginError("a plugin forks, and its copy of the agent would take part in what the agent does")
    if event in PROGRAMS and not _Rule.programs:
        raise PluginError(
            f"a plugin starts a program ({arguments[0]!r:.100}); that is for prepare, before requests come"
        )
