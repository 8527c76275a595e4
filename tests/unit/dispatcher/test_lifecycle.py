"""The table of a request's life."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from hsframework.dispatcher.requests.lifecycle import TABLE, Action, Event, LifecycleError, State, step

EVENTS = st.lists(st.sampled_from(Event), max_size=30)


def run(events: list[Event]) -> tuple[State, list[Action]]:
    """Feed events to a fresh request; those that the table refuses change nothing."""
    state = State.QUEUED
    done: list[Action] = []
    for event in events:
        try:
            state, actions = step(state, event)
        except LifecycleError:
            continue
        done.extend(actions)
    return state, done


@given(EVENTS)
def test_one_completion_whatever_happens(events: list[Event]) -> None:
    """COMPLETE and RELEASE are done at most once, HAND_OVER too, and nothing is done after RELEASE."""
    state, done = run(events)
    assert done.count(Action.COMPLETE) <= 1
    assert done.count(Action.RELEASE) == (1 if state is State.CLOSED else 0)
    assert done.count(Action.HAND_OVER) <= 1
    assert Action.RELEASE not in done[:-1]


@given(EVENTS)
def test_a_request_that_left_its_agent_was_completed_or_has_no_consumer(events: list[Event]) -> None:
    """Past IN_FLIGHT a request has its completion behind it, unless its consumer is gone."""
    state, done = run(events)
    if state is State.COMPLETING:
        assert Action.COMPLETE in done
    if state is State.CLOSED:
        assert Action.COMPLETE in done or Event.CONSUMER_GONE in events


@given(EVENTS)
def test_every_request_can_be_brought_to_its_end(events: list[Event]) -> None:
    """From wherever it is, the consumer's going closes a request."""
    state, _ = run([*events, Event.CONSUMER_GONE])
    assert state is State.CLOSED


@pytest.mark.parametrize("event", [Event.DEADLINE, Event.CANCELLED, Event.AGENT_GONE, Event.CONSUMER_GONE])
def test_the_connection_is_dead_before_the_consumer_hears(event: Event) -> None:
    """Where an agent may still write to the socket, SHUT_DOWN comes before everything else."""
    _, actions = TABLE[State.IN_FLIGHT, event]
    assert actions[0] is Action.SHUT_DOWN


def test_what_is_not_listed_is_refused() -> None:
    """Every pair either has a row or raises; a closed request takes nothing any more."""
    for state in State:
        for event in Event:
            if (state, event) in TABLE:
                assert step(state, event) == TABLE[state, event]
            else:
                with pytest.raises(LifecycleError, match=event.name):
                    step(state, event)
    assert not [pair for pair in TABLE if pair[0] is State.CLOSED]
