"""Core of the dispatcher: requests come from sources, agents pull them, and each is completed exactly once.

It runs on one asyncio loop and holds no lock.  What happens to a request goes through :meth:`Dispatcher.happen`, which
looks the row up in the table of :mod:`~hsframework.dispatcher.requests.lifecycle` and does the actions in order;
nothing else changes a request's state.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any

import structlog

from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.custody import Closer, Custody
from hsframework.dispatcher.offload import OffloadLookup
from hsframework.dispatcher.planted import session_planted
from hsframework.dispatcher.requests.groups import Group
from hsframework.dispatcher.requests.lifecycle import TABLE, Action, Event, State
from hsframework.dispatcher.requests.limits import PendingLimits
from hsframework.dispatcher.requests.request import Agent, Outcome, PendingRequest, Source, Submission
from hsframework.errors import RequestRefused, errno_name
from hsframework.local.deadlines import Deadlines
from hsframework.telemetry.metrics import Metrics

DEADLINE_MARGIN = 0.2
"""Seconds that the dispatcher waits longer than the agent."""

_log = structlog.get_logger("hsframework.dispatcher")


class Dispatcher:
    """Requests, groups and sources of a dispatcher process."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        expected_groups: Iterable[str] = (),
        loop: asyncio.AbstractEventLoop | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.configuration = configuration
        self.metrics = metrics or Metrics()
        self.sources: dict[str, Source] = {}
        self.requests: dict[int, PendingRequest] = {}
        self.groups: dict[str, Group] = {}
        self.offload: OffloadLookup | None = None
        self._loop = loop or asyncio.get_running_loop()
        self._limits = PendingLimits(configuration.limits)
        self._inodes: set[int] = set()
        self._starved: set[Source] = set()
        self._numbers = count(1)
        self._closer = Closer()
        self._deadlines: Deadlines[PendingRequest] = Deadlines(self._loop, self._deadline)
        # Bound once: the module's own logger is bound anew by every call, which costs more than what it drops.
        self._log = _log.bind()
        self._actions: Mapping[Action, Callable[[PendingRequest], Event | None]] = {
            Action.SHUT_DOWN: lambda request: request.custody.shut_down(),
            Action.COMPLETE: self._complete,
            Action.TELL_AGENT: self._tell_agent,
            Action.WATCH_AGENT: self._watch_agent,
            Action.RELEASE: self._release,
        }
        for name in expected_groups:
            self._await_agent(self._group(name))

    # Called by sources

    def add_source(self, source: Source) -> None:
        """Register a source, and call its ``group_opened`` for every group that is open already."""
        self.sources[source.name] = source
        for group in self.groups.values():
            if group.open:
                source.group_opened(group.name)

    def remove_source(self, source: Source) -> None:
        """Remove a source, and end its requests without completion: there is nobody to receive it."""
        if self.sources.get(source.name) is source:
            del self.sources[source.name]
        self._starved.discard(source)
        for request in [request for request in self.requests.values() if request.submission.source is source]:
            request.custody.shut_down()
            self.consumer_gone(request)

    def take_socket(self, fd: int, *, trusted: bool = False, connected: bool = True) -> Custody:
        """Take custody of a user's socket, until the request's end or ``custody.release()``.

        ``trusted``: the consumer would not set SO_LINGER behind our back.  ``connected``: refuse a socket that is not.
        Raises RequestRefused.
        """
        return Custody(fd, self._closer.close, trusted=trusted, connected=connected)

    def close_fd(self, fd: int) -> None:
        """Close off the loop an fd that may hold the last copy of a user's socket."""
        self._closer.close(fd)

    def submit(self, submission: Submission, custody: Custody, origin: object = None) -> PendingRequest:
        """Take a request for a socket, and announce it.  ``origin``: the source's own, kept with the request.

        Raises RequestRefused; the custody of a refused request stays the caller's.
        """
        group = self._group_for(submission.group, custody.protocol)
        if custody.inode in self._inodes:
            raise RequestRefused("a handshake is under way on this socket", errno=errno.EBUSY)
        self._limits.take(submission.consumer, submission.group, custody.peer_host)
        self._inodes.add(custody.inode)
        now = self._loop.time()
        request = PendingRequest(submission, custody, origin, self._next_id(), now, now + submission.timeout)
        request.ticket = self._deadlines.add(request, request.deadline + DEADLINE_MARGIN)
        self.requests[request.id] = request
        group.push(request)
        for agent in group.members:
            agent.announce(group.name)
        return request

    def _group_for(self, name: str, protocol: int) -> Group:
        """Return the group in which a socket of this SO_PROTOCOL may be served.  Raises RequestRefused."""
        group = self.groups.get(name)
        if group is None or not group.open:
            raise RequestRefused(
                f"no agent listens in the group {name!r}; start one with 'hsframework agent', or see in the service's "
                "log why there is none",
                errno=errno.ESRCH,
            )
        if not group.may_serve(protocol):
            raise RequestRefused(
                f"no agent in the group {name!r} serves {_kind(protocol)} sockets; name another group, or hand over "
                "another socket",
                errno=errno.ESRCH,
            )
        return group

    def has_room(self, source: Source, group: str) -> bool:
        """Return True if a source, as one consumer, may take one more request of the group.

        If not, its ``room_made`` is called once there is room.
        """
        if self._limits.room_for(source.name, group):
            return True
        self._starved.add(source)
        return False

    def cancel(self, request: PendingRequest) -> None:
        """Complete a request that its consumer withdraws with ECANCELED, unless it has an outcome already."""
        self.happen(request, Event.CANCELLED, Outcome.failure(errno.ECANCELED, "the consumer withdrew the request"))

    def consumer_gone(self, request: PendingRequest) -> None:
        """Close a request whose consumer has gone."""
        self.happen(request, Event.CONSUMER_GONE)

    def acknowledged(self, request: PendingRequest) -> None:
        """Close a request whose source had returned False from ``complete``, and has delivered the outcome since."""
        self.happen(request, Event.ACKNOWLEDGED)

    # Called by agents' connections

    def joined(self, agent: Agent, names: Iterable[str]) -> None:
        """Add an agent to groups, and announce to it the requests that wait in them."""
        for name in names:
            group = self._group(name)
            was_open = group.open
            if group.grace is not None:
                group.grace.cancel()
                group.grace = None
            group.join(agent)
            if not was_open:
                for source in self.sources.values():
                    source.group_opened(name)
            if len(group):
                agent.announce(name)

    def left(self, agent: Agent, names: Iterable[str], *, expected_back: bool) -> None:
        """Remove an agent from groups.

        ``expected_back``: it has not left by itself, so a group without further agents stays open for a grace period.
        """
        for name in names:
            group = self.groups[name]
            group.members.discard(agent)
            if group.members:
                continue
            if expected_back:
                self._await_agent(group)
            else:
                self._close_group(group)

    def pull(self, agent: Agent, name: str) -> PendingRequest | None:
        """Return the next request of a group, which the agent has in hand from then on, or None if none waits."""
        group = self.groups.get(name)
        request = None if group is None else group.pull(agent.socket_protocols)
        if request is not None:
            request.agent = agent
            self.happen(request, Event.ACCEPTED)
        return request

    def not_handed_over(self, request: PendingRequest, reason: str) -> None:
        """Complete with EIO a request that was pulled and cannot be sent to its agent."""
        _log.error("a request cannot be handed over", request=request.id, error=reason)
        self.happen(request, Event.FAILED, Outcome.failure(errno.EIO, f"the request cannot be handed over: {reason}"))

    def in_hand(self, agent: Agent, request_id: int) -> PendingRequest:
        """Return a request that the agent has in hand.  Raises RequestRefused (EBADF) for any other number."""
        request = self.requests.get(request_id)
        if request is None or request.agent is not agent or request.state is not State.IN_FLIGHT:
            raise RequestRefused(f"request {request_id} is not in this agent's hands", errno=errno.EBADF)
        return request

    def all_in_hand(self, agent: Agent) -> list[PendingRequest]:
        """Return every request that the agent has in hand."""
        pending = self.requests.values()
        return [request for request in pending if request.agent is agent and request.state is State.IN_FLIGHT]

    def done(self, agent: Agent, request_id: int, outcome: Outcome) -> None:
        """Complete a request with the outcome that its agent reports; one that comes late is ignored.

        Raises RequestRefused (EBADF) for the request of another agent.
        """
        request = self.requests.get(request_id)
        if request is None:
            return
        if request.agent is not agent:
            raise RequestRefused(f"request {request_id} is not in this agent's hands", errno=errno.EBADF)
        if request.state is not State.IN_FLIGHT:
            return
        if outcome.status:
            self.happen(request, Event.FAILED, outcome)
        elif (problem := _missing_session(request, outcome.values)) is not None:
            _log.error("agent reported success without a session", request=request_id, agent=agent.name, reason=problem)
            self.happen(request, Event.FAILED, Outcome.failure(errno.EIO, problem))
        else:
            if self.offload is not None:
                request.offload = self.offload.of(request.submission.group, request.custody, outcome.values)
            self.happen(request, Event.SUCCEEDED, outcome)

    def agent_gone(self, requests: Iterable[PendingRequest]) -> None:
        """Complete with EIO the requests that an agent had in hand when it died."""
        for request in requests:
            self.happen(request, Event.AGENT_GONE, Outcome.failure(errno.EIO, "the agent died in mid-handshake"))

    # The life of a request

    def happen(self, request: PendingRequest, event: Event, outcome: Outcome | None = None) -> None:
        """Change a request's state by the table, and take the actions of the row.

        ``outcome``: of an event that decides it.
        """
        row = TABLE.get((request.state, event))
        if row is None:
            problem = f"a request that {request.state.value} cannot take the event {event.name}"
            _log.error("a fault in the dispatcher", request=request.id, error=problem)
            return
        state, actions = row
        if request.state is State.QUEUED and event is not Event.ACCEPTED:
            self.groups[request.submission.group].remove(request)
        request.state = state
        if outcome is not None and actions:
            request.outcome = outcome
        following = None
        for action in actions:
            following = self._actions[action](request)
        if following is not None:
            self.happen(request, following)

    def _complete(self, request: PendingRequest) -> Event | None:
        """Give the outcome to the source.  Return ACKNOWLEDGED if it is delivered."""
        outcome = request.outcome
        assert outcome is not None
        self._deadlines.remove(request, request.ticket)
        request.custody.restore()
        self._inodes.discard(request.custody.inode)
        try:
            delivered = request.submission.source.complete(request, outcome)
        except Exception as error:
            _log.error("a fault in the dispatcher", request=request.id, error=repr(error), during="its completion")
            delivered = True
        self._record(request, outcome)
        return Event.ACKNOWLEDGED if delivered else None

    def _tell_agent(self, request: PendingRequest) -> None:
        assert request.agent is not None
        request.agent.withdraw(request.id, request.outcome.status if request.outcome else errno.ECANCELED)

    def _watch_agent(self, request: PendingRequest) -> None:
        assert request.agent is not None
        request.agent.watch()

    def _release(self, request: PendingRequest) -> None:
        if request.outcome is None:
            self._deadlines.remove(request, request.ticket)
            # Completed, it was taken out already, and its owner may have submitted the socket again since.
            self._inodes.discard(request.custody.inode)
        self._limits.give_back(request.submission.consumer, request.submission.group, request.custody.peer_host)
        del self.requests[request.id]
        request.custody.release()
        if self._starved:
            starved, self._starved = self._starved, set()
            for source in starved:
                self._loop.call_soon(source.room_made)

    def _deadline(self, request: PendingRequest) -> None:
        text = "the agent did not end the handshake by its deadline" if request.agent else "no agent took the request"
        self.happen(request, Event.DEADLINE, Outcome.failure(errno.ETIMEDOUT, text))

    def _record(self, request: PendingRequest, outcome: Outcome) -> None:
        duration = self._loop.time() - request.taken_at
        self.metrics.handshake(request.submission.group, outcome.status, duration)
        if request.offload is not None:
            self.metrics.session(request.offload.transmit, request.offload.receive)
        if not self._log.is_enabled_for(logging.INFO):
            return
        self._log.info(
            "handshake",
            request=request.id,
            source=request.submission.source.name,
            group=request.submission.group,
            agent=None if request.agent is None else request.agent.name,
            status=errno_name(outcome.status) if outcome.status else "OK",
            peer=request.custody.peer_address,
            milliseconds=round(duration * 1000, 1),
            reason=outcome.values.get("message"),
            **({} if request.offload is None else request.offload.fields()),
        )

    # Groups

    def _group(self, name: str) -> Group:
        if name not in self.groups:
            self.groups[name] = Group(name)
        return self.groups[name]

    def _await_agent(self, group: Group) -> None:
        wait = self.configuration.timeouts.agent_restart
        group.grace = self._loop.call_later(wait, self._grace_over, group)

    def _grace_over(self, group: Group) -> None:
        group.grace = None
        _log.warning("no agent came back; the group is left", group=group.name)
        self._close_group(group)

    def _close_group(self, group: Group) -> None:
        if group.grace is not None:
            group.grace.cancel()
            group.grace = None
        for source in self.sources.values():
            source.group_closed(group.name)
        for request in group:
            self.happen(request, Event.GROUP_GONE, Outcome.failure(errno.EIO, "the last agent of the group is gone"))

    def _next_id(self) -> int:
        while (number := next(self._numbers) & 0xFFFFFFFF) in self.requests or not number:
            pass
        return number

    def close(self) -> None:
        """Wait for the closing of fds.  To be called last."""
        self._closer.stop()

    def stop(self) -> None:
        """Complete every request with EIO."""
        for group in self.groups.values():
            if group.grace is not None:
                group.grace.cancel()
                group.grace = None
            for request in group:
                self.happen(request, Event.GROUP_GONE, Outcome.failure(errno.EIO, "the dispatcher stops"))
        for request in list(self.requests.values()):
            self.happen(request, Event.AGENT_GONE, Outcome.failure(errno.EIO, "the dispatcher stops"))


def _kind(protocol: int) -> str:
    return {0: "unix", socket.IPPROTO_TCP: "TCP", socket.IPPROTO_UDP: "UDP"}.get(protocol, f"protocol {protocol}")


def _missing_session(request: PendingRequest, values: Mapping[str, Any]) -> str | None:
    """Return the reason to reject a reported success, or None.

    An agent's report is no proof: the socket is asked, or the exported session is there.  Only where a socket cannot be
    asked for the sessions of its group is the report enough for a kernel consumer.
    """
    kernel_consumer = request.submission.kernel_consumer
    if values.get("in-kernel"):
        planted = session_planted(request.submission.group, request.custody)
        has_one = kernel_consumer or values.get("session") if planted is None else planted
        return None if has_one else "the agent reported a session in the kernel, and the socket has none"
    if kernel_consumer:
        return "the agent reported success without a session in the kernel"
    if not values.get("session"):
        return "the agent reported success without a session"
    return None
