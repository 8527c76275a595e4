"""Confinement of a process by itself: what it needs no longer it gives up, before it meets a stranger.

It holds under `hsframework run` as under units, which confine from outside too.  In this order, since each step takes
what the next one no longer allows: limits of resources, files (Landlock), system calls (seccomp).  A step that this
machine does not offer is logged and left out; nobody is refused for it.

A worker of an agent may: use what it was handed, read the program's own files, start threads, connect to unix sockets.
It may not: open other files, write any, make sockets of other families, start processes and programs, signal or trace
others, make namespaces, keys, shared memory, or more of what a bug in the kernel needs.
"""

from __future__ import annotations

import fcntl
import os
import resource
import stat
import sys
import sysconfig
from collections.abc import Iterable

import structlog

from hsframework.process import confinement_landlock as landlock, confinement_seccomp as seccomp
from hsframework.process.capabilities import forbid_new_privileges
from hsframework.process.isolation import forbid_reaching_others

MOST_PROCESSES = 1024
"""Processes and threads of an agent's user at most."""

_LOOKED_AT = 1024
"""Descriptors among which files that are written are looked for; no folder is read for it."""

_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo")
_DEVICES = ("/dev/null", "/dev/urandom", "/dev/random", "/dev/zero")

_log = structlog.get_logger("hsframework.process")


class _Prepared:
    """State that is made before the first fork, and that workers inherit."""

    files: landlock.Ruleset | None = None


def prepare_confinement() -> None:
    """Make what :func:`confine_worker` needs: a worker that is forked later opens no file for it."""
    seccomp.load_library()
    if _Prepared.files is None:
        _Prepared.files = landlock.Ruleset(program_files())


def why_not_confined() -> list[str]:
    """Return what this machine lacks for the confinement, as sentences."""
    problems = []
    if seccomp.load_library() is None:
        problems.append(f"{seccomp.LIBRARY} is not installed (Debian's package libseccomp2)")
    if (missing := landlock.missing()) is not None:
        problems.append(missing)
    return problems


def confine_keeper() -> list[str]:
    """Confine this process as the keeper of an agent, once its plugin is prepared; return what could not be done.

    It may what its workers may, and fork them, end them and set them up.  They inherit this and add their own.
    """
    prepare_confinement()
    forbid_new_privileges()
    problems = [landlock.Ruleset(program_files()).restrict(), seccomp.install(seccomp.keeper_rules(os.getpid()))]
    found = [problem for problem in problems if problem is not None]
    for problem in found:
        _log.warning("a keeper is not confined as it could be", reason=problem)
    return found


def confine_worker(*, own_user: bool) -> list[str]:
    """Confine this process as a worker of an agent; return what could not be done, which is logged too.

    ``own_user``: no other processes than its agent's run as its user.
    """
    prepare_confinement()
    files, _Prepared.files = _Prepared.files, None
    assert files is not None
    forbid_new_privileges()
    _limit_resources(own_user=own_user)
    problems = [files.restrict(), seccomp.install(seccomp.worker_rules(os.getpid()))]
    if problems[-1] is not None:
        # Workers of other users of the service have the same user: from them at least.
        problems.append(forbid_reaching_others())
    found = [problem for problem in problems if problem is not None]
    for problem in found:
        _log.warning("a worker is not confined as it could be", reason=problem)
    return found


def files_of_a_cell() -> landlock.Ruleset:
    """Make what :func:`confine_cell` needs, as long as this process may open it."""
    seccomp.load_library()
    return landlock.Ruleset((*program_files(), "/proc"))


def confine_cell(files: landlock.Ruleset) -> list[str]:
    """Confine this process as the cell of a user, which is given all that it serves; return what could not be done.

    Of ``files`` it reads the program's own, and the control group of a consumer's process.
    """
    problems = [files.restrict(), seccomp.install(seccomp.cell_rules(os.getpid()))]
    found = [problem for problem in problems if problem is not None]
    for problem in found:
        _log.warning("a cell is not confined as it could be", reason=problem)
    return found


def confine_listener() -> None:
    """Confine this process as one that listens on a port and answers from what it is sent; it opens no file."""
    seccomp.load_library()
    _limit_resources(own_user=False)
    for problem in (landlock.Ruleset((), tcp=True).restrict(), seccomp.install(seccomp.listener_rules(os.getpid()))):
        if problem is not None:
            _log.warning("the process of the metrics is not confined as it could be", reason=problem)


def program_files() -> Iterable[str]:
    """Return the folders of the interpreter, of its packages and of the system's libraries, for a late import."""
    named = {*sys.path, *sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, *_LIBRARIES, *_DEVICES}
    return sorted(path for path in named if path and os.path.isabs(path) and path != "/")


def _limit_resources(*, own_user: bool) -> None:
    """Limit files' sizes, unless one is open, and, where it counts nobody else, processes."""
    if not any(map(_is_written_file, range(_LOOKED_AT))):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if own_user:
        _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
        if hard == resource.RLIM_INFINITY or hard > MOST_PROCESSES:
            resource.setrlimit(resource.RLIMIT_NPROC, (MOST_PROCESSES, MOST_PROCESSES))


def _is_written_file(fd: int) -> bool:
    """True if a descriptor is of a regular file and may be written, as the log's or a plugin's own."""
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE)
    except OSError:
        return False
