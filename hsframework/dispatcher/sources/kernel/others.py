"""Look-up of the members of the kernel's groups that are not ours: any process may join one.

The kernel then counts the process as an agent: a request waits for it, or is accepted by it (tlshd) and not by us.

Rules:

* A look-up that fails is :class:`NotSeen`, with the reason; an empty answer means that there is no member.
* A look takes one dump for each form and namespace, of at most :data:`MOST_SOCKETS` sockets, and opens no file; for a
  member that is new it opens files in /proc alone.
* Each member is logged once, when it is first seen.  At most :data:`MOST_REPORTS` are logged of one look.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import structlog

from hsframework.dispatcher.namespaces import network_namespace
from hsframework.dispatcher.sources.kernel.groups import FormGroups
from hsframework.errors import HsframeworkError
from hsframework.netlink.holders import Unnamed, holder_by_port
from hsframework.netlink.members import NETLINK_SOCK_DIAG, NetlinkSocket, netlink_sockets
from hsframework.netlink.socket import RequestSocket
from hsframework.probes import NotSeen

LOOK_INTERVAL = 2.0
"""Seconds between two looks."""

MOST_SOCKETS = 1024
MOST_REPORTS = 8
REPORT_TIME = 60.0
"""At most so many lines of the log, and one with the number of further members, in so many seconds: any user may join a
group again and again."""


_log = structlog.get_logger("hsframework.dispatcher")


@dataclass(frozen=True, slots=True)
class Member:
    """A netlink socket that is a member of a group.  ``form``: ``kernel`` or ``kernel-raw``."""

    form: str
    group: str
    socket: NetlinkSocket


def members(
    forms: Iterable[FormGroups], namespace: str | None = None, *, most: int | None = None
) -> list[Member] | NotSeen:
    """Return the members of the groups in a network namespace, ours among them, or the reason why they are not seen.

    ``namespace``: None is our own.  ``most``: sockets of a family that are looked through; None: all.
    """
    found = []
    try:
        with contextlib.nullcontext() if namespace is None else network_namespace(namespace):
            diag = RequestSocket(NETLINK_SOCK_DIAG)
        try:
            for form in forms:
                sockets = netlink_sockets(diag, form.protocol, most=most)
                for group, number in form.groups.items():
                    found += [Member(form.form, group, each) for each in sockets if each.in_group(number)]
        finally:
            diag.close()
    except (HsframeworkError, OSError) as error:
        return NotSeen(str(error))
    return found


class Watch:
    """A look every :data:`LOOK_INTERVAL` seconds, the first at once.

    ``forms``: if there is none, nothing is looked at.  ``ours``: returns the inodes of our own sockets.
    ``namespaces``: returns the namespaces that are served.  ``clock``: the loop's, or another for tests.
    """

    def __init__(
        self,
        forms: Collection[FormGroups],
        ours: Callable[[], Collection[int]],
        namespaces: Callable[[], Iterable[str | None]],
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._forms = forms
        self._clock = clock or loop.time
        self._ours = ours
        self._namespaces = namespaces
        self._loop = loop
        self._known: dict[str | None, set[int]] = {}
        """Inodes of the members that were seen at the last look."""
        self._problems: dict[str | None, str] = {}
        """Reasons why a look failed that were logged."""
        self._lines = MOST_REPORTS
        """Lines of the log that are left until :attr:`_refill`."""
        self._refill = self._clock() + REPORT_TIME
        self._further: dict[str | None, int] = {}
        """Members that were not named, by namespace."""
        self._timer: asyncio.TimerHandle | None = None
        if forms:
            self._look()

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK_INTERVAL, self._look)
        namespaces = list(self._namespaces())
        for gone in self._known.keys() - set(namespaces):
            del self._known[gone]
        if self._clock() >= self._refill:
            self._lines, self._refill = MOST_REPORTS, self._clock() + REPORT_TIME
        exhausted = self._lines <= 0
        for namespace in namespaces:
            self._look_at(namespace)
        if self._further and not exhausted:
            for namespace, number in self._further.items():
                _log.warning("further members of the kernel's groups", namespace=namespace, number=number)
            self._further.clear()

    def _look_at(self, namespace: str | None) -> None:
        seen = members(self._forms, namespace, most=MOST_SOCKETS)
        if isinstance(seen, NotSeen):
            if self._problems.get(namespace) != seen.reason and self._lines > 0:
                self._lines -= 1
                self._problems[namespace] = seen.reason
                _log.warning(
                    "the members of the kernel's groups cannot be looked up", namespace=namespace, reason=seen.reason
                )
            return
        self._problems.pop(namespace, None)
        ours, known = self._ours(), self._known.get(namespace, set())
        others = [member for member in seen if member.socket.inode not in ours]
        self._known[namespace] = {member.socket.inode for member in others}
        new = [member for member in others if member.socket.inode not in known]
        named = new[: self._lines]
        self._lines -= len(named)
        for member in named:
            _report(member, namespace)
        if len(new) > len(named):
            self._further[namespace] = self._further.get(namespace, 0) + len(new) - len(named)


def _report(member: Member, namespace: str | None) -> None:
    holder = holder_by_port(member.socket.inode, member.socket.port)
    if isinstance(holder, Unnamed):
        named: dict[str, object] = {"process": None, "reason": holder.reason}
    else:
        process = holder.process
        named = {"process": process.pid, "uid": process.uid, "program": process.program, "certain": holder.certain}
    _log.warning(
        "another process is a member of the kernel's group: requests may wait for it",
        source=member.form if namespace is None else f"{member.form}:{namespace}",
        group=member.group,
        port=member.socket.port,
        **named,
        advice="end it (tlshd: systemctl disable --now tlshd); 'hsframework doctor' names it with certainty",
    )
