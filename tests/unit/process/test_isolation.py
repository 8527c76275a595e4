"""Isolation of processes of one user: what reaches another process is refused, what a process does to itself is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hsframework.process.isolation import _CALLS

ROOT = Path(__file__).parents[3]

PROGRAM = """
import ctypes, errno, json, os, resource, signal, sys, threading, fcntl
from hsframework.process.capabilities import forbid_new_privileges
from hsframework.process.isolation import forbid_reaching_others
victim = int(sys.argv[1])
pidfd = os.pidfd_open(victim)
forbid_new_privileges()
assert forbid_reaching_others() is None
libc = ctypes.CDLL(None, use_errno=True)
def tried(act):
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "ok"
def called(*arguments):
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
own = os.getpid()
signal.signal(signal.SIGUSR1, lambda *_: None)
reader, writer = os.pipe()
print(json.dumps({
    "kill": tried(lambda: os.kill(victim, signal.SIGUSR1)),
    "group": tried(lambda: os.kill(0, 0)),
    "all": tried(lambda: os.kill(-1, 0)),
    "pidfd": tried(lambda: signal.pidfd_send_signal(pidfd, signal.SIGUSR1)),
    "owner": tried(lambda: fcntl.fcntl(reader, fcntl.F_SETOWN, victim)),
    "limits": tried(lambda: resource.prlimit(victim, resource.RLIMIT_NOFILE, (1, 1))),
    "affinity": tried(lambda: os.sched_setaffinity(victim, {0})),
    "priority": tried(lambda: os.setpriority(os.PRIO_PROCESS, victim, 19)),
    "forbidden": sorted({tried(lambda: called(number, victim, 0, 0, 0, 0, 0)) for number in json.loads(sys.argv[2])}),
    "self kill": tried(lambda: os.kill(own, signal.SIGUSR1)),
    "self thread": tried(lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)),
    "self limits": tried(lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0))),
    "self flags": tried(lambda: fcntl.fcntl(reader, fcntl.F_SETFL, os.O_NONBLOCK)),
    "self fork": tried(lambda: os.fork() or os._exit(0)),
}))
"""


@pytest.mark.skipif(os.uname().machine not in _CALLS, reason="the numbers of this machine's system calls are not known")
def test_what_reaches_another_process_is_refused() -> None:
    """Each way to signal, trace, read or change it fails with EPERM; the same for itself works."""
    calls = _CALLS[os.uname().machine]
    with subprocess.Popen(["sleep", "3600"]) as victim:
        try:
            ended = subprocess.run(
                [sys.executable, "-c", PROGRAM, str(victim.pid), json.dumps(calls.forbidden)],
                capture_output=True, text=True, check=False, cwd=ROOT, timeout=60,
            )  # fmt: skip
            assert ended.returncode == 0, ended.stderr
            found = json.loads(ended.stdout)
            assert found.pop("forbidden") == ["EPERM"]
            assert {name: end for name, end in found.items() if not name.startswith("self")} == dict.fromkeys(
                ("kill", "group", "all", "pidfd", "owner", "limits", "affinity", "priority"), "EPERM"
            )
            assert {end for name, end in found.items() if name.startswith("self")} == {"ok"}
            assert victim.poll() is None
        finally:
            victim.send_signal(signal.SIGKILL)
