"""Every plugin's first import is in a process of its own.

An agent imports all plugins, since any of them may have a say in whom to authorize.  One that exits, crashes or hangs
while it is imported would take every agent with it, so each is tried in a forked process before, all at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Collection
from importlib import metadata
from typing import NoReturn

from hsframework.process.capabilities import die_with_parent
from hsframework.process.forks import our_own_fork
from hsframework.process.signals import expect_children
from hsframework.registry.compatibility import check_distribution
from hsframework.registry.plugins import ENTRY_POINT_GROUP

TIMEOUT = 10.0
"""Seconds for all of them together: long, for a plugin that is skipped has no say."""

_SURVIVED = 83
"""Exit status of a trial whose plugin has let the process live; any number that a plugin hardly picks."""


def unfit_plugins(exempt: Collection[str] = (), *, timeout: float = TIMEOUT) -> dict[str, str]:
    """Why a plugin must not be imported, by name; those that are not here may be.

    ``exempt``: not tried, since nobody else is harmed.  What only raises is not unfit: whoever imports it is told.
    """
    expect_children()
    found = [item for item in metadata.entry_points(group=ENTRY_POINT_GROUP) if item.name not in exempt]
    trials = [(entry_point.name, _begin(entry_point)) for entry_point in found]
    deadline = time.monotonic() + timeout
    problems = {}
    for name, pid in trials:
        problem = _end(pid, deadline, timeout)
        if problem is not None:
            problems[name] = problem
    return problems


def _begin(entry_point: metadata.EntryPoint) -> int:
    parent = os.getpid()
    with our_own_fork():
        pid = os.fork()
    return pid or _try(entry_point, parent)


def _try(entry_point: metadata.EntryPoint, parent: int) -> NoReturn:
    try:
        die_with_parent(parent)
        silence = os.open(os.devnull, os.O_WRONLY)
        for fd in (1, 2):
            os.dup2(silence, fd)
        check_distribution(entry_point.dist)
        plugin = entry_point.load()
        list(plugin.hsframework_protocols())
    except BaseException:
        os._exit(_SURVIVED)
    os._exit(_SURVIVED)


def _end(pid: int, deadline: float, timeout: float) -> str | None:
    pidfd = os.pidfd_open(pid)
    try:
        if not select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.waitpid(pid, 0)
            return f"its import does not end within {timeout:.0f} seconds"
    finally:
        os.close(pidfd)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return None if status == _SURVIVED else f"its import ends the process ({_how(status)})"


def _how(status: int) -> str:
    return f"exit status {status}" if status >= 0 else signal.Signals(-status).name
