"""Capabilities of this process, and its settings for core dumps, privileges, open files and its parent's death.

Capabilities belong to a thread: what changes them runs in the main thread, before any other is started.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import structlog

CAP_DAC_READ_SEARCH = 2
CAP_KILL = 5
CAP_SETGID = 6
CAP_SETUID = 7
CAP_NET_ADMIN = 12
CAP_SYS_ADMIN = 21
CAP_SYS_RESOURCE = 24

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_SET_NAME = 15
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_MAX_CAPABILITIES = 64
_log = structlog.get_logger("hsframework.process")


def keep_capabilities(capabilities: Iterable[int]) -> None:
    """Give up every other capability, for this process and programs that it executes.  Only root has some."""
    if os.geteuid() != 0:
        return
    kept = set(capabilities)
    clear_bounding_set(kept)
    try:
        set_capabilities(those_permitted(kept))
    except OSError as error:
        # A sandbox that allows more than is needed, and forbids to give it up: that is its administrator's to say.
        _log.warning("capabilities cannot be given up", call="capset", reason=error.strerror)


def those_permitted(capabilities: Iterable[int]) -> int:
    """Return those of these capabilities that this process has, one bit each."""
    return _capability_sets()[1] & sum(1 << capability for capability in capabilities)


def set_capabilities(mask: int) -> None:
    """Make these capabilities permitted and effective, one bit each, and none inheritable or ambient.

    Nothing is called if it is so: a sandbox that has taken the others away may have taken capset(2) too.  Raises
    OSError.
    """
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    if _capability_sets() == (mask, mask, 0):
        return
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), 8)
    data = ctypes.create_string_buffer(struct.pack("=6I", low, low, 0, high, high, 0), 24)
    if libc().capset(header, data):
        code = ctypes.get_errno()
        raise OSError(code, f"capset: {os.strerror(code)}")


def clear_bounding_set(kept: Iterable[int] = ()) -> None:
    """Deny programs that this process executes every capability but these."""
    for capability in range(_MAX_CAPABILITIES):
        if capability not in kept and not prctl(_PR_CAPBSET_DROP, capability) and ctypes.get_errno() == errno.EINVAL:
            return


def keep_capabilities_through_setuid(keep: bool) -> None:
    """Keep the permitted capabilities through a change of the user, or not."""
    prctl(_PR_SET_KEEPCAPS, int(keep))


def capable(capability: int) -> bool:
    """Return True if the capability is effective for what belongs to no namespace, as limits and scores do.

    Those of a user namespace, as of a container without root, do not count there.
    """
    return bool(_capability_sets()[0] >> capability & 1) and _in_first_user_namespace()


def _in_first_user_namespace() -> bool:
    try:
        return Path("/proc/self/uid_map").read_text("ascii").split() == ["0", "0", "4294967295"]
    except OSError:
        return True


def _capability_sets() -> tuple[int, int, int]:
    """Return the effective, the permitted and the inheritable capabilities, one bit each."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), 8)
    data = ctypes.create_string_buffer(24)
    if libc().capget(header, data):
        code = ctypes.get_errno()
        raise OSError(code, f"capget: {os.strerror(code)}")
    low_effective, low, low_kept, high_effective, high, high_kept = struct.unpack("=6I", data.raw)
    return low_effective | high_effective << 32, low | high << 32, low_kept | high_kept << 32


def forbid_core_dumps() -> None:
    """Forbid core dumps, and other processes of this user to look into this one."""
    prctl(_PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def forbid_new_privileges() -> None:
    """Forbid programs that this process executes to gain privileges (setuid, file capabilities)."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1, must=True)


def raise_fd_limit() -> int:
    """Raise RLIMIT_NOFILE to its hard limit, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; at once if that is not process ``parent`` by now."""
    prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), must=True)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def prctl(option: int, argument: int, *, must: bool = False) -> bool:
    """Call prctl(2).  Returns False, or raises OSError if it ``must`` succeed, when the kernel refuses."""
    result = libc().prctl(option, *(ctypes.c_ulong(item) for item in (argument, 0, 0, 0)))
    if result < 0 and must:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option}: {os.strerror(code)}")
    return bool(result >= 0)


def set_thread_name(name: bytes) -> None:
    """Set the name of this thread, of which the kernel keeps 15 bytes."""
    libc().prctl(_PR_SET_NAME, ctypes.c_char_p(name), *(ctypes.c_ulong(0) for _ in range(3)))


@cache
def libc() -> ctypes.CDLL:
    """Return the C library, whose calls keep errno for ctypes.get_errno()."""
    return ctypes.CDLL(None, use_errno=True)
