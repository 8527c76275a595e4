"""A kernel source through random walks: agents, a service and a dispatcher that do whatever they like."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import cast

import pytest
from hypothesis import given, strategies as st
from structlog.testing import capture_logs

from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.messages import Parameters
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.requests.request import Outcome, PendingRequest, Submission
from hsframework.dispatcher.sources.kernel.request import KernelOrigin, KernelRequests
from hsframework.dispatcher.sources.kernel.source import KernelSource
from hsframework.dispatcher.sources.kernel.wire import Accepted, Ending, Wire
from hsframework.errors import SHORTAGE_PAUSE
from hsframework.netlink.socket import NetlinkError

GROUPS = ("quic", "tlshd")


class Service(Wire):
    """The kernel's side and its wire in one: a queue for each group, and its own mind about what works."""

    def __init__(self) -> None:
        self.there = True
        self.open = False
        self.members: set[str] = set()
        self.queues: dict[str, int] = dict.fromkeys(GROUPS, 0)
        self.fails: dict[str, int] = {}
        self.outstanding: set[int] = set()
        """Requests without DONE.  They are forgotten when the service goes."""
        self.completed: set[int] = set()
        self._numbers = count(10)

    def opened(self) -> Service:
        self._check()
        assert not self.open
        self.open = True
        return self

    def fileno(self) -> int:
        return 0

    def drain(self) -> None:
        self._check()

    def join(self, group: str) -> None:
        self._check("join", group)
        self.members.add(group)

    def leave(self, group: str) -> None:
        self._check()
        assert group in self.members
        self.members.remove(group)

    def close(self) -> None:
        assert self.open
        self.open = False
        self.members.clear()

    def accept(self, group: str) -> Accepted | None:
        assert self.open
        self._check("accept", group)
        if not self.queues[group]:
            return None
        self.queues[group] -= 1
        return Accepted({"sockfd": self.taken(), "keyring": 7})

    def done(self, fd: int, ending: Ending) -> None:
        self._check("done")
        assert fd not in self.completed
        self.completed.add(fd)
        self.outstanding.discard(fd)

    def taken(self) -> int:
        """Take a request, and return its file descriptor."""
        fd = next(self._numbers)
        self.outstanding.add(fd)
        return fd

    def _group(self, group: str) -> int:
        raise NotImplementedError

    def _check(self, call: str = "", group: str = "") -> None:
        if not self.there:
            raise NetlinkError("it has gone", errno=errno.ENOENT)
        if f"{call} {group}" in self.fails:
            raise NetlinkError(f"it refuses {call}", errno=self.fails[f"{call} {group}"])


class Socket:
    """Custody, as far as it is asked."""

    peer_host = "192.0.2.1"
    has_ended = False

    def __init__(self, fd: int, close: Callable[[int], None], *, trusted: bool, connected: bool) -> None:
        self._fd = fd
        self._released = False

    def fileno(self) -> int:
        assert not self._released
        return self._fd

    def shut_down(self) -> None:
        """Do nothing."""

    def restore(self) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Release it: once, and not before it was given back."""
        assert not self._released
        self._released = True


@pytest.fixture(autouse=True, scope="module")
def played_sockets() -> Iterator[None]:
    """Let no socket be opened: a request's is a number."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hsframework.dispatcher.sources.kernel.rounds.Custody", Socket)
        yield


@dataclass(eq=False)
class Timer:
    """A call that the loop is to make, in the list of its kind until it is made or cancelled."""

    kind: list[Timer]
    call: Callable[..., None]
    arguments: tuple[str | None, ...]

    def cancel(self) -> None:
        self.kind.remove(self)

    def ring(self) -> None:
        self.cancel()
        self.call(*self.arguments)


class World:
    """The loop, the dispatcher and the meaning of requests, as far as a source calls them."""

    def __init__(self) -> None:
        self.service = Service()
        self.serves: set[str] = set()
        self.room = 2
        self.pending: list[PendingRequest] = []
        self.pauses: list[Timer] = []
        self.retries: list[Timer] = []
        """The time to send DONE again."""
        self.announced: Callable[[], None] | None = None
        self.held = self.missing = 0
        self.retired = self.closes = False
        self.keys = self
        self.source = KernelSource(
            "played",
            cast("Dispatcher", self),
            cast("KernelRequests", self),
            self.service.opened,
            GROUPS,
            self._miss,
            loop=cast("asyncio.AbstractEventLoop", self),
        )

    def _miss(self) -> None:
        self.missing += 1

    # The loop

    def add_reader(self, fd: int, call: Callable[[], None]) -> None:
        assert self.announced is None
        self.announced = call

    def remove_reader(self, fd: int) -> None:
        assert self.announced is not None
        self.announced = None

    def call_later(self, delay: float, call: Callable[..., None], *arguments: str | None) -> asyncio.TimerHandle:
        kind = self.retries if delay == SHORTAGE_PAUSE else self.pauses
        assert arguments not in [other.arguments for other in kind]
        kind.append(Timer(kind, call, arguments))
        return cast("asyncio.TimerHandle", kind[-1])

    def time(self) -> float:
        return 0.0

    # The dispatcher

    def add_source(self, source: KernelSource) -> None:
        """Do nothing."""

    def remove_source(self, source: KernelSource) -> None:
        assert self.closes, "from within a call of the dispatcher"
        self.pending.clear()

    def has_room(self, source: KernelSource, group: str) -> bool:
        return len(self.pending) < self.room

    def close_fd(self, fd: int) -> None:
        raise NotImplementedError

    def submit(self, submission: Submission, custody: Custody, origin: object) -> None:
        assert submission.group in self.serves
        assert not self.retired
        assert len(self.pending) < self.room
        self.pending.append(PendingRequest(submission, custody, origin, 1, 0.0, 1.0))

    # The requests

    def hold(self, keyring: int | None) -> None:
        self.held += 1

    def forget(self, keyring: int | None) -> None:
        self.held -= 1

    def take(
        self, source: KernelSource, group: str, accepted: Accepted, custody: Custody
    ) -> tuple[Submission, KernelOrigin]:
        parameters = Parameters(b"", b"")
        submission = Submission(source=source, consumer=source.name, group=group, timeout=1.0, parameters=parameters)
        return submission, KernelOrigin(None, {})

    def taken(self, submission: Submission, origin: KernelOrigin) -> None:
        self.held -= 1

    @contextlib.contextmanager
    def ending(self, request: PendingRequest, outcome: Outcome) -> Iterator[Ending]:
        yield Ending(outcome.status)

    # The owner

    def close(self) -> None:
        """Close the source: the dispatcher forgets it here and nowhere else."""
        self.closes = True
        self.source.close()

    # What may happen

    def agents_come(self, group: str) -> None:
        if group not in self.serves:
            self.serves.add(group)
            self.source.group_opened(group)

    def agents_go(self, group: str) -> None:
        if group in self.serves:
            self.serves.remove(group)
            self.source.group_closed(group)

    def a_consumer_asks(self, group: str) -> None:
        if self.service.there and group in self.service.members:
            self.service.queues[group] += 1
            self.wake(group)

    def wake(self, group: str) -> None:
        if self.announced is not None:
            self.announced()

    def look(self, group: str) -> None:
        self.source.look()

    def complete(self, group: str) -> None:
        if self.pending:
            self.source.complete(self.pending.pop(0), Outcome(0))
            for each in GROUPS:
                self.source.room_made(each)

    def given_back(self, group: str) -> None:
        """Give back a request that an earlier dispatcher took."""
        fd = self.service.taken() if self.service.there else 0
        custody = Socket(fd, self.close_fd, trusted=False, connected=False)
        self.source.restored(cast("Custody", custody), {}, None)

    def pause_over(self, group: str) -> None:
        """End the pause of the group, and of all groups; where none is named, each."""
        for pause in list(self.pauses):
            if pause in self.pauses and (pause.arguments[0] in (None, group) or not group):
                pause.ring()

    def send_again(self, group: str) -> None:
        if self.retries:
            self.retries[0].ring()

    def run_out_of_memory(self, group: str) -> None:
        self.service.fails["done "] = errno.ENOBUFS

    def vanish(self, group: str) -> None:
        self.service.there = False
        self.service.queues = dict.fromkeys(GROUPS, 0)
        self.service.outstanding.clear()

    def come_back(self, group: str) -> None:
        self.service.there = True

    def refuse_membership(self, group: str) -> None:
        self.service.fails[f"join {group}"] = errno.EINVAL

    def lack(self, group: str) -> None:
        self.service.fails[f"accept {group}"] = errno.EINVAL

    def run_out_of_fds(self, group: str) -> None:
        self.service.fails[f"accept {group}"] = errno.EMFILE

    def lose_requests(self, group: str) -> None:
        self.service.fails[f"accept {group}"] = errno.EKEYREVOKED

    def mend(self, group: str) -> None:
        self.service.fails.clear()

    def retire(self, group: str) -> None:
        self.retired = True
        self.source.retire()


STEPS = [
    World.agents_come,
    World.agents_go,
    World.a_consumer_asks,
    World.wake,
    World.look,
    World.complete,
    World.given_back,
    World.pause_over,
    World.vanish,
    World.come_back,
    World.refuse_membership,
    World.lack,
    World.run_out_of_fds,
    World.lose_requests,
    World.run_out_of_memory,
    World.send_again,
    World.mend,
]
WALK = st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(GROUPS)), max_size=40)


def walked(world: World, walk: list[tuple[Callable[[World, str], None], str]]) -> None:
    """Do every step; after each the kernel is told the truth, and the sockets are open while they are needed."""
    service = world.service
    for step, group in walk:
        step(world, group)
        assert service.members <= world.serves
        assert world.held == 0
        needed = bool(world.serves and not world.retired) or bool(world.pending or world.pauses or world.retries)
        assert needed or not service.open
        assert service.open or not (service.members or world.pauses)


@given(WALK)
def test_all_is_well_in_the_end(walk: list[tuple[Callable[[World, str], None], str]]) -> None:
    """Once everything works, groups are joined as agents serve them, and every request is over."""
    with capture_logs() as logs:
        world = World()
        walked(world, walk)
        for step in (World.come_back, World.mend, World.pause_over, World.send_again, World.look, World.wake):
            step(world, "")
        while world.pending:
            world.complete("")
        assert not world.service.outstanding
        assert world.service.members == world.serves
        assert not any(world.service.queues[group] for group in world.serves)
        assert world.service.open == bool(world.serves)
        assert not [entry for entry in logs if entry["event"] == "a fault in the dispatcher"]
        world.close()
        assert not world.service.open


@given(WALK, WALK)
def test_a_source_retires(
    before: list[tuple[Callable[[World, str], None], str]], after: list[tuple[Callable[[World, str], None], str]]
) -> None:
    """Wherever it was: it takes nothing more, completes what it took, and is over then with its sockets closed."""
    with capture_logs() as logs:
        world = World()
        walked(world, [*before, (World.retire, ""), *after])
        assert not world.service.members
        for step in (World.mend, World.pause_over, World.send_again, World.wake):
            step(world, "")
        while world.pending:
            world.complete("")
        assert not world.service.outstanding
        assert world.source.over
        assert not world.service.open
        world.close()
        assert not [entry for entry in logs if entry["event"] == "a fault in the dispatcher"]
