"""The tables of a kernel source and of its groups."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, strategies as st

from hsframework.dispatcher.sources.kernel.states import (
    GROUPS,
    SOURCES,
    GroupAction,
    GroupEvent,
    GroupState,
    LifecycleError,
    SourceAction,
    SourceEvent,
    SourceState,
    step_group,
    step_source,
)

SERVED = {GroupState.WANTED, GroupState.JOINED, GroupState.REOPENED}
OF_AGENTS = {GroupEvent.OPENED: True, GroupEvent.CLOSED: False}
OUTSIDE = (GroupEvent.OPENED, GroupEvent.CLOSED, GroupEvent.RETRY, GroupEvent.READY, GroupEvent.LOST)
"""Events that come from outside, at any time."""

NO_EVENT: tuple[GroupEvent | None, ...] = (None,)
RESULTS: Mapping[GroupAction, tuple[GroupEvent | None, ...]] = {
    GroupAction.JOIN: (GroupEvent.JOINED, GroupEvent.NOT_JOINED, GroupEvent.LOST),
    GroupAction.LEAVE: (None, GroupEvent.LOST),
    GroupAction.ACCEPT: (None, GroupEvent.REFUSED, GroupEvent.LOST),
    GroupAction.REFUSE: (None, GroupEvent.DRAINED, GroupEvent.REFUSED, GroupEvent.LOST),
}
"""The event in which an action may end; None: in none, and the row goes on."""


def test_pairs_of_groups_are_listed_or_refused() -> None:
    """Every pair of a group either has a row or raises, and every event from outside has one in every state."""
    for state in GroupState:
        for event in GroupEvent:
            if (state, event) in GROUPS:
                assert step_group(state, event) == GROUPS[state, event]
            else:
                assert event not in OUTSIDE
                with pytest.raises(LifecycleError, match=event.name):
                    step_group(state, event)


def test_pairs_of_sources_are_listed_or_refused() -> None:
    """Every pair of a source either has a row or raises; from every state there is a way to CLOSED."""
    for state in SourceState:
        assert step_source(state, SourceEvent.CLOSED)[0] is SourceState.CLOSED
        for event in SourceEvent:
            if (state, event) in SOURCES:
                assert step_source(state, event) == SOURCES[state, event]
            else:
                with pytest.raises(LifecycleError, match=event.name):
                    step_source(state, event)


@pytest.mark.parametrize("state", GroupState)
def test_an_action_ends_in_events_of_its_state(state: GroupState) -> None:
    """Each event in which an action of a row may end has a row in the state that the row leads to."""
    for (_, event), (following, actions) in GROUPS.items():
        if following is state:
            for action in actions:
                for result in RESULTS.get(action, NO_EVENT):
                    assert result is None or (following, result) in GROUPS, (event, action, result)


def test_a_service_that_is_gone_needs_no_action() -> None:
    """LOST has no action and leads to no membership and no queue, since both went with the sockets."""
    for state in GroupState:
        following, actions = step_group(state, GroupEvent.LOST)
        assert not actions
        assert following in (GroupState.WANTED, GroupState.UNSERVED)


def test_requests_are_taken_for_agents_and_refused_without() -> None:
    """ACCEPT leads to a group that is served, REFUSE to one that is not, and each membership ends by LEAVE or LOST."""
    for (state, event), (following, actions) in GROUPS.items():
        assert GroupAction.ACCEPT not in actions or following in SERVED
        assert GroupAction.REFUSE not in actions or following is GroupState.LEFT
        if state is GroupState.JOINED and following is not GroupState.JOINED and event is not GroupEvent.LOST:
            assert actions[0] is GroupAction.LEAVE


class Group:
    """A group, the membership that its actions bring about, and whether an agent serves it."""

    def __init__(self) -> None:
        self.state = GroupState.UNSERVED
        self.member = self.served = False

    def send(self, event: GroupEvent, data: st.DataObject) -> None:
        """Feed an event, and the results of the actions, which are drawn."""
        self.served = OF_AGENTS.get(event, self.served)
        following: GroupEvent | None = event
        while following is not None:
            if following is GroupEvent.LOST:
                self.member = False
            self.state, actions = step_group(self.state, following)
            following = None
            for action in actions:
                following = data.draw(st.sampled_from(RESULTS.get(action, NO_EVENT)), label=action.name)
                if action is GroupAction.JOIN:
                    assert not self.member
                    self.member = following is GroupEvent.JOINED
                if action is GroupAction.LEAVE:
                    assert self.member
                    self.member = False
                if following is not None:
                    break


@given(st.lists(st.sampled_from(OUTSIDE), max_size=20), st.data())
def test_groups_tell_the_truth(events: list[GroupEvent], data: st.DataObject) -> None:
    """A group is a member in JOINED alone, and served in its states, after any events and ends of actions."""
    group = Group()
    for event in events:
        group.send(event, data)
        assert group.member == (group.state is GroupState.JOINED)
        assert group.served == (group.state in SERVED)


@given(st.lists(st.sampled_from(SourceEvent), max_size=12))
def test_a_source_is_forgotten_once(events: list[SourceEvent]) -> None:
    """The dispatcher is told once, on the way to CLOSED, after the sockets were closed; IDLE closes them too."""
    state, done = SourceState.OPEN, list[SourceAction]()
    for event in events:
        try:
            state, actions = step_source(state, event)
        except LifecycleError:
            continue
        done += actions
        if event is SourceEvent.IDLE and state is not SourceState.CLOSED:
            assert SourceAction.CLOSE_SOCKETS in actions
    assert done.count(SourceAction.FORGET) == (state is SourceState.CLOSED)
    if state is SourceState.CLOSED:
        assert SourceAction.CLOSE_SOCKETS in done[: done.index(SourceAction.FORGET)]
