"""Multicast groups: their members, and the requests that wait in them.

A group is *open* while an agent has joined it, and for a grace period after its last agent went away and is expected
back: it crashed, or said so when it left.  Requests are taken while the group is open.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Collection, Iterable, Iterator

from hsframework.dispatcher.requests.request import HIGHEST_URGENCY, Agent, PendingRequest
from hsframework.errors import RequestRefused

MOST_GROUPS = 256
"""Groups that are remembered, beside those that are open: agents choose the names, which must not cost for good."""


class Group:
    """Multicast group.  Of equally urgent requests, first come is first served."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: set[Agent] = set()
        self.grace: asyncio.TimerHandle | None = None
        self._served: set[int] = set()
        self._serves_any = False
        self._queues: tuple[deque[PendingRequest], ...] = tuple(deque() for _ in range(HIGHEST_URGENCY + 1))
        self._foremost_first = tuple(reversed(self._queues))
        self._waiting = 0

    @property
    def open(self) -> bool:
        """True if the group has an agent, or one is expected back at once."""
        return bool(self.members) or self.grace is not None

    def end_grace(self) -> None:
        """Wait no longer for an agent to come back."""
        if self.grace is not None:
            self.grace.cancel()
            self.grace = None

    def join(self, agent: Agent) -> None:
        """Add an agent."""
        self.members.add(agent)
        self._served |= agent.socket_protocols
        self._serves_any |= not agent.socket_protocols

    def may_serve(self, socket_protocol: int) -> bool:
        """True if an agent of the group has ever served sockets of this SO_PROTOCOL: it may be back at once."""
        return self._serves_any or socket_protocol in self._served or not self.members

    def __len__(self) -> int:
        return self._waiting

    def admit(self, request: PendingRequest) -> None:
        """Queue a request.  Raises RequestRefused (ESRCH) if the group is not open, or serves no such sockets."""
        if not self.open:
            raise RequestRefused(
                f"no agent listens in the group {self.name!r}; start one with 'hsframework agent', or see in the "
                "service's log why there is none",
                errno=errno.ESRCH,
            )
        if not self.may_serve(request.custody.protocol):
            raise RequestRefused(
                f"no agent in the group {self.name!r} serves {_kind(request.custody.protocol)} sockets; name another "
                "group, or hand over another socket",
                errno=errno.ESRCH,
            )
        self._queues[request.submission.urgency].append(request)
        self._waiting += 1

    def pull(self, socket_protocols: Collection[int], most: int) -> list[PendingRequest]:
        """Remove and return up to ``most`` requests whose sockets have one of these SO_PROTOCOLs (empty: any)."""
        found: list[PendingRequest] = []
        for queue in self._foremost_first:
            if not queue:
                continue
            others: list[PendingRequest] = []
            while queue and len(found) < most:
                request = queue.popleft()
                if not socket_protocols or request.custody.protocol in socket_protocols:
                    found.append(request)
                else:
                    others.append(request)
            queue.extendleft(reversed(others))
        self._waiting -= len(found)
        return found

    def remove(self, request: PendingRequest) -> None:
        """Remove a request that has ended while it waited, or was refused after all: that one is the last."""
        queue = self._queues[request.submission.urgency]
        if queue[-1] is request:
            queue.pop()
        else:
            queue.remove(request)
        self._waiting -= 1

    def __iter__(self) -> Iterator[PendingRequest]:
        for queue in self._foremost_first:
            yield from list(queue)


def check_share(served: Collection[str], wanted: Iterable[str], most: int) -> None:
    """Raise RequestRefused (EAGAIN) if there is no share of the descriptors for the wanted groups too."""
    if len({*served, *wanted}) > most:
        listed = ", ".join(sorted(served))
        raise RequestRefused(f"{most} groups are served at once ({listed}); raise limits.groups", errno=errno.EAGAIN)


def _kind(protocol: int) -> str:
    return {0: "unix", socket.IPPROTO_TCP: "TCP", socket.IPPROTO_UDP: "UDP"}.get(protocol, f"protocol {protocol}")
