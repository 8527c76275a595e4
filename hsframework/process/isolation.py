"""Isolation of processes that have a user in common: this one can signal, trace and change no other.

Workers of two cells run as the same agent's user, which is all that the kernel asks for.  A seccomp filter
(seccomp(2)) lets the system calls that reach another process fail with EPERM; what they do to this one is allowed.
It lists what is forbidden, and needs no library: it is for a worker on a machine without libseccomp.  Elsewhere the
list of all that a worker may call (:mod:`.confinement_seccomp`) leaves the same out, and more.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import NamedTuple

from hsframework.process.capabilities import libc

_SET_MODE_FILTER = 1
_SPEC_ALLOW = 1 << 2
"""Leave the processor's mitigations as they are: they would cost more than the filter."""

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24
"""Offsets in struct seccomp_data."""

_OTHER_ABI = 0x40000000
"""First number of the x32 calls."""

_SETOWN, _SETOWN_EX, _FIOSETOWN, _SIOCSPGRP = 8, 15, 0x8901, 0x8902
"""Commands of fcntl(2) and ioctl(2) by which the kernel sends a signal for this process."""


class _Calls(NamedTuple):
    """Numbers of system calls on one architecture.  ``seccomp``: the one that installs the filter."""

    architecture: int
    seccomp: int
    fcntl: int
    ioctl: int
    forbidden: tuple[int, ...]
    """tkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal, ptrace, process_vm_readv, process_vm_writev,
    pidfd_getfd, kcmp, process_madvise, process_mrelease, move_pages, migrate_pages, perf_event_open, setpriority,
    ioprio_set."""
    own: tuple[int, ...]
    """kill, tgkill: their first argument must be this process."""
    own_or_none: tuple[int, ...]
    """prlimit64, sched_setaffinity, sched_setparam, sched_setscheduler, sched_setattr: or 0."""


_CALLS = {
    "x86_64": _Calls(
        0xC000003E, 317, 72, 16,
        (200, 129, 297, 424, 101, 310, 311, 438, 312, 440, 448, 279, 256, 298, 141, 251),
        (62, 234),
        (302, 203, 142, 144, 314),
    ),
    "aarch64": _Calls(
        0xC00000B7, 277, 25, 29,
        (130, 138, 240, 424, 117, 270, 271, 438, 272, 440, 448, 239, 238, 241, 140, 30),
        (129, 131),
        (261, 122, 118, 119, 274),
    ),
}  # fmt: skip


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def forbid_reaching_others() -> str | None:
    """Forbid this process to signal, trace and change others, for good.

    Returns the reason for which that is not possible here; None: it is done.  New privileges must be forbidden already.
    """
    calls = _CALLS.get(os.uname().machine)
    if calls is None:
        return f"the system calls of {os.uname().machine} are not known"
    code = _program(calls, os.getpid())
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(buffer))
    if libc().syscall(calls.seccomp, _SET_MODE_FILTER, _SPEC_ALLOW, ctypes.byref(program)):
        return f"seccomp: {os.strerror(ctypes.get_errno())}"
    return None


def _program(calls: _Calls, pid: int) -> bytes:
    """Return the filter for a process, in the kernel's classic BPF."""
    code = [_load(_ARCHITECTURE), *_unless(calls.architecture), _load(_NUMBER), _jump(_AT_LEAST, _OTHER_ABI, 0, 1)]
    code.append(_return(_REFUSE))
    for number in calls.forbidden:
        code += [_jump(_EQUAL, number, 0, 1), _return(_REFUSE)]
    checks: list[tuple[int, int, tuple[int, ...], int]] = [(number, _FIRST, (pid,), _ALLOW) for number in calls.own]
    checks += [(number, _FIRST, (pid, 0), _ALLOW) for number in calls.own_or_none]
    checks.append((calls.fcntl, _SECOND, (_SETOWN, _SETOWN_EX), _REFUSE))
    checks.append((calls.ioctl, _SECOND, (_FIOSETOWN, _SIOCSPGRP), _REFUSE))
    for number, offset, values, then in checks:
        # Such a call ends within its block, so the register need not be loaded again for the next.
        block = [_load(offset)]
        for value in values:
            block += [_jump(_EQUAL, value, 0, 1), _return(then)]
        block.append(_return(_REFUSE if then == _ALLOW else _ALLOW))
        code += [_jump(_EQUAL, number, 0, len(block)), *block]
    code.append(_return(_ALLOW))
    return b"".join(code)


def _unless(value: int) -> list[bytes]:
    return [_jump(_EQUAL, value, 1, 0), _return(_REFUSE)]


def _load(offset: int) -> bytes:
    return _instruction(_LOAD, 0, 0, offset)


def _jump(kind: int, value: int, then: int, otherwise: int) -> bytes:
    return _instruction(kind, then, otherwise, value)


def _return(value: int) -> bytes:
    return _instruction(_RETURN, 0, 0, value)


def _instruction(code: int, then: int, otherwise: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)
