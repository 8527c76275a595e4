"""The dispatcher between a source and an agent that the test plays: who takes which step."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from dataclasses import replace
from typing import cast

import pytest
import structlog
from structlog.testing import capture_logs

from hsframework.configuration.settings import Limits
from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.messages import Parameters
from hsframework.dispatcher.requests.lifecycle import TABLE, Event, State
from hsframework.dispatcher.requests.request import Outcome, PendingRequest, Submission
from hsframework.errors import MessageError, RequestRefused
from hsframework.telemetry.metrics import Kind
from hsframework.testing import virtual_time
from tests.support.house import connected_pair
from tests.unit.dispatcher.played import FAILED, GROUP, Listening, PlayedAgent, stage


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


async def test_no_text_of_a_request_shows_what_is_encoded() -> None:
    """Parameters hold keys, and an outcome a session: neither is in a repr."""
    async with stage() as played:
        outcome = Outcome(0, {}, b"a session")
        submission = replace(played.submission, parameters=Parameters(b"its own", b"a key"))
        assert "Parameters" not in repr(submission)
        for text in map(repr, (outcome, submission, submission.parameters)):
            assert not any(secret in text for secret in ("a session", "its own", "a key"))


async def test_a_log_of_warnings_alone_has_the_failures() -> None:
    """A success and a withdrawal are below that level, a failure is not, and the metrics count them all."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with capture_logs() as logs:
        for outcome in (Outcome(0, {"session": b"one"}), FAILED, Outcome.failure(errno.ECANCELED, "withdrawn")):
            async with stage() as played:
                played.dispatcher.done(played.agent, played.pulled().id, outcome)
                kind = Kind(protocol="played", source="played")
                assert played.dispatcher.metrics.outcomes == {(GROUP, outcome.status, kind): 1}
    assert [(it["event"], it["status"], it["log_level"]) for it in logs] == [("handshake", "EACCES", "warning")]


async def test_a_kernel_consumer_has_no_use_for_an_exported_session() -> None:
    """Success without a session in the kernel is EIO for it, whatever else the agent has reported."""
    async with stage() as played:
        with connected_pair() as (two, _):
            request = played.another(two, "in the kernel", kernel_consumer=True)
            played.dispatcher.pull(played.agent, GROUP, 9)
            played.dispatcher.done(played.agent, request.id, Outcome(0, {"session": b"exported"}))
            played.dispatcher.done(played.agent, played.request.id, Outcome(0, {"session": b"exported"}))
            assert played.source.completed == [("in the kernel", errno.EIO), ("its origin", 0)]
