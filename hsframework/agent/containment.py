"""Bounds on what a plugin may take from the machine, so that a bad one harms its own protocol and is named in the log.

* **Processes.** A copy of a keeper or a worker would go on with its connections as if they were its own, so plugins do
  not fork at all; and once requests are served they start no program either, which would be read from a disk that may
  hang.  Both raise PluginError where it is tried.  What a native library does by itself is not seen.
* **Memory.** Past the limit of private memory, Python raises MemoryError where more is asked for.
* **Time.** A plugin that is not ready in time is named with the place where it hangs, and the process ends.

A worker that has run out of memory or of file descriptors is replaced: see :meth:`AgentHost.retire`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

import structlog

from hsframework.errors import PluginError

FORKS = frozenset({"os.fork", "os.forkpty"})
PROGRAMS = frozenset({"subprocess.Popen", "os.posix_spawn", "os.exec", "os.system"})
_MEBIBYTE = 1 << 20
_MOST_PLACES = 8
_log = structlog.get_logger("hsframework.agent")


class _Rule:
    """What this process allows.  Forked processes go on with a copy."""

    installed = False
    ours = False
    programs = True


def forbid_forks() -> None:
    """From now on nobody forks here but within :func:`our_own_fork`.  Cannot be undone."""
    # An audit hook stays for the life of the process, and of those that are forked from it.
    if not _Rule.installed:
        _Rule.installed = True
        sys.addaudithook(_audit)


def forbid_programs() -> None:
    """From now on no program is started here, nor in what is forked from here."""
    _Rule.programs = False


@contextlib.contextmanager
def our_own_fork() -> Iterator[None]:
    """Allow os.fork in this block; in the child it is over at once."""
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


def limit_memory(mebibytes: int) -> None:
    """Private memory of this process, and of each that is forked from it."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = mebibytes * _MEBIBYTE
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


@contextlib.contextmanager
def limited_time(seconds: float, plugin: str, status: int) -> Iterator[None]:
    """For importing and preparing a plugin: past it the log says where it hangs, and the process ends with ``status``.

    In the main thread alone.
    """

    def too_late(number: int, frame: FrameType | None) -> NoReturn:
        _log.error(
            "a plugin does not get ready",
            plugin=plugin,
            reason=f"it has not been imported and prepared within {seconds:g} seconds",
            where=_places(frame),
        )
        os._exit(status)

    before = signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _places(frame: FrameType | None) -> list[str]:
    """Where it is, the innermost first."""
    found: list[str] = []
    while frame is not None and len(found) < _MOST_PLACES:
        found.append(f"{frame.f_code.co_filename}, line {frame.f_lineno}, in {frame.f_code.co_name}")
        frame = frame.f_back
    return found


def exhaustion(error: BaseException) -> str:
    """What the process has run out of, if that is what an exception says; else empty."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return "memory runs out"
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return "file descriptors run out"
    return ""
