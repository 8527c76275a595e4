"""Multicast groups: their members, and the requests that wait in them.

A group is *open* while an agent has joined it, and for a grace period after its last agent went away and is expected
back: it crashed, or said so when it left.  Requests are taken while the group is open, and while an agent takes sockets
of their SO_PROTOCOL, with the same period of grace.
"""

from __future__ import annotations

import asyncio
import errno
import math
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator

from hsframework.dispatcher.requests.request import HIGHEST_URGENCY, Agent, PendingRequest
from hsframework.errors import RequestRefused
from hsframework.local.turns import Turns

MOST_GROUPS = 256
"""Groups that are remembered, beside those that are open: agents choose the names, which must not cost for good."""

_ANY = -1
"""Key of agents that take sockets of any SO_PROTOCOL."""


class Group:
    """Multicast group.  With equally urgent requests, consumers take turns (:mod:`hsframework.local.turns`).

    ``patience``: seconds for which an agent that is gone may be back, on ``clock``.
    """

    def __init__(self, name: str, patience: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._patience = patience
        self._now = clock
        self.members: set[Agent] = set()
        self.grace: asyncio.TimerHandle | None = None
        self._served: dict[int, float] = {}
        """Time until which sockets of an SO_PROTOCOL are taken, on the clock."""
        self._queues: tuple[Turns[PendingRequest], ...] = tuple(Turns() for _ in range(HIGHEST_URGENCY + 1))
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
        self._served.update(dict.fromkeys(agent.socket_protocols or (_ANY,), math.inf))

    def leave(self, agent: Agent, *, expected_back: bool) -> None:
        """Remove an agent; for a time, an agent in its place is expected to take such sockets as it did."""
        self.members.discard(agent)
        others = {protocol for each in self.members for protocol in each.socket_protocols or (_ANY,)}
        for protocol in set(agent.socket_protocols or (_ANY,)) - others:
            self._served[protocol] = self._now() + self._patience if expected_back else 0.0

    def serves(self, socket_protocol: int) -> bool:
        """True if a member of the group takes sockets of this SO_PROTOCOL now."""
        return any(not each.socket_protocols or socket_protocol in each.socket_protocols for each in self.members)

    def may_serve(self, socket_protocol: int) -> bool:
        """True if an agent of the group takes sockets of this SO_PROTOCOL, or may be back at once to do so."""
        if not self.members:
            return True
        return max(self._served.get(key, 0.0) for key in (_ANY, socket_protocol)) > self._now()

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
                f"no agent in the group {self.name!r} serves {kind(request.custody.protocol)} sockets; name another "
                "group, or hand over another socket",
                errno=errno.ESRCH,
            )
        self._queues[request.submission.urgency].append(request, request.turn, request.custody.protocol)
        self._waiting += 1

    def pull(self, socket_protocols: Collection[int], most: int) -> list[PendingRequest]:
        """Remove and return up to ``most`` requests whose sockets have one of these SO_PROTOCOLs (empty: any)."""
        found: list[PendingRequest] = []
        for queue in self._foremost_first:
            found += queue.take(most - len(found), socket_protocols)
        self._waiting -= len(found)
        return found

    def remove(self, request: PendingRequest) -> None:
        """Remove a request that has ended while it waited, or was refused after all."""
        self._queues[request.submission.urgency].remove(request, request.turn)
        self._waiting -= 1

    def __iter__(self) -> Iterator[PendingRequest]:
        for queue in self._foremost_first:
            yield from queue


def check_share(served: Collection[str], wanted: Iterable[str], most: int) -> None:
    """Raise RequestRefused (EAGAIN) if there is no share of the descriptors for the wanted groups too."""
    if len({*served, *wanted}) > most:
        listed = ", ".join(sorted(served))
        raise RequestRefused(f"{most} groups are served at once ({listed}); raise limits.groups", errno=errno.EAGAIN)


def kind(protocol: int) -> str:
    """Return the name of sockets with an SO_PROTOCOL."""
    return {0: "unix", socket.IPPROTO_TCP: "TCP", socket.IPPROTO_UDP: "UDP"}.get(protocol, f"protocol {protocol}")
