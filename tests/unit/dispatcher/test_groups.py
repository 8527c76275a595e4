"""Groups between sources and agents that the test plays: order, places in the queue, members that come and go."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from dataclasses import replace

import pytest

from hsframework.configuration.settings import Limits
from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.requests.groups import MOST_GROUPS
from hsframework.errors import RequestRefused
from hsframework.testing import virtual_time
from tests.support.house import connected_pair
from tests.unit.dispatcher.played import GROUP, Listening, PlayedAgent, PlayedSource, stage, udp_socket


async def test_an_agent_leaves_each_of_its_groups() -> None:
    """A group that keeps another member stays open; those behind it are closed all the same."""
    async with stage() as played:
        dispatcher = played.dispatcher
        dispatcher.joined(played.agent, ["first", "last"])
        dispatcher.joined(PlayedAgent(), ["first"])
        dispatcher.left(played.agent, ["first", "last"], expected_back=False)
        assert played.source.closed == ["last"]
        assert [dispatcher.groups[name].open for name in ("first", "last")] == [True, False]


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


def test_an_agent_that_comes_back_in_time_finds_its_group_open() -> None:
    """All that waits is announced to it; the grace period that was under way closes nothing later."""

    async def body() -> None:
        async with stage() as played:
            dispatcher, successor = played.dispatcher, PlayedAgent()
            dispatcher.left(played.agent, [GROUP], expected_back=True)
            await asyncio.sleep(1.9)
            assert dispatcher.groups[GROUP].open
            dispatcher.joined(successor, [GROUP])
            assert successor.announced == [GROUP]
            await asyncio.sleep(60)
            assert not played.source.closed
            assert dispatcher.pull(successor, GROUP, 9) == [played.request]

    virtual_time.run(body())


def test_a_group_to_which_nobody_comes_back_is_closed_after_its_grace_period() -> None:
    """After that time and not before; a request that waits gets EIO."""

    async def body() -> None:
        async with stage() as played:
            played.dispatcher.left(played.agent, [GROUP], expected_back=True)
            await asyncio.sleep(played.dispatcher.configuration.timeouts.agent_restart - 0.01)
            assert not played.source.closed
            await asyncio.sleep(0.02)
            assert played.source.closed == [GROUP]
            assert played.source.completed == [("its origin", errno.EIO)]

    virtual_time.run(body())


@pytest.mark.parametrize("expected_back", [True, False])
def test_sockets_that_no_member_takes_any_longer_are_refused(expected_back: bool) -> None:
    """The only agent of TCP sockets is gone, and one of UDP sockets stays: a grace period, and then ESRCH at once."""

    async def body() -> None:
        async with stage() as played:
            tcp, udp = Listening(socket.IPPROTO_TCP), Listening(socket.IPPROTO_UDP)
            for agent in (tcp, udp):
                played.dispatcher.joined(agent, ["both"])
            group = played.dispatcher.groups["both"]
            played.dispatcher.left(tcp, ["both"], expected_back=expected_back)
            assert group.may_serve(socket.IPPROTO_TCP) == expected_back
            await asyncio.sleep(played.dispatcher.configuration.timeouts.agent_restart + 0.01)
            assert not group.may_serve(socket.IPPROTO_TCP)
            assert group.may_serve(socket.IPPROTO_UDP)
            played.dispatcher.joined(tcp, ["both"])
            assert group.may_serve(socket.IPPROTO_TCP)

    virtual_time.run(body())


def test_groups_that_are_expected_at_the_start_have_more_time() -> None:
    """All agents load at once then: what a predecessor had joined stays joined eight times as long."""

    async def body() -> None:
        async with stage() as played:
            played.dispatcher.expect(["expected"])
            wait = played.dispatcher.configuration.timeouts.agent_restart * 3
            await asyncio.sleep(wait - 0.01)
            assert played.dispatcher.groups["expected"].open
            await asyncio.sleep(0.02)
            assert played.source.closed == ["expected"]

    virtual_time.run(body())


async def test_names_of_groups_do_not_pile_up() -> None:
    """An agent that joins and leaves under one name after the other leaves a bounded number behind."""
    async with stage() as played:
        for number in range(3 * MOST_GROUPS):
            played.dispatcher.joined(agent := PlayedAgent(), [f"name {number}"])
            played.dispatcher.left(agent, [f"name {number}"], expected_back=False)
        assert len(played.dispatcher.groups) <= MOST_GROUPS
        assert played.pulled() is played.request


async def test_sources_are_counted_apart() -> None:
    """The limit of one is not another's, though both have the same consumer."""
    async with stage(limits=Limits(per_source=1)) as played:
        other = PlayedSource()
        other.name = "other"
        played.dispatcher.add_source(other)
        with connected_pair() as (two, _), connected_pair() as (three, _):
            assert not played.dispatcher.has_room(played.source, GROUP)
            assert played.dispatcher.has_room(other, GROUP)
            played.another(two, source=other)
            assert not played.dispatcher.has_room(other, GROUP)
            custody = Custody(os.dup(three.fileno()), played.dispatcher.close_fd, trusted=True)
            for source in (played.source, other):
                with pytest.raises(RequestRefused, match="of this source"):
                    played.dispatcher.submit(replace(played.submission, source=source), custody)
            custody.release()
        played.dispatcher.remove_source(other)


async def test_the_groups_that_are_served_are_named_in_their_order() -> None:
    """Past the limit of groups an agent is refused with EAGAIN, and reads which there are."""
    async with stage(limits=Limits(groups=4)) as played:
        names = ["zebra", "ant", "mole"]
        played.dispatcher.joined(PlayedAgent(), names)
        played.dispatcher.check_groups(["ant", GROUP])
        with pytest.raises(RequestRefused, match=r"4 groups are served at once \(ant, mole, toy, zebra\)") as refused:
            played.dispatcher.check_groups(["bee"])
        assert refused.value.errno == errno.EAGAIN
