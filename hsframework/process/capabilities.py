"""What a process tells the kernel of itself: capabilities, core dumps, new privileges, open files, its parent's death.

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

CAP_DAC_READ_SEARCH = 2
CAP_KILL = 5
CAP_NET_ADMIN = 12
CAP_SYS_ADMIN = 21
CAP_SYS_RESOURCE = 24

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_MAX_CAPABILITIES = 64


def keep_capabilities(capabilities: Iterable[int]) -> None:
    """Give up every capability but these, for this process and what it executes.  Not root: nothing to give up."""
    if os.geteuid() != 0:
        return
    kept = set(capabilities)
    clear_bounding_set(kept)
    set_capabilities(_capabilities()[1] & sum(1 << capability for capability in kept))


def set_capabilities(mask: int) -> None:
    """These permitted and effective; nothing inheritable or ambient."""
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), 8)
    data = ctypes.create_string_buffer(struct.pack("=6I", low, low, 0, high, high, 0), 24)
    if libc().capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


def clear_bounding_set(kept: Iterable[int] = ()) -> None:
    """What this process executes can have no capability but these."""
    for capability in range(_MAX_CAPABILITIES):
        if capability not in kept and not prctl(_PR_CAPBSET_DROP, capability) and ctypes.get_errno() == errno.EINVAL:
            return


def keep_capabilities_through_setuid(keep: bool) -> None:
    """Whether a change of the user leaves the permitted capabilities."""
    prctl(_PR_SET_KEEPCAPS, int(keep))


def capable(capability: int) -> bool:
    """Is it effective?"""
    return bool(_capabilities()[0] >> capability & 1)


def _capabilities() -> tuple[int, int]:
    """Effective and permitted."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), 8)
    data = ctypes.create_string_buffer(24)
    if libc().capget(header, data):
        raise OSError(ctypes.get_errno(), "capget")
    low_effective, low, _, high_effective, high, _ = struct.unpack("=6I", data.raw)
    return low_effective | high_effective << 32, low | high << 32


def forbid_core_dumps() -> None:
    """No core dump, and no other process of this user may look into this one."""
    prctl(_PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def forbid_new_privileges() -> None:
    """Nothing that this process executes can gain privileges."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1, must=True)


def raise_fd_limit() -> int:
    """RLIMIT_NOFILE to what the hard limit allows; the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process when its parent dies; at once when process ``parent`` is its parent no more."""
    prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), must=True)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def prctl(option: int, argument: int, *, must: bool = False) -> bool:
    """prctl(2); False, or OSError where it ``must``: refused."""
    result = libc().prctl(option, *(ctypes.c_ulong(item) for item in (argument, 0, 0, 0)))
    if result < 0 and must:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
    return bool(result >= 0)


@cache
def libc() -> ctypes.CDLL:
    """The C library, which keeps errno for ctypes.get_errno()."""
    return ctypes.CDLL(None, use_errno=True)
