"""`hsframework` that loses the file system at a signal::

    python tests/kernel/confined.py run --config FILE

At SIGUSR1 a process of it gets a seccomp filter that kills it at the first system call that opens, looks up or
executes a file, or loads a module; what it forks has that filter too.  All of this is here: the product knows nothing
of it, and workers, whose own filter lets them add none, are given the one call more.  x86-64.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import struct
import sys

from hsframework.cli.main import main
from hsframework.process import confinement_seccomp

FORBIDDEN = {
    "open": 2,
    "stat": 4,
    "lstat": 6,
    "access": 21,
    "execve": 59,
    "chdir": 80,
    "creat": 85,
    "readlink": 89,
    "init_module": 175,
    "openat": 257,
    "readlinkat": 267,
    "faccessat": 269,
    "open_by_handle_at": 304,
    "finit_module": 313,
    "execveat": 322,
    "statx": 332,
    "open_tree": 428,
    "openat2": 437,
    "faccessat2": 439,
}
NEWFSTATAT, AT_EMPTY_PATH = 262, 0x1000
AUDIT_ARCH_X86_64 = 0xC000003E
TRAP, ALLOW = 0x00030000, 0x7FFF0000
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_SECCOMP, _SET_MODE_FILTER, _TSYNC, _PR_SET_NO_NEW_PRIVS = 317, 1, 1, 38


def _filter() -> bytes:
    """Return the filter, a struct sock_filter[]: another architecture or a forbidden call kills the process."""
    count = len(FORBIDDEN)
    code = [(_LOAD, 0, 0, 4), (_EQUAL, 0, count + 5, AUDIT_ARCH_X86_64), (_LOAD, 0, 0, 0)]
    code += [(_EQUAL, count + 3 - index, 0, number) for index, number in enumerate(FORBIDDEN.values())]
    # fstat is newfstatat with AT_EMPTY_PATH in the fourth argument: that one looks nothing up.
    code += [(_EQUAL, 0, 2, NEWFSTATAT), (_LOAD, 0, 0, 40), (_ANY_BIT, 0, 1, AT_EMPTY_PATH)]
    code += [(_RETURN, 0, 0, ALLOW), (_RETURN, 0, 0, TRAP)]
    return b"".join(struct.pack("=HBBI", *line) for line in code)


_worker_rules = confinement_seccomp.worker_rules


def _may_add_a_filter(pid: int) -> list[confinement_seccomp.Rule]:
    return [*_worker_rules(pid), confinement_seccomp.Rule("seccomp")]


_libc = ctypes.CDLL(None, use_errno=True)
_code = ctypes.create_string_buffer(_filter())
_program = ctypes.create_string_buffer(struct.pack("=H6xQ", len(FORBIDDEN) + 8, ctypes.addressof(_code)))


def confine(number: int, frame: object) -> None:
    """Confine every thread of this process, and all that it forks."""
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if _libc.syscall(_SECCOMP, _SET_MODE_FILTER, _TSYNC, _program):
        os.abort()


if __name__ == "__main__":
    confinement_seccomp.worker_rules = _may_add_a_filter
    # Where it was is on the error output then, and it dies.
    faulthandler.register(signal.SIGSYS, chain=True)
    signal.signal(signal.SIGUSR1, confine)
    sys.exit(main())
