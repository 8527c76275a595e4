"""The dispatcher between a source and an agent that the test plays: who takes which step."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import pytest
import structlog
from structlog.testing import capture_logs

from hsframework.configuration.settings import Configuration, Limits
from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.messages import Parameters
from hsframework.dispatcher.policy import PeerCredentials
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.requests.lifecycle import TABLE, Event, State
from hsframework.dispatcher.requests.request import Outcome, PendingRequest, Submission
from hsframework.errors import MessageError, RequestRefused
from hsframework.testing import virtual_time
from tests.support.house import connected_pair

GROUP = "toy"
FAILED = Outcome.failure(errno.EACCES, "not today")


class PlayedSource:
    """``fault``: an exception that complete() raises.  ``keeps``: it keeps the sockets that it is given then."""

    name = "played"

    def __init__(self, fault: Exception | None = None, keeps: bool = False) -> None:
        self.fault = fault
        self.keeps = keeps
        self.completed: list[tuple[object, int]] = []
        self.closed: list[str] = []

    def group_opened(self, group: str) -> None:
        """Do nothing."""

    def group_closed(self, group: str) -> None:
        self.closed.append(group)

    def room_made(self, group: str) -> None:
        """Do nothing."""

    def group_number(self, group: str) -> int:
        return 0

    def restored(self, custody: Custody, values: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def complete(self, request: PendingRequest, outcome: Outcome) -> None:
        assert request.state is State.CLOSED
        self.completed.append((request.origin, outcome.status))
        if self.fault is not None:
            raise self.fault
        if not self.keeps:
            request.custody.release()


class PlayedAgent:
    name = protocol = "played"
    peer = PeerCredentials(1, 0, 0)
    socket_protocols: frozenset[int] = frozenset()

    def __init__(self) -> None:
        self.announced: list[str] = []
        self.withdrawn: list[tuple[int, int]] = []

    def announce(self, group: str) -> None:
        self.announced.append(group)

    def withdraw(self, request_id: int, reason: int) -> None:
        self.withdrawn.append((request_id, reason))

    def watch(self) -> None:
        """Do nothing."""


class Stage:
    """A dispatcher, an agent that has joined, and a request of the source's, whose origin is a text."""

    def __init__(self, source: PlayedSource, fd: int, limits: Limits) -> None:
        self.dispatcher = Dispatcher(Configuration(limits=limits))
        self.agent = PlayedAgent()
        self.source = source
        self.dispatcher.add_source(source)
        self.dispatcher.joined(self.agent, [GROUP])
        self.submission = Submission(
            source=source, consumer=0, group=GROUP, timeout=100, parameters=Parameters(b"", b"")
        )
        custody = Custody(os.dup(fd), self.dispatcher.close_fd, trusted=True)
        self.request = self.dispatcher.submit(self.submission, custody, "its origin")

    def another(self, sock: socket.socket, origin: object = None, **changed: Any) -> PendingRequest:
        """Return a further request of the source's."""
        custody = Custody(os.dup(sock.fileno()), self.dispatcher.close_fd, trusted=True)
        return self.dispatcher.submit(replace(self.submission, **changed), custody, origin)

    def pulled(self) -> PendingRequest:
        (request,) = self.dispatcher.pull(self.agent, GROUP, 1)
        return request


@contextlib.asynccontextmanager
async def stage(
    fault: Exception | None = None, *, keeps: bool = False, limits: Limits | None = None
) -> AsyncIterator[Stage]:
    with connected_pair() as (ours, _):
        played = Stage(PlayedSource(fault, keeps), ours.fileno(), limits or Limits())
        yield played
        played.dispatcher.remove_source(played.source)
        assert not played.dispatcher.requests
        played.dispatcher.stop()
        played.dispatcher.close()


async def test_pull_gives_the_request() -> None:
    """It is in the agent's hands then, and in no other's; there is no second one."""
    async with stage() as played:
        assert played.agent.announced == [GROUP]
        request = played.pulled()
        assert (request, request.state, request.agent) == (played.request, State.IN_FLIGHT, played.agent)
        assert played.dispatcher.pull(played.agent, GROUP, 1) == []
        assert played.dispatcher.in_hand(played.agent, request.id) is request
        assert played.dispatcher.all_in_hand(played.agent) == [request]
        for agent, number in ((PlayedAgent(), request.id), (played.agent, request.id + 1)):
            with pytest.raises(RequestRefused) as refused:
                played.dispatcher.in_hand(agent, number)
            assert refused.value.errno == errno.EBADF


async def test_a_source_that_delivers_at_once() -> None:
    """It is given its origin, the outcome and the socket once, and the dispatcher keeps nothing."""
    async with stage() as played:
        played.dispatcher.done(played.agent, played.pulled().id, FAILED)
        assert played.request.state is State.CLOSED
        assert played.request.custody.fileno() < 0
        assert played.source.completed == [("its origin", errno.EACCES)]
        assert not played.dispatcher.requests


async def test_a_source_that_delivers_later() -> None:
    """Until it has, it holds the socket; the request is in nobody's hands, and what comes late changes nothing."""
    async with stage(keeps=True) as played:
        request = played.pulled()
        played.dispatcher.done(played.agent, request.id, FAILED)
        assert not played.dispatcher.requests
        assert request.custody.fileno() >= 0
        assert not played.dispatcher.all_in_hand(played.agent)
        with pytest.raises(RequestRefused):
            played.dispatcher.in_hand(played.agent, request.id)
        assert played.dispatcher.cancel(request) is None
        played.dispatcher.agent_gone([request])
        played.dispatcher.done(played.agent, request.id, Outcome(0))
        assert (request.state, request.outcome) == (State.CLOSED, FAILED)
        assert request.custody.fileno() >= 0
        request.custody.release()
        assert len(played.source.completed) == 1


@pytest.mark.parametrize("pulled", [False, True])
async def test_a_source_that_withdraws(pulled: bool) -> None:
    """It has the outcome and the socket from the call that it makes, once, and is not called; the agent lets go."""
    async with stage() as played:
        if pulled:
            played.pulled()
        outcome = played.dispatcher.cancel(played.request)
        assert outcome is not None
        assert outcome.status == errno.ECANCELED
        assert (played.request.state, played.dispatcher.requests) == (State.CLOSED, {})
        assert played.request.custody.fileno() >= 0
        assert played.source.completed == []
        assert played.agent.withdrawn == ([(played.request.id, errno.ECANCELED)] if pulled else [])
        assert played.dispatcher.cancel(played.request) is None
        played.request.custody.release()


async def test_a_source_that_fails() -> None:
    """Its fault is logged; the request is closed all the same, and so are those behind it."""
    async with stage(ValueError("a fault")) as played:
        with connected_pair() as (other, _):
            custody = Custody(os.dup(other.fileno()), played.dispatcher.close_fd, trusted=True)
            second = played.dispatcher.submit(played.submission, custody)
            played.pulled()
            played.dispatcher.stop()
            assert {played.request.state, second.state} == {State.CLOSED}
            assert max(played.request.custody.fileno(), second.custody.fileno()) < 0
            assert len(played.source.completed) == 2


@pytest.mark.parametrize(
    ("error", "status"), [(MessageError("too long"), errno.EIO), (OSError(errno.ENOMEM, "no memory"), errno.ENOMEM)]
)
async def test_a_request_that_cannot_be_sent(error: Exception, status: int) -> None:
    """It is completed with EIO, or as a shortage, and nothing is sent to the agent, since it has not got it."""
    async with stage() as played:
        played.dispatcher.not_handed_over(played.pulled(), error)
        assert played.source.completed == [("its origin", status)]
        assert not played.agent.withdrawn


async def test_what_is_not_listed_changes_nothing() -> None:
    """A pair of state and event without a row: nothing of the request is touched, or it would show."""
    async with stage() as played:
        unlisted = [(state, event) for state in State for event in Event if (state, event) not in TABLE]
        assert len(unlisted) + len(TABLE) == len(State) * len(Event)
        for state, event in unlisted:
            request = PendingRequest(cast(Submission, None), cast(Custody, None), None, 1, 0.0, 0.0, state=state)
            played.dispatcher.happen(request, event, FAILED)
            assert (request.state, request.outcome) == (state, None)


async def test_one_submission_for_many_sockets() -> None:
    """Each is a request of its own, and the same socket is refused while one of it is under way."""
    async with stage() as played:
        with connected_pair() as (other, _):
            custody = Custody(os.dup(other.fileno()), played.dispatcher.close_fd, trusted=True)
            second = played.dispatcher.submit(played.submission, custody, "another")
            assert second.id != played.request.id
            twin = Custody(os.dup(other.fileno()), played.dispatcher.close_fd, trusted=True)
            with pytest.raises(RequestRefused) as refused:
                played.dispatcher.submit(played.submission, twin)
            assert refused.value.errno == errno.EBUSY
            twin.release()
            assert [request.origin for request in played.dispatcher.requests.values()] == ["its origin", "another"]


class Listening(PlayedAgent):
    """An agent that serves sockets of one SO_PROTOCOL."""

    def __init__(self, protocol: int) -> None:
        super().__init__()
        self.socket_protocols = frozenset({protocol})


async def test_the_first_reason_to_refuse_a_request_is_told() -> None:
    """ESRCH before EBUSY before EAGAIN; whichever it is, the request is neither queued, counted nor announced."""
    async with stage(limits=Limits(per_source=1)) as played:
        dispatcher = played.dispatcher
        dispatcher.joined(Listening(socket.IPPROTO_UDP), ["udp"])

        def refused(group: str, fd: int) -> int:
            custody = Custody(os.dup(fd), dispatcher.close_fd, trusted=True)
            with pytest.raises(RequestRefused) as caught:
                dispatcher.submit(replace(played.submission, group=group), custody)
            custody.release()
            return caught.value.errno

        first = played.request.custody.fileno()
        assert [refused(group, first) for group in ("nobody", "udp", GROUP)] == [errno.ESRCH, errno.ESRCH, errno.EBUSY]
        with connected_pair() as (other, _):
            for _ in range(3):
                reasons = [refused(group, other.fileno()) for group in ("nobody", "udp", GROUP)]
                assert reasons == [errno.ESRCH, errno.ESRCH, errno.EAGAIN]
            assert len(dispatcher.groups[GROUP]) == 1
            assert set(dispatcher.groups) == {GROUP, "udp"}
            assert played.agent.announced == [GROUP]
            dispatcher.done(played.agent, played.pulled().id, FAILED)
            custody = Custody(os.dup(other.fileno()), dispatcher.close_fd, trusted=True)
            second = dispatcher.submit(played.submission, custody)
            assert list(dispatcher.requests.values()) == list(dispatcher.groups[GROUP]) == [second]


def test_the_deadline_is_the_agents_and_200_milliseconds() -> None:
    """Until then the agent may still report; the log says how long it was."""

    async def body() -> None:
        loop = asyncio.get_running_loop()
        async with stage() as played:
            began = loop.time()
            played.pulled()
            await asyncio.sleep(100.19)
            assert played.request.state is State.IN_FLIGHT
            with capture_logs() as logs:
                while not played.source.completed:
                    await asyncio.sleep(0.005)
            assert played.source.completed == [("its origin", errno.ETIMEDOUT)]
            assert 100.2 <= loop.time() - began < 100.23
            (event,) = (it for it in logs if it["event"] == "handshake")
            assert 100_200 <= event["milliseconds"] < 100_230

    virtual_time.run(body())


async def test_an_agent_leaves_each_of_its_groups() -> None:
    """A group that keeps another member stays open; those behind it are closed all the same."""
    async with stage() as played:
        dispatcher = played.dispatcher
        dispatcher.joined(played.agent, ["first", "last"])
        dispatcher.joined(PlayedAgent(), ["first"])
        dispatcher.left(played.agent, ["first", "last"], expected_back=False)
        assert played.source.closed == ["last"]
        assert [dispatcher.groups[name].open for name in ("first", "last")] == [True, False]


async def test_the_agent_learns_why_its_request_is_over() -> None:
    """ECANCELED where the consumer is gone, and the outcome's status in every other case."""
    for event, outcome, reason in (
        (Event.CONSUMER_GONE, None, errno.ECANCELED),
        (Event.CANCELLED, Outcome.failure(errno.ECANCELED, "withdrawn"), errno.ECANCELED),
        (Event.DEADLINE, Outcome.failure(errno.ETIMEDOUT, "late"), errno.ETIMEDOUT),
    ):
        async with stage() as played:
            request = played.pulled()
            played.dispatcher.happen(request, event, outcome)
            assert played.agent.withdrawn == [(request.id, reason)]
            if event is Event.CANCELLED:
                request.custody.release()  # the source's to give back


async def test_requests_that_are_passed_over_keep_their_order() -> None:
    """An agent of other sockets takes its own from between them; the rest is handed out as it came, once each."""
    async with stage() as played:
        with connected_pair() as (two, _), connected_pair() as (three, _), udp_socket() as datagrams:
            for number, sock in enumerate((two, datagrams, three), 2):
                played.another(sock, number)
            udp, anything = Listening(socket.IPPROTO_UDP), PlayedAgent()
            for agent in (udp, anything):
                played.dispatcher.joined(agent, [GROUP])
            assert [it.origin for it in played.dispatcher.pull(udp, GROUP, 9)] == [3]
            assert [it.origin for it in played.dispatcher.groups[GROUP]] == ["its origin", 2, 4]
            assert played.dispatcher.pull(udp, GROUP, 9) == []
            assert [it.origin for it in played.dispatcher.pull(anything, GROUP, 9)] == ["its origin", 2, 4]


@pytest.mark.parametrize("which", [0, 1, 2])
async def test_a_request_that_ends_while_it_waits_leaves_the_queue_alone(which: int) -> None:
    """The first, the last or one between: those that stay are handed out as they came, and no other."""
    async with stage() as played:
        with connected_pair() as (two, _), connected_pair() as (three, _):
            waiting = [played.request, played.another(two, "two"), played.another(three, "three")]
            ended = waiting.pop(which)
            outcome = played.dispatcher.cancel(ended)
            assert outcome is not None
            assert outcome.status == errno.ECANCELED
            ended.custody.release()
            assert len(played.dispatcher.groups[GROUP]) == 2
            assert played.dispatcher.pull(played.agent, GROUP, 9) == waiting
            assert played.source.completed == []


async def test_the_refusal_of_a_socket_names_its_kind() -> None:
    """The text says which sockets the group's agents do not serve."""
    async with stage() as played:
        played.dispatcher.joined(Listening(132), ["sctp"])
        one, two = socket.socketpair()
        with one, two, connected_pair() as (tcp, _), udp_socket() as datagrams:
            for sock, kind in ((one, "unix"), (tcp, "TCP"), (datagrams, "UDP")):
                custody = Custody(os.dup(sock.fileno()), played.dispatcher.close_fd, trusted=True)
                with pytest.raises(RequestRefused, match=f"serves {kind} sockets") as refused:
                    played.dispatcher.submit(replace(played.submission, group="sctp"), custody)
                assert refused.value.errno == errno.ESRCH
                custody.release()


async def test_an_urgent_request_overtakes_those_that_name_no_urgency() -> None:
    """A submission without an urgency has the lowest."""
    async with stage() as played:
        with connected_pair() as (two, _), connected_pair() as (three, _):
            for number, sock in enumerate((two, three), 1):
                played.another(sock, number, urgency=number)
            assert [it.origin for it in played.dispatcher.pull(played.agent, GROUP, 9)] == [2, 1, "its origin"]


async def test_no_text_of_a_request_shows_what_is_encoded() -> None:
    """Parameters hold keys, and an outcome a session: neither is in a repr."""
    async with stage() as played:
        outcome = Outcome(0, {}, b"a session")
        submission = replace(played.submission, parameters=Parameters(b"its own", b"a key"))
        assert "Parameters" not in repr(submission)
        for text in map(repr, (outcome, submission, submission.parameters)):
            assert not any(secret in text for secret in ("a session", "its own", "a key"))


async def test_a_log_of_warnings_alone_has_no_handshakes() -> None:
    """At a higher level than that of the event nothing is written, and the metrics count all the same."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with capture_logs() as logs:
        async with stage() as played:
            played.dispatcher.done(played.agent, played.pulled().id, FAILED)
            assert played.dispatcher.metrics.outcomes == {(GROUP, errno.EACCES): 1}
    assert [it["event"] for it in logs] == []


@contextlib.contextmanager
def udp_socket() -> Iterator[socket.socket]:
    """Open a connected UDP socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", 9))
        yield sock
