"""System calls that a process allows itself: a filter of seccomp(2), made by libseccomp.

The binding is ours (docs/design/confinement.md).  A call that is not on the list fails with EPERM, a socket of another
family with EAFNOSUPPORT as under systemd's RestrictAddressFamilies.  The filter holds for this process and for those
that are forked from it, and for good.  The library is loaded by :func:`load_library`, while the process may still open
files; making and loading a filter opens none.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import socket
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

LIBRARY = "libseccomp.so.2"

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_EQUAL, _MASKED = 4, 7
"""Comparisons of an argument (enum scmp_compare)."""
_NO_SUCH_CALL = -1

CLONE_THREAD = 0x00010000
_CLONE_FLAGS = 1 if os.uname().machine == "s390x" else 0
MAP_TYPE, MAP_PRIVATE = 0x0F, 0x02
_IOCTLS = (
    0x5401,  # TCGETS: isatty
    0x5411,  # SIOCOUTQ
    0x541B,  # FIONREAD
    0x5421,  # FIONBIO
    0x5450,  # FIONCLEX
    0x5451,  # FIOCLEX
)
_HANDED_OUT = (0, 16)
"""Netlink families of which agents may ask for a socket: routes, and the generic ones."""
_SIOCGSKNS = 0x894C
"""Asks in which network namespace a socket is."""
_FCNTLS = (*range(8), 1030, 1031, 1032, 1033, 1034)
"""Duplicates, flags, locks, sizes of pipes and seals; F_SETOWN has the kernel send signals to others."""
_PR_SET_NAME = 15
_FOR_CHILDREN = (1, 4, 22, 35, 38)
"""Options of prctl with which a forked worker is set up: PDEATHSIG, DUMPABLE, SECCOMP, MM (the title), NO_NEW_PRIVS."""
_NAMESPACES = 0x7E020000
"""Flags of clone for new namespaces."""
_OPTIMIZE, _BY_TREE = 8, 2
"""Attribute of a filter, and its value: a binary tree in place of a list, since every call goes through it."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Argument(NamedTuple):
    """A condition on one argument of a system call: it is ``value``, or has these bits of ``mask``."""

    number: int
    value: int
    mask: int | None = None


class Rule(NamedTuple):
    """An allowed system call, if every condition holds.  ``refusal``: not allowed, but with this errno."""

    name: str
    conditions: Sequence[Argument] = ()
    refusal: int = 0


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


PLAIN = (
    # data
    "read write readv writev pread64 preadv recvfrom recvmsg recvmmsg sendto sendmsg sendmmsg shutdown"
    # descriptors
    " close close_range dup dup2 dup3 fstat fstat64 newfstatat fstatat64 stat lstat statx lseek _llseek"
    " getdents64 readlink readlinkat access faccessat faccessat2 getcwd umask"
    " poll ppoll ppoll_time64 select pselect6 pselect6_time64 epoll_create1 epoll_ctl epoll_wait epoll_pwait"
    " epoll_pwait2 eventfd2 pipe2 socketpair getsockname getpeername getsockopt setsockopt connect"
    # memory
    " mprotect munmap mremap madvise brk mincore mlock mlock2 munlock"
    # threads, time and signals to itself
    " futex futex_waitv futex_time64 set_robust_list get_robust_list rseq set_tid_address membarrier sched_yield"
    " sched_getaffinity sched_getparam sched_getscheduler getcpu clock_gettime clock_gettime64 clock_getres"
    " clock_nanosleep clock_nanosleep_time64 nanosleep gettimeofday time times getrusage timerfd_create timerfd_settime"
    " timerfd_gettime setitimer getitimer alarm rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend"
    " rt_sigtimedwait sigaltstack restart_syscall exit exit_group wait4 waitid"
    # itself
    " getpid gettid getppid getpgrp getpgid getsid getuid geteuid getgid getegid getresuid getresgid getgroups"
    " getrlimit uname sysinfo getrandom capget"
).split()
"""Calls that every process of the service may make, whatever their arguments."""


def worker_rules(pid: int) -> list[Rule]:
    """Return what a worker of an agent may do, which serves requests with what it was handed.  ``pid``: its own."""
    return [
        *map(Rule, PLAIN),
        Rule("socket", (Argument(0, socket.AF_UNIX),)),
        *(Rule("ioctl", (Argument(1, number),)) for number in _IOCTLS),
        *(Rule(name, (Argument(1, number),)) for name in ("fcntl", "fcntl64") for number in _FCNTLS),
        # Files are read at most, and Landlock says which.
        Rule("open", (Argument(1, 0, _WRITING),)),
        Rule("openat", (Argument(2, 0, _WRITING),)),
        Rule("mmap", (Argument(3, MAP_PRIVATE, MAP_TYPE),)),
        Rule("mmap2", (Argument(3, MAP_PRIVATE, MAP_TYPE),)),
        # Threads, but no processes.  Without clone3 the C library calls clone, whose flags a filter can look at.
        Rule("clone", (Argument(_CLONE_FLAGS, CLONE_THREAD, CLONE_THREAD),)),
        Rule("clone3", refusal=errno.ENOSYS),
        Rule("openat2", refusal=errno.ENOSYS),
        Rule("kill", (Argument(0, pid),)),
        Rule("tgkill", (Argument(0, pid),)),
        Rule("prctl", (Argument(0, _PR_SET_NAME),)),
        Rule("prlimit64", (Argument(2, 0),)),
        *_other_sockets(),
    ]


def keeper_rules(pid: int) -> list[Rule]:
    """Return what a keeper may do: a worker's part, fork workers and end them, and set them up."""
    own = [rule for rule in worker_rules(pid) if rule.name not in ("clone", "kill", "prctl", "prlimit64")]
    options = (_PR_SET_NAME, *_FOR_CHILDREN)
    return [
        *own,
        Rule("clone", (Argument(_CLONE_FLAGS, 0, _NAMESPACES),)),
        *(Rule(name, (Argument(0, os.PRIO_PROCESS),)) for name in ("getpriority", "setpriority")),
        *(Rule("prctl", (Argument(0, option),)) for option in options),
        *map(Rule, ("kill", "pidfd_open", "pidfd_send_signal", "prlimit64", "setrlimit", "mlockall", "munlockall")),
        *map(Rule, ("seccomp", "landlock_restrict_self", "landlock_create_ruleset", "landlock_add_rule", "capset")),
    ]


def cell_rules(pid: int) -> list[Rule]:
    """Return what a cell may do: a worker's part, make memory and netlink sockets that it hands on, and be nice.

    ``pid``: its own.
    """
    nice = (Argument(0, os.PRIO_PROCESS), Argument(1, pid))
    refused = Rule("socket", (Argument(0, socket.AF_NETLINK),), errno.EAFNOSUPPORT)
    families = [Rule("socket", (Argument(0, socket.AF_NETLINK), Argument(2, family))) for family in _HANDED_OUT]
    netlink = [*families, Rule("bind"), Rule("ioctl", (Argument(1, _SIOCGSKNS),))]
    handed_on = (Argument(2, mmap.PROT_READ), Argument(3, mmap.MAP_SHARED, MAP_TYPE))
    mapped = [Rule(name, handed_on) for name in ("mmap", "mmap2")]
    own = [rule for rule in worker_rules(pid) if rule != refused]
    return [*own, *netlink, *mapped, Rule("memfd_create"), Rule("getpriority", nice), Rule("setpriority", nice)]


def listener_rules(pid: int) -> list[Rule]:
    """Return what the process may do that serves the metrics: listen, and answer; it connects to nothing."""
    own = [rule for rule in worker_rules(pid) if rule.name not in ("socket", "connect", "open", "openat")]
    inet = [Rule("socket", (Argument(0, family),)) for family in (socket.AF_INET, socket.AF_INET6)]
    return [*own, *inet, *map(Rule, ("bind", "listen", "accept", "accept4"))]


def _other_sockets() -> Iterable[Rule]:
    families = (getattr(socket, name, None) for name in ("AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK"))
    for family in families:
        if family is not None:
            yield Rule("socket", (Argument(0, family),), errno.EAFNOSUPPORT)


@cache
def load_library() -> ctypes.CDLL | None:
    """Load libseccomp; None: it is not installed."""
    with contextlib.suppress(OSError):
        library = ctypes.CDLL(LIBRARY, use_errno=True)
        library.seccomp_init.restype = ctypes.c_void_p
        library.seccomp_init.argtypes = [ctypes.c_uint32]
        library.seccomp_release.argtypes = [ctypes.c_void_p]
        library.seccomp_load.argtypes = [ctypes.c_void_p]
        library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
        library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
        library.seccomp_rule_add_array.argtypes = [
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.POINTER(_Comparison),
        ]
        return library
    return None


def install(rules: Iterable[Rule]) -> str | None:
    """Allow this process these calls alone.  Return the reason why there is no filter, or None.

    The process has given up new privileges before (PR_SET_NO_NEW_PRIVS).
    """
    library = load_library()
    if library is None:
        return f"{LIBRARY} is not installed (Debian's package libseccomp2)"
    context = library.seccomp_init(_ERRNO | errno.EPERM)
    if not context:
        return "libseccomp makes no filter"
    try:
        library.seccomp_attr_set(context, _OPTIMIZE, _BY_TREE)  # refused by libseccomp before 2.5: it is slower there
        for rule in rules:
            problem = _add(library, context, rule)
            if problem:
                return f"seccomp: {rule.name}: {os.strerror(problem)}"
        result = library.seccomp_load(context)
        return f"seccomp: {os.strerror(-result)}" if result else None
    finally:
        library.seccomp_release(context)


def _add(library: ctypes.CDLL, context: int, rule: Rule) -> int:
    """Add a rule; return an errno, or 0.  A call that this machine does not have is passed over."""
    number = library.seccomp_syscall_resolve_name(rule.name.encode())
    if number == _NO_SUCH_CALL:
        return 0
    action = _ERRNO | rule.refusal if rule.refusal else _ALLOW
    conditions = (_Comparison * max(1, len(rule.conditions)))(*map(_comparison, rule.conditions))
    result: int = library.seccomp_rule_add_array(context, action, number, len(rule.conditions), conditions)
    return -result if result not in (0, -errno.EOPNOTSUPP) else 0


def _comparison(condition: Argument) -> _Comparison:
    if condition.mask is None:
        return _Comparison(condition.number, _EQUAL, condition.value, 0)
    return _Comparison(condition.number, _MASKED, condition.mask, condition.value)
