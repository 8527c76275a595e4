"""A dispatcher with a source of the kernel's and one of programs', without input, output or clock of its own.

What each group answers is written down: what becomes of its requests, what its agents are sent, what the kernel is
asked.  Requests are named by the group and the number within it, so that two worlds can be compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, cast

from hsframework.configuration.settings import Configuration, Limits, Timeouts
from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.messages import Parameters
from hsframework.dispatcher.policy import PeerCredentials
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.requests.request import Outcome, PendingRequest, Submission
from hsframework.dispatcher.sources.kernel.request import KernelOrigin, KernelRequests
from hsframework.dispatcher.sources.kernel.source import KernelSource
from hsframework.dispatcher.sources.kernel.wire import Accepted, Ending, Wire
from hsframework.errors import RequestRefused
from hsframework.netlink.socket import NetlinkError
from tests.support.turned import ClockedLoop

GROUPS = ("psp", "quic", "tlshd")
LIMITS = Limits(groups=len(GROUPS), per_source=3, per_consumer=2, per_address=2)
RESTART = 2.0
_NUMBERS = 1000
"""Sockets of one group have numbers below, counted from the group's place times this."""


class Loop(ClockedLoop):
    """The event loop, whose clock the test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.announced: Callable[[], None] | None = None

    def add_reader(self, fd: int, call: Callable[[], None]) -> None:
        self.announced = call

    def remove_reader(self, fd: int) -> None:
        self.announced = None

    def run(self, seconds: float = 0.0) -> None:
        """Let time pass, and make every call that is due."""
        end = self.now + seconds
        while self._timers and self._timers[0].when <= end:
            timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                self.now = max(self.now, timer.when)
                timer.call()
        self.now = end


class Socket:
    """Custody, as far as it is asked.  The number is the name; four remote hosts, sockets of two protocols."""

    has_ended = False

    def __init__(
        self, number: int, close: Callable[[int], None] | None = None, *, trusted: bool = True, connected: bool = True
    ) -> None:
        self.number = self.inode = number
        self.peer_host = self.peer_address = f"192.0.2.{number % 4}"
        self.protocol = 17 if number % 5 == 0 else 6

    def fileno(self) -> int:
        return self.number

    def shut_down(self) -> None:
        """Do nothing."""

    def restore(self) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing."""


@dataclass(eq=False)
class Agent:
    """An agent of one group."""

    world: World
    group: str
    socket_protocols: frozenset[int]
    name: str = "played"
    protocol: str = "played"
    kernel_tls: str = "yes"
    joined_at: float = 0.0
    peer: PeerCredentials = field(default_factory=lambda: PeerCredentials(1, 0, 0))

    def announce(self, group: str) -> None:
        self.world.tell(group, "ready")

    def withdraw(self, request_id: int, reason: int) -> None:
        self.world.tell(self.group, "withdrawn", reason)

    def watch(self) -> None:
        self.world.tell(self.group, "watched")


class Kernel(Wire):
    """The kernel's side: a queue for each group, and its own mind about what works."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.queues: dict[str, deque[tuple[int, bool]]] = {group: deque() for group in GROUPS}
        """Sockets, each with True if the ACCEPT that takes it fails."""
        self.refuses: set[tuple[str, str]] = set()
        """Calls and their groups."""

    def fileno(self) -> int:
        return 0

    def drain(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing: that the sockets are closed when no group needs them is no answer of a group's."""

    def join(self, group: str) -> None:
        self._check("join", group)
        self._world.tell(group, "joined")

    def leave(self, group: str) -> None:
        self._world.tell(group, "left")

    def accept(self, group: str) -> Accepted | None:
        self._check("accept", group)
        if not self.queues[group]:
            return None
        taken, fails = self.queues[group].popleft()
        if fails:
            self._world.tell(group, "lost", taken)
            raise NetlinkError("a key has been revoked", errno=errno.EKEYREVOKED)
        return Accepted({"sockfd": taken})

    def done(self, fd: int, ending: Ending) -> None:
        self._world.tell(GROUPS[fd // _NUMBERS], "DONE", fd, ending.status)

    def _group(self, group: str) -> int:
        return GROUPS.index(group) + 1

    def _check(self, call: str, group: str) -> None:
        if (call, group) in self.refuses:
            raise NetlinkError("no such group", errno=errno.EINVAL)


class World:
    """All of it.  The methods are what may happen in a group."""

    name = "local"

    def __init__(self) -> None:
        self.loop = Loop()
        self.answers: dict[str, Counter[tuple[object, ...]]] = {group: Counter() for group in GROUPS}
        self.kernel = Kernel(self)
        self.keys = self
        self._numbers = {group: count(place * _NUMBERS) for place, group in enumerate(GROUPS)}
        self.agents: dict[str, list[Agent]] = {group: [] for group in GROUPS}
        loop = cast("asyncio.AbstractEventLoop", self.loop)
        configuration = Configuration(limits=LIMITS, timeouts=Timeouts(agent_restart=RESTART))
        self.dispatcher = Dispatcher(configuration, loop=loop)
        self.dispatcher.add_source(self)
        self.source = KernelSource(
            "kernel",
            self.dispatcher,
            cast("KernelRequests", self),
            lambda: self.kernel,
            GROUPS,
            lambda: None,
            loop=loop,
        )

    def tell(self, group: str, *answer: object) -> None:
        """Write an answer of a group down."""
        self.answers[group][answer] += 1

    # The source of programs' requests

    def group_opened(self, group: str) -> None:
        self.tell(group, "opened")

    def group_closed(self, group: str) -> None:
        self.tell(group, "closed")

    def room_made(self, group: str) -> None:
        raise NotImplementedError

    def group_number(self, group: str) -> int | None:
        return 0

    def restored(self, custody: Custody, values: Mapping[str, Any], outcome: Outcome | None) -> None:
        raise NotImplementedError

    def complete(self, request: PendingRequest, outcome: Outcome) -> None:
        self.tell(request.submission.group, "result", request.custody.fileno(), outcome.status)

    # The meaning of the kernel's requests

    def hold(self, keyring: int | None) -> None:
        """Do nothing."""

    def forget(self, keyring: int | None) -> None:
        """Do nothing."""

    def take(
        self, source: KernelSource, group: str, accepted: Accepted, custody: Custody
    ) -> tuple[Submission, KernelOrigin]:
        submission = Submission(
            source=source, consumer=source.name, group=group, timeout=5.0, parameters=Parameters(b"", b"")
        )
        return submission, KernelOrigin(None, {})

    def taken(self, submission: Submission, origin: KernelOrigin) -> None:
        """Do nothing."""

    @contextlib.contextmanager
    def ending(self, request: PendingRequest, outcome: Outcome) -> Iterator[Ending]:
        yield Ending(outcome.status)

    # What may happen in a group

    def program_asks(self, group: str, user: int, urgency: int, timeout: float) -> None:
        submission = Submission(
            source=self,
            consumer=user,
            group=group,
            timeout=timeout,
            parameters=Parameters(b"", b""),
            urgency=urgency,
        )
        number = next(self._numbers[group])
        try:
            self.dispatcher.submit(submission, cast("Custody", Socket(number)))
        except RequestRefused as error:
            self.tell(group, "refused", number, error.errno)
        else:
            self.tell(group, "taken", number)

    def kernel_consumer_asks(self, group: str, fails: bool) -> None:
        self.kernel.queues[group].append((next(self._numbers[group]), fails))
        self.wake(group)

    def wake(self, group: str) -> None:
        if self.loop.announced is not None:
            self.loop.call_soon(self.loop.announced)

    def refuses(self, group: str, call: str) -> None:
        self.kernel.refuses.add((call, group))
        self.wake(group)

    def mends(self, group: str) -> None:
        self.kernel.refuses -= {("join", group), ("accept", group)}
        self.wake(group)

    def agent_joins(self, group: str, protocols: frozenset[int]) -> None:
        agent = Agent(self, group, protocols)
        try:
            self.dispatcher.check_groups([group])
        except RequestRefused as error:
            self.tell(group, "not joined", error.errno)
            return
        self.agents[group].append(agent)
        self.dispatcher.joined(agent, [group])

    def agent_goes(self, group: str, leaves: bool) -> None:
        if self.agents[group]:
            agent = self.agents[group].pop(0)
            in_hand = self.dispatcher.all_in_hand(agent)
            self.dispatcher.left(agent, [group], expected_back=not leaves)
            self.dispatcher.agent_gone(in_hand)

    def agent_pulls(self, group: str, most: int) -> None:
        if self.agents[group]:
            pulled = self.dispatcher.pull(self.agents[group][-1], group, most)
            self.tell(group, "pulled", *(request.custody.fileno() for request in pulled))

    def one_ends(self, group: str, end: Callable[[World, PendingRequest], None]) -> None:
        """End the oldest request of the group."""
        mine = [request for request in self.dispatcher.requests.values() if request.submission.group == group]
        if mine:
            end(self, mine[0])

    def done(self, request: PendingRequest, status: int) -> None:
        if request.agent is not None:
            outcome = Outcome(status, {} if status else {"session": b"s"})
            self.dispatcher.done(request.agent, request.id, outcome)

    def gone(self, request: PendingRequest) -> None:
        if request.submission.source is self:
            self.dispatcher.consumer_gone(request)

    def cancelled(self, request: PendingRequest) -> None:
        if request.submission.source is self:
            outcome = self.dispatcher.cancel(request)
            assert outcome is not None
            self.tell(request.submission.group, "withdrawn by its consumer", request.custody.fileno(), outcome.status)
