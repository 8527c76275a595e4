"""Privileges that a process gives up, by the kernel's account: each test in a process of its own."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys

import pytest

from hsframework.agent.privileges import AgentUser, agent_user
from hsframework.configuration.agent_users import AGENT_UIDS, FIRST_AGENT_UID
from hsframework.errors import ConfigurationError


def run(code: str) -> str:
    """Run Python code in a new process; what it prints."""
    prelude = (
        "import ctypes, os, resource, signal\n"
        "from hsframework.agent.privileges import *\nfrom hsframework.process.capabilities import *\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", prelude + code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_no_core_dumps_and_no_peeking() -> None:
    """PR_GET_DUMPABLE is 0 and RLIMIT_CORE is 0."""
    code = (
        "forbid_core_dumps(); print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE))"
    )
    assert run(code) == "0 0 0"


def test_no_new_privileges() -> None:
    """PR_GET_NO_NEW_PRIVS is 1."""
    assert run("forbid_new_privileges(); print(ctypes.CDLL(None).prctl(39, 0, 0, 0, 0))") == "1"


def test_fd_limit_goes_to_the_hard_one() -> None:
    """The soft limit becomes the hard one, and is returned."""
    code = (
        "kind = resource.RLIMIT_NOFILE; hard = resource.getrlimit(kind)[1]; resource.setrlimit(kind, (100, hard))\n"
        "print(raise_fd_limit() == hard == resource.getrlimit(kind)[0])"
    )
    assert run(code) == "True"


def test_session_keyring_of_its_own() -> None:
    """The session keyring changes on a kernel that has keys; elsewhere the answer is False, and no error."""
    code = (
        "libc = ctypes.CDLL(None); get = lambda: libc.syscall(250, 0, -3, 0)\n"
        "before = get(); joined = join_own_session_keyring(); print(joined == (get() != before))"
    )
    if os.uname().machine != "x86_64":
        code = "print(join_own_session_keyring() in (True, False))"
    assert run(code) == "True"


def test_orphans_die_at_once() -> None:
    """A process whose parent has gone already is killed when it asks to die with it."""
    code = "pid = os.fork()\nif not pid: die_with_parent(1 << 30)\nelse: print(os.waitpid(pid, 0)[1])"
    assert run(code) == "9"


NO_LOCK = """
from hsframework.configuration.settings import MemorySettings
from hsframework.errors import ConfigurationError
from hsframework.process.lock import *
resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
set_capabilities(0)
settings = MemorySettings(lock=True, oom_score_adjust=-1000)
for action in (lambda: lock_memory(settings), lambda: prepare_protection(settings)):
    try:
        action()
    except ConfigurationError as error:
        print(str(error).partition(":")[0], end=", ")
lock_memory(MemorySettings())
print(why_not_locked(), "|", why_not_scored(-1000).partition(" now")[2])
"""


def test_memory_that_cannot_be_locked() -> None:
    """Without the right to it, what was asked for is an error that says what to change, and doctor says it before."""
    assert run(NO_LOCK) == (
        "memory cannot be locked, memory.oom-score-adjust, "
        "RLIMIT_MEMLOCK is 0 KiB | , and lowering it takes CAP_SYS_RESOURCE"
    )


DROP = """
def capability(name):
    return next(line.split()[1] for line in open("/proc/self/status") if line.startswith(name))
user = agent_user(None, "toy")
drop_privileges(user)
kept = capability("CapPrm"), capability("CapEff")
drop_last_capability()
print(user is None or os.getresuid() == (user.uid,) * 3, os.getgroups() == [] or user is None,
      kept == (("0" * 16,) * 2 if user is None else ("0" * 15 + "4",) * 2),
      {capability("CapPrm"), capability("CapEff"), capability("CapInh")} == {"0" * 16},
      ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


def test_privileges_are_dropped_in_two_steps() -> None:
    """Reading everything is kept until the second step; afterwards there is no capability at all."""
    assert run(DROP) == "True True True True 0"


def test_default_users() -> None:
    """As root each protocol has a number of its own, always the same; another user stays who he is."""
    first, second = agent_user(None, "tls13"), agent_user(None, "quic")
    if os.geteuid():
        assert (first, second) == (None, None)
    else:
        assert first is not None
        assert second is not None
        assert first.uid != second.uid
        assert FIRST_AGENT_UID <= first.uid < FIRST_AGENT_UID + AGENT_UIDS
        assert agent_user(None, "tls13") == first


def test_configured_users() -> None:
    """A name or a number; one that does not exist is said; only root changes to another."""
    with pytest.raises(ConfigurationError, match="there is no user 'no such user'"):
        agent_user("no such user", "tls13")
    entry = pwd.getpwuid(65534)
    if os.geteuid():
        with pytest.raises(ConfigurationError, match="only root"):
            agent_user("0", "tls13")
        assert agent_user(str(os.geteuid()), "tls13") is None
    else:
        assert agent_user(entry.pw_name, "tls13") == AgentUser(entry.pw_name, entry.pw_uid, entry.pw_gid)
        assert agent_user("54321", "tls13") == AgentUser("54321", 54321, 54321)
