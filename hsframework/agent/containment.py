"""Bounds on processes, memory and time of a plugin: a bad one harms its own protocol, and the log names it.

* **Processes.** Plugins neither fork nor, once requests are served, start a program: :mod:`hsframework.process.forks`.
* **Memory.** Past the limit of private memory, Python raises MemoryError where more is asked for.
* **Time.** A plugin that is not ready in time is named with the place where it hangs, and the process ends.

A worker that has run out of memory or of file descriptors is replaced: see
:meth:`hsframework.agent.host.AgentHost.retire`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import structlog

_MEBIBYTE = 1 << 20
_MOST_PLACES = 8
_log = structlog.get_logger("hsframework.agent")


def limit_memory(mebibytes: int) -> None:
    """Limit the private memory of this process, and of each that is forked from it."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = mebibytes * _MEBIBYTE
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


@contextlib.contextmanager
def limited_time(seconds: float, plugin: str, status: int) -> Iterator[None]:
    """Limit the seconds that the import and the preparation of a plugin take.

    Past them the log has the place where it hangs, and the process ends with ``status``.  In the main thread alone.
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
    """Return the places of a frame and its callers, the innermost first."""
    found: list[str] = []
    while frame is not None and len(found) < _MOST_PLACES:
        found.append(f"{frame.f_code.co_filename}, line {frame.f_lineno}, in {frame.f_code.co_name}")
        frame = frame.f_back
    return found


def exhaustion(error: BaseException) -> str:
    """Return the resource that an exception reports as run out, as a sentence; "" for any other exception."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return "memory runs out"
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return "file descriptors run out"
    return ""
