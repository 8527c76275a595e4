"""Core of the dispatcher: requests come from sources, agents pull them, and each is completed exactly once.

It runs on one asyncio loop and holds no lock.  What happens to a request goes through :meth:`Dispatcher.happen`, which
looks the row up in the table of :mod:`~hsframework.dispatcher.requests.lifecycle` and does the actions in order.  Of
other functions :meth:`Dispatcher.pull` alone changes states: all requests of an ACCEPT go through one row.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog

from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.custody import Closer, Custody
from hsframework.dispatcher.offload import OffloadLookup
from hsframework.dispatcher.requests.groups import MOST_GROUPS, Group, check_share
from hsframework.dispatcher.requests.lifecycle import TABLE, Action, Event, State
from hsframework.dispatcher.requests.limits import Claim, PendingLimits, give_back
from hsframework.dispatcher.requests.record import Ended, record
from hsframework.dispatcher.requests.request import Agent, Outcome, PendingRequest, Source, Submission
from hsframework.dispatcher.requests.success import missing_session
from hsframework.errors import RequestRefused
from hsframework.local.deadlines import Deadlines
from hsframework.local.networks import network_of
from hsframework.local.turns import Turn
from hsframework.netlink.messages import sequence_numbers
from hsframework.telemetry.metrics import Metrics

DEADLINE_MARGIN = 0.2
"""Seconds that the dispatcher waits longer than the agent."""

STARTS = 3
"""Grace periods at the start, when all agents load at once: a request that is refused then fails a mount."""

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
        self.made: Callable[[PendingRequest, Mapping[str, Any]], None] = lambda request, values: None
        """Called with each request that has succeeded, and the attribute set ``outcome``."""
        self.ended: Ended | None = None
        self._loop = loop or asyncio.get_running_loop()
        self._limits = PendingLimits(configuration.limits)
        self._prefixes = configuration.limits.ipv4_prefix, configuration.limits.ipv6_prefix
        self._inodes: set[int] = set()
        self._starved: dict[tuple[str, str], Source] = {}
        """Sources that wait for room, by group and by their own name."""
        self._numbers = sequence_numbers()
        self._closer = Closer()
        self._deadlines: Deadlines[PendingRequest] = Deadlines(self._loop, self._deadline)
        # Bound once: the module's own logger is bound anew by every call, which costs more than what it drops.
        self._log = _log.bind()
        self._actions: Mapping[Action, Callable[[PendingRequest], object]] = {
            Action.SHUT_DOWN: lambda request: request.custody.shut_down(),
            Action.COMPLETE: self._complete,
            Action.HAND_BACK: self._hand_back,
            Action.TELL_AGENT: self._tell_agent,
            Action.WATCH_AGENT: self._watch_agent,
            Action.RELEASE: self._release,
        }
        self.members_changed: Callable[[], None] = lambda: None
        """Called when an agent has joined groups, or left them."""
        self._draining: asyncio.Event | None = None
        """Set whenever a request has ended, once no more are taken of the kernel's."""
        self.expect(expected_groups)

    def expect(self, groups: Iterable[str]) -> None:
        """Open groups whose agents are being started, for :data:`STARTS` grace periods."""
        for name in groups:
            try:
                self.check_groups([name])
            except RequestRefused as error:
                _log.error("an expected group is not served", group=name, reason=str(error))
                continue
            group = self._group(name)
            if not group.open:
                self._await_agent(group, STARTS)
                for source in self.sources.values():
                    source.group_opened(name)

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
        self._starved = {place: other for place, other in self._starved.items() if other is not source}
        for request in [request for request in self.requests.values() if request.submission.source is source]:
            request.custody.shut_down()
            self.consumer_gone(request)

    def close_fd(self, fd: int) -> None:
        """Close off the loop an fd that may hold the last copy of a user's socket."""
        self._closer.close(fd)

    def submit(self, submission: Submission, custody: Custody, origin: object = None) -> PendingRequest:
        """Take a request for a socket, and announce it.  ``origin``: the source's own, kept with the request.

        Raises RequestRefused, in this order: ESRCH (no agent), EBUSY (the socket is in a handshake), EAGAIN (a limit).
        The custody of a refused request stays the caller's.
        """
        group = self.groups.get(submission.group)
        if group is None:
            group = Group(submission.group)
        number = next(self._numbers)
        while number in self.requests:
            number = next(self._numbers)
        now = self._loop.time()
        request = PendingRequest(submission, custody, origin, number, now, now + submission.timeout)
        claim = Claim(submission.group, submission.source.name, submission.consumer, custody.peer_host)
        network = None if custody.peer_host is None else network_of(custody.peer_host, *self._prefixes)
        request.turn = Turn((claim.source, claim.consumer), network)
        group.admit(request)
        try:
            if custody.inode in self._inodes:
                raise RequestRefused("a handshake is under way on this socket", errno=errno.EBUSY)
            request.counted = self._limits.take(claim)
        except RequestRefused:
            group.remove(request)
            raise
        self._inodes.add(custody.inode)
        request.ticket = self._deadlines.add(request, request.deadline + DEADLINE_MARGIN)
        self.requests[number] = request
        for agent in group.members:
            agent.announce(group.name)
        return request

    def is_open(self, group: str) -> bool:
        """True if requests of the group are taken: it has an agent, or one is expected."""
        return group in self.groups and self.groups[group].open

    def has_room(self, source: Source, group: str) -> bool:
        """Return True if a source, as one consumer, may take one more request of the group.

        If not, its ``room_made`` is called once there is room.
        """
        if self._draining is None and self._limits.room_for(Claim(group, source.name, source.name, None)):
            return True
        self._starved[group, source.name] = source
        return False

    def cancel(self, request: PendingRequest) -> Outcome | None:
        """End a request that its consumer withdraws, with ECANCELED.  Return the outcome, which the source delivers.

        None: the request has been completed before.  The source owns the custody, as in
        :meth:`~hsframework.dispatcher.requests.request.Source.complete`.
        """
        if request.state is State.CLOSED:
            return None
        self.happen(request, Event.CANCELLED, Outcome.failure(errno.ECANCELED, "the consumer withdrew the request"))
        return request.outcome

    def consumer_gone(self, request: PendingRequest) -> None:
        """Close a request whose consumer has gone."""
        self.happen(request, Event.CONSUMER_GONE)

    # Called by agents' connections

    def check_groups(self, names: Iterable[str]) -> None:
        """Raise RequestRefused (EAGAIN) if an agent cannot join these groups, because each further one needs a share.

        See :attr:`~hsframework.configuration.settings.Limits.groups`.
        """
        served = {group.name for group in self.groups.values() if group.open}
        served.update(request.submission.group for request in self.requests.values())
        check_share(served, names, self.configuration.limits.groups)

    def joined(self, agent: Agent, names: Iterable[str]) -> None:
        """Add an agent to groups, and announce to it the requests that wait in them."""
        for name in names:
            group = self._group(name)
            was_open = group.open
            group.end_grace()
            group.join(agent)
            if not was_open:
                for source in self.sources.values():
                    source.group_opened(name)
            if len(group):
                agent.announce(name)
        self.members_changed()

    def left(self, agent: Agent, names: Iterable[str], *, expected_back: bool) -> None:
        """Remove an agent from groups.

        ``expected_back``: it, or another in its place, may be back at once: a group without further agents stays open
        for a grace period.
        """
        for name in names:
            group = self.groups[name]
            group.leave(agent, expected_back=expected_back)
            if group.members:
                continue
            if not expected_back:
                self._close_group(group)
            elif group.grace is None:
                self._await_agent(group)
        self.members_changed()

    def pull(self, agent: Agent, name: str, most: int) -> list[PendingRequest]:
        """Return up to ``most`` requests of a group that the agent has joined; fewer if no more wait that it serves.

        The agent has them in hand from then on.
        """
        requests = self.groups[name].pull(agent.socket_protocols, most)
        state, _ = TABLE[State.QUEUED, Event.ACCEPTED]
        now = self._loop.time()
        for request in requests:
            request.agent, request.state, request.pulled_at = agent, state, now
        return requests

    def not_handed_over(self, request: PendingRequest, error: Exception) -> None:
        """Complete a request that was pulled and cannot be sent to its agent: with EIO, or the errno of a shortage."""
        _log.error("a request cannot be handed over", request=request.id, error=str(error) or repr(error))
        self.happen(request, Event.FAILED, Outcome.of_fault("the request cannot be handed over", error))

    def in_hand(self, agent: Agent, request_id: int) -> PendingRequest:
        """Return a request that the agent has in hand.  Raises RequestRefused (EBADF) for any other number."""
        request = self.requests.get(request_id)
        if request is None or request.agent is not agent:
            raise RequestRefused(f"request {request_id} is not in this agent's hands", errno=errno.EBADF)
        return request

    def all_in_hand(self, agent: Agent) -> list[PendingRequest]:
        """Return every request that the agent has in hand."""
        return [request for request in self.requests.values() if request.agent is agent]

    def done(self, agent: Agent, request_id: int, outcome: Outcome) -> None:
        """Complete a request with the outcome that its agent reports; one that comes late is ignored.

        Raises RequestRefused (EBADF) for the request of another agent.
        """
        if request_id not in self.requests:
            return
        request = self.in_hand(agent, request_id)
        if outcome.status:
            self.happen(request, Event.FAILED, outcome)
        elif (problem := missing_session(request, outcome.values)) is not None:
            _log.error("agent reported success without a session", request=request_id, agent=agent.name, reason=problem)
            self.happen(request, Event.FAILED, Outcome.failure(errno.EIO, problem))
        else:
            if self.offload is not None:
                request.offload = self.offload.of(request.submission.group, request.custody, outcome.values)
            self.made(request, outcome.values)
            self.happen(request, Event.SUCCEEDED, outcome)

    def agent_gone(self, requests: Iterable[PendingRequest]) -> None:
        """Complete with EIO the requests that an agent had in hand when it died.

        Their connections are shut down before: two of them may be the ends of one.
        """
        requests = list(requests)
        for request in requests:
            request.custody.shut_down()
        for request in requests:
            self.happen(request, Event.AGENT_GONE, Outcome.interrupted("the agent died in mid-handshake"))

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
        if request.state is State.QUEUED:
            self.groups[request.submission.group].remove(request)
        request.state = state
        if outcome is not None:
            request.outcome = outcome
        for action in actions:
            self._actions[action](request)

    def _complete(self, request: PendingRequest) -> None:
        """Forget a request, and give its outcome and its socket to the source."""
        outcome = self._hand_back(request)
        try:
            request.submission.source.complete(request, outcome)
        except Exception as error:
            _log.error("a fault in the dispatcher", request=request.id, error=repr(error), during="its completion")
            request.custody.release()

    def _hand_back(self, request: PendingRequest) -> Outcome:
        """Forget a request, whose outcome is decided."""
        assert request.outcome is not None
        record(self._log, self.metrics, request, request.outcome, self._loop.time(), self.ended)
        self._forget(request)
        return request.outcome

    def _tell_agent(self, request: PendingRequest) -> None:
        assert request.agent is not None
        request.agent.withdraw(request.id, request.outcome.status if request.outcome else errno.ECANCELED)

    def _watch_agent(self, request: PendingRequest) -> None:
        assert request.agent is not None
        request.agent.watch()

    def _release(self, request: PendingRequest) -> None:
        self._forget(request)
        request.custody.release()

    def _forget(self, request: PendingRequest) -> None:
        """Give up all that is kept for a request, but its socket."""
        del self.requests[request.id]
        self._inodes.discard(request.custody.inode)
        self._deadlines.remove(request, request.ticket)
        if self._draining is not None:
            self._draining.set()
        give_back(request.counted)
        if self._starved:
            submission = request.submission
            starved = self._starved.pop((submission.group, submission.source.name), None)
            if starved is not None:
                self._loop.call_soon(starved.room_made, submission.group)

    def _deadline(self, request: PendingRequest) -> None:
        text = "the agent did not end the handshake by its deadline" if request.agent else "no agent took the request"
        self.happen(request, Event.DEADLINE, Outcome.failure(errno.ETIMEDOUT, text))

    # Groups

    def _group(self, name: str) -> Group:
        if name not in self.groups:
            if len(self.groups) >= MOST_GROUPS:
                self.groups = {known: group for known, group in self.groups.items() if group.open}
            self.groups[name] = Group(name, self.configuration.timeouts.agent_restart, self._loop.time)
        return self.groups[name]

    def _await_agent(self, group: Group, times: float = 1) -> None:
        wait = self.configuration.timeouts.agent_restart * times
        group.grace = self._loop.call_later(wait, self._grace_over, group)

    def _grace_over(self, group: Group) -> None:
        group.grace = None
        _log.warning("no agent came back; the group is left", group=group.name)
        self._close_group(group)

    def _close_group(self, group: Group) -> None:
        group.end_grace()
        for source in self.sources.values():
            source.group_closed(group.name)
        for request in group:
            self.happen(request, Event.GROUP_GONE, Outcome.interrupted("the last agent of the group is gone"))

    def close(self) -> None:
        """Wait for the closing of fds.  To be called last."""
        self._closer.stop()

    async def drain(self, patience: float) -> None:
        """Wait until the requests that agents have in hand are over, ``patience`` seconds at most.

        From now on the kernel's requests wait in its own queue, for the dispatcher that comes after this one.
        """
        self._draining = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while any(request.agent is not None for request in self.requests.values()):
                    self._draining.clear()
                    await self._draining.wait()

    def stop(self) -> None:
        """Complete every request with EIO."""
        for group in self.groups.values():
            group.end_grace()
            for request in group:
                self.happen(request, Event.GROUP_GONE, Outcome.interrupted("the dispatcher stops"))
        for request in list(self.requests.values()):
            self.happen(request, Event.AGENT_GONE, Outcome.interrupted("the dispatcher stops"))
