"""Locked memory and the OOM score, by which a process goes on when memory is short.

Rules:

* Locks belong to a process and are lost by fork, so each process of the service locks its own; limits and the OOM score
  are inherited, so root sets them once, before anything is given up.
* With CAP_SYS_RESOURCE a process is killed after those that it keeps alive.  The supervisor never is: it restarts all
  others, and it is the largest when the service starts.  The dispatcher is killed after its agents: requests that it
  has queued are lost with it, and one that an agent has ends with an error at once.
* Memory is locked as it is used (MCL_ONFAULT), and what the process has mapped from files is read in once before
  (``populate``): nothing is paged in from a root filesystem that hangs, and pages that forked processes share
  stay shared.  A worker forked from a process that has done so finds those pages in memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from typing import TYPE_CHECKING

from hsframework.errors import ConfigurationError
from hsframework.process.capabilities import CAP_SYS_RESOURCE, capable, libc

if TYPE_CHECKING:
    from hsframework.configuration.settings import MemorySettings

MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
_MADV_POPULATE_READ = 22  # Linux 5.14
NEVER_KILLED = -1000
ORDINARY = 0
"""OOM score of a program that was given no other."""

_AFTER_AGENTS = 250
"""A quarter of the memory that there is: more than the processes differ in size where memory is that short."""
_OOM_SCORE = "/proc/self/oom_score_adj"

_UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def prepare_protection(settings: MemorySettings) -> None:
    """Set the OOM score, and allow memory to be locked after a change of the user.  Raises ConfigurationError."""
    if settings.oom_score_adjust is not None:
        set_oom_score(settings.oom_score_adjust)
    if settings.lock and capable(CAP_SYS_RESOURCE):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, _UNLIMITED)


class _Spared:
    before: int | None = None


def spare_supervisor() -> None:
    """Set the OOM score of this process so that it is never killed for want of memory, if that is allowed."""
    before = oom_score()
    with contextlib.suppress(ConfigurationError):
        set_oom_score(NEVER_KILLED)
        _Spared.before = before


def spare_no_child() -> None:
    """Take back, in a forked child, what :func:`spare_supervisor` has set: every other process can be replaced."""
    if _Spared.before is not None:
        set_oom_score(_Spared.before)


def score_of_users() -> int:
    """Return the OOM score of processes that users can make grow: they are spared no more than any other program."""
    return max(oom_score(), ORDINARY)


def score_after(score: int) -> int:
    """Return the OOM score of the dispatcher, whose agents have ``score``: lower, if it may be."""
    if not capable(CAP_SYS_RESOURCE):
        return score
    return min(score, max(NEVER_KILLED + 1, score - _AFTER_AGENTS))


def lock_memory(settings: MemorySettings, *, populate: bool = False) -> None:
    """Keep the memory of this process out of swap, if the settings ask for it.  Raises ConfigurationError."""
    if not settings.lock:
        return
    if libc().mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT):
        reason = os.strerror(ctypes.get_errno())
        raise ConfigurationError(
            f"memory cannot be locked: {reason}; set LimitMEMLOCK=infinity in the unit or start as root, or leave "
            "memory.lock out"
        )
    if populate:
        _read_in_what_is_mapped()


def set_oom_score(score: int) -> None:
    """Set how eagerly the kernel kills this process when memory is short, from -1000 to 1000; only root lowers it.

    Raises ConfigurationError.
    """
    if score == oom_score():
        return
    try:
        with open(_OOM_SCORE, "w", encoding="ascii") as file:
            file.write(str(score))
    except OSError as error:
        raise ConfigurationError(
            f"memory.oom-score-adjust: {score} cannot be set: {error.strerror}; start as root, set "
            f"OOMScoreAdjust={score} in the unit, or leave it out"
        ) from None


def oom_score() -> int:
    """Return this process's OOM score adjustment."""
    with open(_OOM_SCORE, encoding="ascii") as file:
        return int(file.read())


def why_not_locked() -> str | None:
    """Return the reason for which a process started as this one cannot lock its memory; None: it can."""
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if hard == resource.RLIM_INFINITY or capable(CAP_SYS_RESOURCE):
        return None
    # CAP_IPC_LOCK would do for the dispatcher, not for its agents, who have no capability.
    return f"RLIMIT_MEMLOCK is {hard >> 10} KiB"


def why_not_scored(score: int) -> str | None:
    """Return the reason for which a process started as this one cannot set this OOM score; None: it can."""
    if score >= oom_score() or capable(CAP_SYS_RESOURCE):
        return None
    return f"it is {oom_score()} now, and lowering it takes CAP_SYS_RESOURCE"


def _read_in_what_is_mapped() -> None:
    madvise = libc().madvise
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.split(None, 5) for line in file]
    for addresses, permissions, _, _, inode, *_ in lines:
        if permissions.startswith("r") and inode != "0":
            first, last = (int(address, 16) for address in addresses.split("-"))
            # What cannot be read in (past the file's end) cannot be used either.
            madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _MADV_POPULATE_READ)
