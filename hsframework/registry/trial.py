"""Trial imports of plugins, each in a process of its own.

An agent imports all plugins, because each may implement ``hsframework_authorize``.  One that exits, crashes or hangs
during its import would end every agent, so each is imported in a forked process before, all at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Collection
from typing import NoReturn

from hsframework.process.capabilities import die_with_parent
from hsframework.process.forks import our_own_fork
from hsframework.process.pidfds import open_pidfd
from hsframework.process.signals import expect_children
from hsframework.registry.compatibility import check_distribution
from hsframework.registry.installed import Found, installed

TIMEOUT = 10.0
"""Seconds for all trials together: long, because a skipped plugin authorizes nobody."""

_SURVIVED = 83
"""Exit status of a trial whose import has ended, with or without an exception; a number unlikely as a plugin's own."""


def unfit_plugins(exempt: Collection[str] = (), *, timeout: float = TIMEOUT) -> dict[str, str]:
    """Return the plugins that must not be imported, by name, with the reason for each.

    ``exempt``: names of plugins that are not tried.  ``timeout``: seconds for all trials together.  A plugin that only
    raises an exception is not unfit, because its importer can handle that.
    """
    expect_children()
    trials = [(each.name, _begin(each)) for each in installed().plugins if each.name not in exempt]
    deadline = time.monotonic() + timeout
    problems = {}
    for name, pid in trials:
        problem = _end(pid, deadline, timeout)
        if problem is not None:
            problems[name] = problem
    return problems


def _begin(found: Found) -> int:
    parent = os.getpid()
    with our_own_fork():
        pid = os.fork()
    return pid or _try(found, parent)


def _try(found: Found, parent: int) -> NoReturn:
    try:
        die_with_parent(parent)
        silence = os.open(os.devnull, os.O_WRONLY)
        for fd in (1, 2):
            os.dup2(silence, fd)
        check_distribution(found.metadata)
        plugin = found.entry_point.load()
        list(plugin.hsframework_protocols())
    except BaseException:
        os._exit(_SURVIVED)
    os._exit(_SURVIVED)


def _end(pid: int, deadline: float, timeout: float) -> str | None:
    pidfd = open_pidfd(pid)
    try:
        if not select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.waitpid(pid, 0)
            return f"its import does not end within {timeout:.0f} seconds"
    finally:
        os.close(pidfd)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return None if status == _SURVIVED else f"its import ends the process ({_shown(status)})"


def _shown(status: int) -> str:
    return f"exit status {status}" if status >= 0 else signal.Signals(-status).name
