"""Members of the kernel's groups that are not the service's, for ``doctor``.

A socket is the service's if a process that has it open has the service's listening socket open too: no other process
can get at that one, whatever it calls itself.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from hsframework.dispatcher.sources.kernel.groups import FormGroups
from hsframework.dispatcher.sources.kernel.others import Member, members
from hsframework.netlink.holders import Holder, Unnamed, holder_by_port, holders
from hsframework.probes import NotSeen

UNIX = Path("/proc/thread-self/net/unix")
_LISTENS = 0x10000


@dataclass(frozen=True, slots=True)
class Other:
    """A member that is not known to be the service's.

    ``certain``: False if it may be: the files of not all processes are shown to us.
    """

    member: Member
    holder: Holder | Unnamed
    certain: bool


@dataclass(frozen=True, slots=True)
class Members:
    """The members in one network namespace.  ``ours``: number of those that are the service's."""

    ours: int
    others: tuple[Other, ...]


def told_apart(forms: Collection[FormGroups], namespace: str | None, listener: Path) -> Members | NotSeen:
    """Return the members in a network namespace, or the reason why they are not seen.

    ``namespace``: None is our own.  ``listener``: path of the service's listening socket.
    """
    seen = members(forms, namespace)
    if isinstance(seen, NotSeen):
        return seen
    listening = listening_sockets(listener)
    found, complete = holders({member.socket.inode for member in seen} | listening)
    service = {process.pid for inode in listening for process in found[inode]}
    others = []
    for member in seen:
        having = found[member.socket.inode]
        if any(process.pid in service for process in having):
            continue
        if having:
            others.append(Other(member, Holder(having[0], certain=True), certain=True))
        else:
            others.append(Other(member, holder_by_port(member.socket.inode, member.socket.port), certain=complete))
    return Members(len(seen) - len(others), tuple(others))


def listening_sockets(path: Path) -> set[int]:
    """Return the inodes of the unix sockets that listen at a path, which are none if the table cannot be read."""
    try:
        lines = UNIX.read_text(errors="replace").splitlines()[1:]
    except OSError:
        return set()
    # Num RefCount Protocol Flags Type St Inode Path
    rows = [line.split(None, 7) for line in lines]
    return {int(row[6]) for row in rows if len(row) == 8 and row[7] == str(path) and int(row[3], 16) & _LISTENS}
