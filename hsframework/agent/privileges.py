"""What a process gives up before it meets a peer: user, capabilities, core dumps, keyrings, new privileges.

The order matters, and :func:`drop_privileges` keeps it:

* Changing the user resets PR_SET_DUMPABLE and PR_SET_PDEATHSIG, so these come after it.
* Capabilities belong to a thread: everything here runs in the main thread, before any other is started.
* Root's interpreter may be unreadable to the agent's user, so one capability, CAP_DAC_READ_SEARCH, can be kept until
  the plugins are imported: :func:`drop_last_capability` ends that.

The default agent user is a number of its own for each protocol, from 60800 to 61055: systemd's table of user ids leaves
these unused, and nothing else runs or owns files under them.  It is not ``nobody``, which others use too.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import resource
import signal
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import structlog

from hsframework.errors import ConfigurationError

FIRST_AGENT_UID = 60800
AGENT_UIDS = 256

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
CAP_DAC_READ_SEARCH = 2
CAP_KILL = 5
CAP_NET_ADMIN = 12
CAP_SYS_ADMIN = 21
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4

_CAPABILITY_VERSION_3 = 0x20080522
_KEYCTL_JOIN_SESSION_KEYRING = 1
_MAX_CAPABILITIES = 64
# keyctl(2) has no wrapper in libc, and its number differs between machines.
_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "loongarch64": 219, "s390x": 280, "ppc64le": 271}

_log = structlog.get_logger("hsframework.agent")


@dataclass(frozen=True, slots=True)
class AgentUser:
    """``name`` for logs; a number's own digits where it has no entry."""

    name: str
    uid: int
    gid: int


def agent_user(configured: str | None, protocol: str) -> AgentUser | None:
    """The user for the agent of a protocol; None: stay who we are (not root, and no other user was asked for).

    ``configured``: a name or a number.  Raises ConfigurationError for one that is not there, or that cannot be had.
    """
    if configured is None:
        if os.geteuid() != 0:
            return None
        uid = FIRST_AGENT_UID + zlib.crc32(protocol.encode()) % AGENT_UIDS
        return AgentUser(str(uid), uid, uid)
    user = _look_up(configured)
    if os.geteuid() != 0:
        if user.uid == os.geteuid():
            return None
        raise ConfigurationError(
            f"only root can run an agent as {configured!r}; start it as root, or leave the user out"
        )
    return user


def _look_up(user: str) -> AgentUser:
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        if user.isdecimal():
            return AgentUser(user, int(user), int(user))
        raise ConfigurationError(f"there is no user {user!r}; create it or name another") from None
    except OverflowError:
        raise ConfigurationError(f"{user} is no user id") from None
    return AgentUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def drop_privileges(user: AgentUser | None, *, keep_read_search: bool = False) -> None:
    """Become ``user`` (None: stay) without groups, without capabilities, unable to gain any, and not dumpable.

    ``keep_read_search``: keep CAP_DAC_READ_SEARCH until :func:`drop_last_capability`.  Raises ConfigurationError.
    """
    if user is not None:
        _clear_bounding_set()
        _prctl(PR_SET_KEEPCAPS, 1)
        _become(user)
        _prctl(PR_SET_KEEPCAPS, 0)
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    _set_capabilities(1 << CAP_DAC_READ_SEARCH if keep_read_search and user is not None else 0)
    forbid_new_privileges()
    forbid_core_dumps()


def _become(user: AgentUser) -> None:
    try:
        os.setgroups([])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    except OSError as error:
        raise ConfigurationError(
            f"cannot become user {user.name}: {error.strerror}; name another, or start the service with CAP_SETUID "
            "and CAP_SETGID where this user id exists"
        ) from None


def drop_last_capability() -> None:
    """Give up what ``keep_read_search`` has kept."""
    _set_capabilities(0)


def keep_capabilities(capabilities: Iterable[int]) -> None:
    """Give up every capability but these, for this process and what it executes.  Not root: nothing to give up."""
    if os.geteuid() != 0:
        return
    kept = set(capabilities)
    for capability in range(_MAX_CAPABILITIES):
        if capability not in kept and not _prctl(PR_CAPBSET_DROP, capability) and ctypes.get_errno() == errno.EINVAL:
            break
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    _set_capabilities(_permitted() & sum(1 << capability for capability in kept))


def _permitted() -> int:
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), 8)
    data = ctypes.create_string_buffer(24)
    if _libc().capget(header, data):
        raise OSError(ctypes.get_errno(), "capget")
    _, low, _, _, high, _ = struct.unpack("=6I", data.raw)
    return int(low | high << 32)


def forbid_core_dumps() -> None:
    """No core dump, and no other process of this user may look into this one."""
    _prctl(PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def forbid_new_privileges() -> None:
    """Nothing that this process executes can gain privileges."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1, must=True)


def raise_fd_limit() -> int:
    """RLIMIT_NOFILE to what the hard limit allows; the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def join_own_session_keyring() -> bool:
    """A session keyring that nobody else has.  False: this kernel (or its sandbox) has no keyrings."""
    number = _SYS_KEYCTL.get(os.uname().machine)
    if number is None:
        return False
    result = _libc().syscall(ctypes.c_long(number), ctypes.c_long(_KEYCTL_JOIN_SESSION_KEYRING), None)
    if result < 0:
        _log.info("no session keyring of its own", reason=os.strerror(ctypes.get_errno()))
    return bool(result >= 0)


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process when its parent dies; at once when process ``parent`` is its parent no more."""
    _prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), must=True)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def lock_memory() -> None:
    """Keep what is in use in memory, never in swap.  Raises ConfigurationError when the limit does not allow it."""
    if _libc().mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT):
        reason = os.strerror(ctypes.get_errno())
        raise ConfigurationError(f"memory cannot be locked: {reason}; raise RLIMIT_MEMLOCK, or do not ask for it")


def set_oom_score(score: int) -> None:
    """How eagerly the kernel kills this process when memory is short, from -1000 to 1000; lowering it is root's.

    Raises ConfigurationError.
    """
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(score))
    except OSError as error:
        raise ConfigurationError(f"the OOM score cannot be set to {score}: {error.strerror}; start as root") from None


def _clear_bounding_set() -> None:
    for capability in range(_MAX_CAPABILITIES):
        if not _prctl(PR_CAPBSET_DROP, capability) and ctypes.get_errno() == errno.EINVAL:
            return


def _set_capabilities(mask: int) -> None:
    """Permitted and effective; nothing inheritable."""
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), 8)
    data = ctypes.create_string_buffer(struct.pack("=6I", low, low, 0, high, high, 0), 24)
    if _libc().capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


def _prctl(option: int, argument: int, *, must: bool = False) -> bool:
    result = _libc().prctl(option, *(ctypes.c_ulong(item) for item in (argument, 0, 0, 0)))
    if result < 0 and must:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
    return bool(result >= 0)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
