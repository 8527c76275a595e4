"""Requests, as a source submits them and as the dispatcher keeps them, and their outcomes."""

from __future__ import annotations

import errno
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.keys.given import GivenTrust
from hsframework.dispatcher.messages import Parameters
from hsframework.dispatcher.offload import Offload
from hsframework.dispatcher.policy import PeerCredentials
from hsframework.dispatcher.requests.asked import Asked
from hsframework.dispatcher.requests.lifecycle import State
from hsframework.dispatcher.requests.limits import Counted
from hsframework.errors import is_shortage
from hsframework.interface import PresharedKey, Trust
from hsframework.local.turns import NOBODY, Turn

HIGHEST_URGENCY = 7


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a request, of which there is one.  ``status`` is 0 or a positive errno.

    ``values``: of the attribute set ``outcome``, without request id and status.  ``encoded``: the same of a success,
    and the status, as the agent encoded them; b"" where they are still to be.  ``passing``: True if the service itself
    was interrupted, so that the same request may succeed when it is made again.
    """

    status: int
    values: Mapping[str, Any] = field(default_factory=dict)
    encoded: bytes = field(default=b"", repr=False)
    passing: bool = False

    @classmethod
    def failure(cls, status: int, message: str) -> Outcome:
        """Return an outcome that the dispatcher itself decides."""
        return cls(status, {"message": message})

    @classmethod
    def interrupted(cls, message: str) -> Outcome:
        """Return the outcome of a request that fails because of the service, and not of the peer or the credentials."""
        return cls(errno.EIO, {"message": message}, passing=True)

    @classmethod
    def of_fault(cls, what: str, error: Exception) -> Outcome:
        """Return the outcome of a request that an exception of the dispatcher's ends: a shortage's errno, or EIO."""
        text = f"{what}: {str(error) or repr(error)}"
        if isinstance(error, OSError) and error.errno and is_shortage(error):
            return cls.failure(error.errno, text)
        return cls.interrupted(text)


class Source(Protocol):
    """Source of requests: the kernel, or consumers in user space."""

    name: str

    def group_opened(self, group: str) -> None:
        """Take requests in the group from now on: its first agent has joined."""

    def group_closed(self, group: str) -> None:
        """Take no more requests in the group: its last agent is gone."""

    def complete(self, request: PendingRequest, outcome: Outcome) -> None:
        """Deliver the outcome, after :meth:`~hsframework.dispatcher.custody.Custody.restore`.  Owns the custody.

        The dispatcher has forgotten the request.
        """

    def room_made(self, group: str) -> None:
        """Take requests of the group again: there was no room when this source asked, and now there is."""

    def group_number(self, group: str) -> int | None:
        """Return the number of the multicast group by which the group's requests are taken, 0 if that takes none.

        None: none are taken.
        """

    def restored(self, custody: Custody, values: Mapping[str, Any], outcome: Outcome | None) -> None:
        """Complete a request that an earlier dispatcher had taken from this source.  Owns ``custody``.

        ``outcome``: that of its handshake, by the agent's word; None: it was interrupted.
        """


class Agent(Protocol):
    """Link of a worker."""

    name: str
    """For logs."""
    peer: PeerCredentials
    protocol: str
    """The protocol that it serves, by its own word."""
    kernel_tls: str
    """Its use of the kernel's TLS, by its own word."""
    joined_at: float
    """On the loop's clock."""
    socket_protocols: frozenset[int]
    """SO_PROTOCOL of the sockets that it serves; empty: any."""

    def announce(self, group: str) -> None:
        """Send READY, unless one is under way already."""

    def withdraw(self, request_id: int, reason: int) -> None:
        """Send CANCEL: the request has been completed without the agent.  ``reason`` is an errno."""

    def watch(self) -> None:
        """Kill the agent unless it sends something soon: it has missed a deadline."""


def no_key(identity: bytes) -> PresharedKey | None:
    """Return None: the default ``psk_lookup``, which finds nothing."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """Request as its source makes it.  It may be submitted again and again, each time with another socket."""

    source: Source
    consumer: Hashable
    """The consumer for which the limit per consumer counts."""
    group: str
    timeout: float
    """Seconds that the agent has."""
    parameters: Parameters = field(repr=False)
    trust: Trust | GivenTrust | None = None
    psk_lookup: Callable[[bytes], PresharedKey | None] = no_key
    """Returns the key that PSK-LOOKUP finds."""
    urgency: int = 0
    kernel_consumer: bool = False
    rule: str = ""
    """Label of the ``[[rule]]`` by which it has its profile; empty: there are none for its role."""
    asked: Asked | None = field(default=None, repr=False)
    """Facts for the log, and for a later judgement; None: the source has none."""


@dataclass(slots=True, eq=False)
class PendingRequest:
    """Request that is taken and not closed.  The dispatcher makes it, and alone changes it.

    ``agent``: the one that has it in hand, from ACCEPT on.
    """

    submission: Submission
    custody: Custody
    origin: object
    """Of the source, which finds it here when it completes the request."""
    id: int
    taken_at: float
    deadline: float
    """On the loop's clock, as ``taken_at``."""
    ticket: int = 0
    """Of the deadline."""
    pulled_at: float | None = None
    """On the loop's clock; None: no agent has had it."""
    counted: Counted = ()
    """Of the limits."""
    turn: Turn = NOBODY
    """The consumer and the network for which it takes its turn."""
    state: State = State.QUEUED
    agent: Agent | None = None
    outcome: Outcome | None = None
    offload: Offload | None = None
    """The place where a session is protected; None: there is no session."""
