"""Ends of connections of a process that cannot be ended, because it is in an uninterruptible wait.

Whoever is at the other end would wait as long.  Its unix sockets are found by /proc, copied (pidfd_getfd(2), Linux 5.6)
and shut down.  No call here takes the lock of a socket of another kind, which may be what the process waits for.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from hsframework.process.capabilities import libc

_PIDFD_GETFD = 438
"""The same on every architecture."""

_SEQPACKET = "0005"


def shut_links(pid: int) -> None:
    """Shut down every SOCK_SEQPACKET connection of a process, as far as this one may reach it.

    To be called in a child that ends at once: the copy that is closed may be the last, and hold what blocks.
    """
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(pid)
        for number in _links(pid):
            copy = libc().syscall(_PIDFD_GETFD, pidfd, number, 0)
            if copy >= 0:
                # With its family, so that Python asks for nothing.
                with contextlib.suppress(OSError):
                    socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=copy).shutdown(socket.SHUT_RDWR)


def _links(pid: int) -> Iterator[int]:
    """Yield the descriptors that are SOCK_SEQPACKET sockets."""
    lines = [line.split() for line in Path(f"/proc/{pid}/net/unix").read_text("ascii", "replace").splitlines()[1:]]
    names = {f"socket:[{line[6]}]" for line in lines if line[4] == _SEQPACKET}
    for entry in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{entry}") in names:
                yield int(entry)
