"""Look-up of the processes that have a socket open (/proc/PID/fd, proc(5)).

* The files of a process show its sockets, and are shown to who may trace it: root with CAP_SYS_PTRACE sees all
  processes, a process without it those of its own user that have no capability which it lacks itself.
* A netlink socket's port is its process's number by convention: the kernel gives the first socket of a process this
  port, libnl has it in the lower 22 bits.  A process may choose any other free port, and with it another's number.

No file outside /proc is opened, and nothing is imported.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from dataclasses import dataclass

LIBNL_PID_BITS = 22
_READ_SIZE = 4096


@dataclass(frozen=True, slots=True)
class Process:
    """A process.  ``uid``: its effective user; ``program``: the kernel's name for it, which the process may change."""

    pid: int
    uid: int
    program: str


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that has a socket open.

    ``certain``: True if its open files show it; False if only the socket's port names it.
    """

    process: Process
    certain: bool


@dataclass(frozen=True, slots=True)
class Unnamed:
    """The answer that the process of a socket could not be found, and the reason."""

    reason: str


def process(pid: int) -> Process | None:
    """Return what /proc/PID/status says, or None if there is no such process."""
    try:
        fd = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(fd, _READ_SIZE).decode(errors="replace")
    except OSError:
        return None
    finally:
        os.close(fd)
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    try:
        uid = int(fields["Uid"].split()[1])
    except (KeyError, IndexError, ValueError):
        return None
    name = "".join(letter if letter.isprintable() else "?" for letter in fields.get("Name", "?"))
    return Process(pid, uid, name)


def open_sockets(pid: int) -> set[int] | None:
    """Return the inodes of the sockets that a process has open, or None if its files are not shown to us."""
    found: set[int] = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                target = os.readlink(f"/proc/{pid}/fd/{name}")
                if target.startswith("socket:["):
                    found.add(int(target[8:-1]))
    except OSError:
        return None
    return found


def holder_by_port(inode: int, port: int) -> Holder | Unnamed:
    """Return the process that a netlink socket's port names, which few calls find out."""
    for pid in dict.fromkeys((port, port & (1 << LIBNL_PID_BITS) - 1)):
        named = process(pid) if 0 < pid < 1 << LIBNL_PID_BITS else None
        if named is None:
            continue
        shown = open_sockets(pid)
        if shown is None:
            return Holder(named, certain=False)
        if inode in shown:
            return Holder(named, certain=True)
    return Unnamed(f"its netlink port {port} names no process that has it open")


def holders(inodes: Collection[int]) -> tuple[dict[int, list[Process]], bool]:
    """Look through all processes; return the processes that have each socket open.

    The second value is True if the files of every process were shown to us, so that a socket without a process has none
    in this PID namespace.
    """
    found: dict[int, list[Process]] = {inode: [] for inode in inodes}
    complete = True
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        shown = open_sockets(pid)
        if shown is None:
            complete = complete and process(pid) is None
            continue
        matching = shown & found.keys()
        named = process(pid) if matching else None
        if named is not None:
            for inode in matching:
                found[inode].append(named)
    return found, complete
