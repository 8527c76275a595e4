"""Groups are independent: what happens in one never changes what another one answers.

A dispatcher with all groups is compared with one for each group, in which nothing happens in any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from structlog.testing import capture_logs

from hsframework.configuration.settings import Configuration, Limits
from hsframework.dispatcher.requests.request import PendingRequest
from hsframework.dispatcher.sources.kernel import rounds
from tests.support.house import REQUEST, connected_pair, house
from tests.support.played_kernel import GROUP, OTHER, stage
from tests.unit.dispatcher.closed_world import GROUPS, RESTART, Socket, World

ANY_GROUP = st.sampled_from(GROUPS)
PROTOCOLS = st.sampled_from([frozenset[int](), frozenset({6}), frozenset({17})])
ENDS: list[Callable[[World, PendingRequest], None]] = [
    World.gone,
    World.cancelled,
    lambda world, request: world.done(request, 0),
    lambda world, request: world.done(request, errno.EACCES),
]


class Comparison(RuleBasedStateMachine):
    """Each step is one group's, and is taken in the world of all groups and in the group's own."""

    def __init__(self) -> None:
        super().__init__()
        self.together = World()
        self.alone = {group: World() for group in GROUPS}

    def both(self, group: str, step: Callable[[World], None]) -> None:
        for world in (self.together, self.alone[group]):
            step(world)
        self.settle(0.0)

    def settle(self, seconds: float) -> None:
        for world in (self.together, *self.alone.values()):
            world.loop.run(seconds)

    @initialize(groups=st.sets(ANY_GROUP, min_size=2))
    def agents_are_there(self, groups: set[str]) -> None:
        for group in sorted(groups):
            self.an_agent_joins(group, frozenset())

    @rule(group=ANY_GROUP, protocols=PROTOCOLS)
    def an_agent_joins(self, group: str, protocols: frozenset[int]) -> None:
        self.both(group, lambda world: world.agent_joins(group, protocols))

    @rule(group=ANY_GROUP, leaves=st.booleans())
    def an_agent_goes(self, group: str, leaves: bool) -> None:
        self.both(group, lambda world: world.agent_goes(group, leaves))

    @rule(group=ANY_GROUP, most=st.integers(1, 4))
    def an_agent_pulls(self, group: str, most: int) -> None:
        self.both(group, lambda world: world.agent_pulls(group, most))

    @rule(
        group=ANY_GROUP,
        user=st.integers(0, 1),
        urgency=st.integers(0, 7),
        timeout=st.sampled_from([0.3, 1.0, 4.0]),
        times=st.integers(1, 3),
    )
    def programs_ask(self, group: str, user: int, urgency: int, timeout: float, times: int) -> None:
        for _ in range(times):
            self.both(group, lambda world: world.program_asks(group, user, urgency, timeout))

    @rule(group=ANY_GROUP, fail=st.lists(st.booleans(), min_size=1, max_size=5))
    def kernel_consumers_ask(self, group: str, fail: list[bool]) -> None:
        """Let consumers ask one after another, each with True if ACCEPT fails and it is lost."""
        for fails in fail:
            self.both(group, lambda world, fails=fails: world.kernel_consumer_asks(group, fails))  # type: ignore[misc]

    @rule(group=ANY_GROUP, end=st.sampled_from(ENDS))
    def a_request_ends(self, group: str, end: Callable[[World, PendingRequest], None]) -> None:
        self.both(group, lambda world: world.one_ends(group, end))

    @rule(group=ANY_GROUP, call=st.sampled_from(["join", "accept"]))
    def the_kernel_refuses(self, group: str, call: str) -> None:
        self.both(group, lambda world: world.refuses(group, call))

    @rule(group=ANY_GROUP)
    def the_kernel_is_mended(self, group: str) -> None:
        self.both(group, lambda world: world.mends(group))

    @rule(seconds=st.sampled_from([0.01, 0.1, 1.0, RESTART, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.settle(seconds)

    @rule()
    def refused_groups_are_tried_again(self) -> None:
        for world in (self.together, *self.alone.values()):
            world.source.look()
        self.settle(0.0)

    @invariant()
    def each_group_answers_as_if_it_were_alone(self) -> None:
        for group, world in self.alone.items():
            assert self.together.answers[group] == world.answers[group]
            assert list(self.together.kernel.queues[group]) == list(world.kernel.queues[group])


def test_any_interleaving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents, programs, kernel consumers, refusals and time, in any order: no group notices another."""
    monkeypatch.setattr(rounds, "Custody", Socket)
    monkeypatch.setattr(rounds, "MOST_ACCEPTS", 2)
    with capture_logs() as logs:
        run_state_machine_as_test(
            Comparison, settings=settings(max_examples=150, stateful_step_count=40, deadline=None)
        )
    assert not [entry for entry in logs if entry["event"] == "a fault in the dispatcher"]


async def test_hundreds_in_one_group() -> None:
    """A group that is full, of programs and of the kernel, neither refuses nor delays the others' requests."""
    many = 200
    limits = Limits(per_source=many, per_consumer=many, per_address=2 * many)
    with contextlib.ExitStack() as opened:
        pairs = [opened.enter_context(connected_pair()) for _ in range(2 * many + 4)]
        async with stage(limits=limits) as played:
            await played.home.agent(GROUP)
            idle, consumer = await played.home.agent(OTHER), await played.home.consumer()
            for _ in range(many):
                consumer.send("submit", {**REQUEST, "group": GROUP}, pairs.pop()[0].fileno())
                played.ask(pairs.pop()[0])
            consumer.send("submit", {**REQUEST, "group": GROUP}, pairs.pop()[0].fileno())
            assert (await consumer.expect("error")).error == errno.EAGAIN
            played.submit(pairs.pop()[0])
            await played.until(lambda: len(played.service.queues[GROUP]) == 1)
            consumer.send("submit", {**REQUEST, "group": OTHER}, pairs.pop()[0].fileno())
            request = await idle.take_message(OTHER)
            idle.send("done", {"request-id": request.values["request-id"], "status": errno.EACCES})
            assert (await consumer.expect("result")).values["status"] == errno.EACCES
            played.submit(pairs.pop()[0], group=OTHER)
            request = await idle.take_message(OTHER)
            idle.send("done", {"request-id": request.values["request-id"], "status": errno.EKEYREJECTED})
            await played.until(lambda: played.service.told == [(errno.EKEYREJECTED, [])])


async def test_a_request_that_is_lost_pauses_its_group_alone() -> None:
    """A group whose requests cannot be taken does not keep another one's waiting."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            agent = await played.home.agent(GROUP, OTHER)
            played.service.not_accepted[OTHER] = errno.EKEYREVOKED
            before = played.service.accepts
            played.announce()
            await played.until(lambda: played.service.accepts > before)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(asyncio.get_running_loop(), "call_later", _never)
                played.submit(ours)
                await played.until(lambda: not played.service.queues[GROUP])
            await agent.take_message(GROUP)


def _never(*_: object) -> None:
    """Do nothing: no pause ends, and none begins."""


async def test_a_flood_in_one_group_lets_another_have_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a group no more than so many requests are taken in one turn of the loop; then the others have theirs."""
    monkeypatch.setattr(rounds, "MOST_ACCEPTS", 3)
    first, last = sorted((GROUP, OTHER))
    with contextlib.ExitStack() as opened:
        pairs = [opened.enter_context(connected_pair()) for _ in range(9)]
        async with stage() as played:
            agent = await played.home.agent(first, last)
            for ours, _ in pairs[:8]:
                played.ask(ours, group=first)
            played.submit(pairs[8][0], group=last)
            await played.until(lambda: not played.service.queues[last])
            assert len(played.service.queues[first]) == 5
            for _ in range(8):
                await agent.take_message(first)
            await agent.take_message(last)


async def test_one_group_more_than_there_are_shares_for() -> None:
    """An agent that would open it is refused, and may once another group is left; those that are open are served."""
    async with house(Configuration(limits=Limits(groups=2))) as home:
        agent = await home.agent("one", "two")
        await home.agent("two")
        stranger = await home.stranger()
        values = {"group": ["two", "three"], "protocol": "toy", "agent": "by hand"}
        refused = await stranger.ask("join", values)
        assert (refused.error, "raise limits.groups" in refused.values["message"]) == (errno.EAGAIN, True)
        assert home.dispatcher.groups.keys() == {"one", "two"}
        await agent.ask("leave", {"group": ["one"]})
        assert (await stranger.ask("join", values)).error == 0


async def test_more_groups_expected_than_there_are_shares_for() -> None:
    """Those that have a share are waited for; the others are reported."""
    with capture_logs() as logs:
        async with house(Configuration(limits=Limits(groups=1)), expected_groups=["one", "two"]) as home:
            assert [group.name for group in home.dispatcher.groups.values() if group.open] == ["one"]
    assert [entry["group"] for entry in logs if entry["event"] == "an expected group is not served"] == ["two"]
