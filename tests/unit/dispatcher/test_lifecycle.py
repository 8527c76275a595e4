"""The table of a request's life."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from hsframework.dispatcher.requests.lifecycle import TABLE, Action, Event, State

EVENTS = st.lists(st.sampled_from(Event), max_size=30)


def run(events: list[Event]) -> tuple[State, list[Action]]:
    """Feed events to a fresh request; those that the table has not change nothing."""
    states, done = followed(events)
    return states[-1], done


def followed(events: list[Event]) -> tuple[list[State], list[Action]]:
    """Return every state that is come to, and the actions."""
    states = [State.QUEUED]
    done: list[Action] = []
    for event in events:
        state, actions = TABLE.get((states[-1], event), (states[-1], ()))
        if state is not states[-1]:
            states.append(state)
        done.extend(actions)
    return states, done


@given(EVENTS)
def test_one_completion_whatever_happens(events: list[Event]) -> None:
    """COMPLETE or RELEASE is the last action and done once, by which a request is closed; no state is come to twice."""
    states, done = followed(events)
    ends = done.count(Action.COMPLETE) + done.count(Action.RELEASE)
    assert ends == (1 if states[-1] is State.CLOSED else 0)
    assert len(states) == len(set(states))
    assert not {Action.COMPLETE, Action.RELEASE} & set(done[:-1])


@given(EVENTS)
def test_a_request_that_left_its_agent_was_completed_or_has_no_consumer(events: list[Event]) -> None:
    """A closed request has its completion behind it, unless its consumer is gone."""
    state, done = run(events)
    if state is State.CLOSED:
        assert Action.COMPLETE in done or Event.CONSUMER_GONE in events


@given(EVENTS)
def test_every_request_can_be_brought_to_its_end(events: list[Event]) -> None:
    """From wherever it is, the consumer's going closes a request."""
    state, _ = run([*events, Event.CONSUMER_GONE])
    assert state is State.CLOSED


@pytest.mark.parametrize("event", [Event.DEADLINE, Event.CANCELLED, Event.AGENT_GONE, Event.CONSUMER_GONE])
def test_the_connection_is_dead_before_the_consumer_hears(event: Event) -> None:
    """SHUT_DOWN comes before everything else in states in which an agent may still write to the socket."""
    _, actions = TABLE[State.IN_FLIGHT, event]
    assert actions[0] is Action.SHUT_DOWN


def test_the_outcome_goes_out_last() -> None:
    """Each row into CLOSED ends with COMPLETE, or with RELEASE where the consumer is gone; no other row has either."""
    for (_, event), (following, actions) in TABLE.items():
        last = Action.RELEASE if event is Event.CONSUMER_GONE else Action.COMPLETE
        ends = [action for action in actions if action in (Action.COMPLETE, Action.RELEASE)]
        assert ends == ([last] if following is State.CLOSED else []), event
        assert ends == list(actions[-1:]), event


def test_accept_is_a_change_of_the_state_alone() -> None:
    """The dispatcher takes all requests of an ACCEPT through this row at once, and does no actions for them."""
    assert TABLE[State.QUEUED, Event.ACCEPTED] == (State.IN_FLIGHT, ())


def test_a_closed_request_takes_nothing_any_more() -> None:
    """No row begins there; what happens with a pair that has no row is tested with the dispatcher."""
    assert not [pair for pair in TABLE if pair[0] is State.CLOSED]
