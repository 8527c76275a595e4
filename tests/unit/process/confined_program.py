"""A process that confines itself as a worker and then tries what native code in its place would: ctypes, no audit hook.

It prints a line of JSON: what was tried, and how it ended.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

from hsframework.dispatcher.namespaces import netlink_beside
from hsframework.interface import Trust
from hsframework.local.trustfile import create_trust_file
from hsframework.process.capabilities import forbid_new_privileges, set_capabilities
from hsframework.process.confinement import (
    confine_cell,
    confine_keeper,
    confine_worker,
    files_of_a_cell,
    prepare_confinement,
)

LIBC = ctypes.CDLL(None, use_errno=True)
SYS_FORK, SYS_CLONE3, SYS_UNSHARE, SYS_SETNS, SYS_PTRACE, SYS_BPF = 57, 435, 272, 308, 101, 321
NEW_USER, NEW_NET = 0x10000000, 0x40000000


def called(name: str, *arguments: int | bytes) -> None:
    ctypes.set_errno(0)
    if getattr(LIBC, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def forked() -> None:
    ctypes.set_errno(0)
    pid = LIBC.fork()
    if pid == 0:
        os._exit(0)
    if pid < 0:
        raise OSError(ctypes.get_errno(), "fork")
    os.waitpid(pid, 0)


def written(path: str) -> None:
    with open(path, "w") as file:
        file.write("x")


def read(path: str) -> None:
    with open(path) as file:
        file.read(1)


def connected() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect("\0hsframework-nobody-listens")


def forbidden(place: str, log: int) -> dict[str, Callable[[], object]]:
    return {
        "a TCP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "an IPv6 socket": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
        "a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12),
        "a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        "another family": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM),
        "a file in a folder that anybody may write": lambda: written(f"{place}/file"),
        "a file of its own program": lambda: written(f"{os.path.dirname(__file__)}/evil_from_agent"),
        "a file read elsewhere": lambda: read("/etc/passwd"),
        "the processes": lambda: os.listdir("/proc"),
        "the command line of another": lambda: read(f"/proc/{os.getppid()}/cmdline"),
        "a fork": forked,
        "vfork": lambda: called("syscall", 58),
        "a program": lambda: subprocess.run(["/bin/true"], check=False),
        "execve": lambda: os.execv("/bin/true", ["true"]),
        "a user namespace": lambda: called("unshare", NEW_USER | NEW_NET),
        "another's namespace": lambda: called("syscall", SYS_SETNS, 0, 0),
        "a signal to its parent": lambda: os.kill(os.getppid(), 0),
        "a signal to everybody": lambda: os.kill(-1, 0),
        "signals to its parent by a pipe": lambda: fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getppid()),
        "a signal by pidfd": lambda: signal.pidfd_send_signal(os.pidfd_open(os.getppid()), 0),
        "a trace of its parent": lambda: called("syscall", SYS_PTRACE, 16, os.getppid(), 0, 0),
        "its parent's memory": lambda: called("syscall", 310, os.getppid(), 0, 0, 0, 0, 0),
        "a BPF program": lambda: called("syscall", SYS_BPF, 0, 0, 0),
        "io_uring": lambda: called("syscall", 425, 1, 0),
        "a key": lambda: called("syscall", 248, b"user", b"x", b"x", 1, -4),
        "userfaultfd": lambda: called("syscall", 323, 0),
        "perf": lambda: called("syscall", 298, 0, 0, -1, -1, 0),
        "a memfd": lambda: os.memfd_create("x"),
        "shared memory": lambda: mmap.mmap(-1, 4096, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS),
        "the log cut off": lambda: os.ftruncate(log, 0),
        "a larger limit": lambda: __import__("resource").setrlimit(4, (1, 1)),
        "another's niceness": lambda: os.setpriority(os.PRIO_USER, 0, 19),
        "a priority": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
        "a mount": lambda: called("mount", b"none", place.encode(), b"tmpfs", 0, b""),
        "another root": lambda: os.chroot(place),
        "a port": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).bind(f"{place}/socket"),
        "another personality": lambda: called("personality", 0x0040000),
    }


def threads() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.set)
    thread.start()
    assert done.wait(20)
    thread.join()


def aborted_itself() -> None:
    received: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: received.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    assert received


def asynchronous() -> None:
    import asyncio

    async def run() -> None:
        one, other = socket.socketpair()
        reader, _ = await asyncio.open_connection(sock=one)
        other.send(b"x")
        assert await reader.read(1) == b"x"

    asyncio.run(run())


def allowed(handed: socket.socket) -> dict[str, Callable[[], object]]:
    return {
        "a thread": threads,
        "a signal to itself": aborted_itself,
        "an event loop": asynchronous,
        "a late import": lambda: __import__("wave"),
        "the socket that it was handed": lambda: (handed.send(b"x"), handed.setsockopt(6, 1, 1)),
        "a unix socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET),
        "randomness": lambda: os.urandom(8),
        "its log": lambda: os.write(2, b"a line\n"),
    }


def of_a_cell(handed: socket.socket) -> dict[str, Callable[[], object]]:
    return {
        "a netlink socket for an agent": lambda: netlink_beside(handed.fileno(), 16).close(),
        "a file in memory for an agent": lambda: os.close(create_trust_file(Trust((b"an anchor",)))[0]),
        "its own niceness": lambda: os.setpriority(os.PRIO_PROCESS, os.getpid(), 19),
    }


def outcome(act: Callable[[], object]) -> str:
    try:
        act()
    except ModuleNotFoundError as error:
        return f"no module {error.name}"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except ValueError as error:  # of setrlimit, for EPERM
        return "EPERM" if "not allowed" in str(error) else repr(error)
    except (AssertionError, RuntimeError) as error:
        return repr(error)
    return "done"


def main() -> None:
    place, log = sys.argv[1], os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND)
    server = socket.create_server(("127.0.0.1", 0))
    handed = socket.create_connection(server.getsockname())
    set_capabilities(0)
    forbid_new_privileges()
    prepare_confinement()
    confine: dict[str, Callable[[], list[str]]] = {
        "cell": lambda: confine_cell(files_of_a_cell()),
        "keeper": confine_keeper,
        "worker": lambda: confine_worker(own_user=False),
    }
    problems = confine[sys.argv[3]]()
    tried = {name: outcome(act) for name, act in forbidden(place, log).items()}
    more = of_a_cell(handed) if sys.argv[3] == "cell" else {}
    may = {name: outcome(act) for name, act in {**allowed(handed), **more}.items()}
    print(json.dumps({"problems": problems, "forbidden": tried, "allowed": may}))


if __name__ == "__main__":
    main()
