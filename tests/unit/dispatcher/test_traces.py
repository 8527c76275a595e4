"""Traces in the dispatcher: whose handshakes are reported to whom, and for how long."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from hsframework.dispatcher.traces import MOST_STEPS, MOST_TRACES, Traces
from hsframework.errors import RequestRefused
from hsframework.testing import virtual_time


class Asker:
    """Somebody who has asked for a trace."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        self.over = self.gone = False

    def has_ended(self) -> bool:
        return self.over

    def answer(self, reports: Sequence[str], more: bool) -> None:
        self.reports += map(json.loads, reports)
        self.over = not more


def made() -> tuple[Any, Traces]:
    dispatcher: Any = SimpleNamespace(ended=None)
    return dispatcher, Traces(dispatcher, asyncio.get_running_loop())


def begin(traces: Traces, peer: str = "192.0.2.0/24", **values: int) -> Asker:
    asker = Asker()
    traces.begin({"peer": peer, **values}, asker.answer, lambda: asker.gone)
    return asker


def end(dispatcher: Any, number: int, peer: str, begun: float | None = None) -> None:
    """End a request, as the core does."""
    if dispatcher.ended is not None:
        now = asyncio.get_running_loop().time() if begun is None else begun
        request = SimpleNamespace(id=number, custody=SimpleNamespace(peer_address=peer), taken_at=now, pulled_at=None)
        dispatcher.ended(request, {"status": "OK", "peer": peer, "key": b"secret"})


async def test_handshakes_of_one_peer() -> None:
    """Those of its network are reported with their steps, and no others; then the core calls nothing again."""
    dispatcher, traces = made()
    assert not traces.wants("192.0.2.7:700")
    asker = begin(traces, count=2)
    assert traces.wants("192.0.2.7:700")
    assert traces.wants("[::ffff:192.0.2.7]:700")
    assert not traces.wants("198.51.100.1:1")
    assert not traces.wants(None)
    traces.traced(1, '[[0.1,"sent","ClientHello",9]]')
    end(dispatcher, 1, "192.0.2.7:700")
    end(dispatcher, 2, "198.51.100.1:1")
    end(dispatcher, 9, "192.0.2.7:701", begun=0.0)  # before the trace
    assert not asker.over
    end(dispatcher, 3, "192.0.2.8:1")
    assert [each["steps"] for each in asker.reports] == ['[[0.1,"sent","ClientHello",9]]', "[]"]
    assert asker.reports[0]["key"] == "<6 bytes>"
    assert asker.has_ended()
    assert dispatcher.ended is None
    traces.traced(4, "late")
    assert traces._steps == {}


async def test_several_traces_and_the_audit_log() -> None:
    """Each gets its own; what was called before at the end of a request is called still, and alone afterwards."""
    dispatcher, traces = made()
    logged: list[str] = []

    def log(request: Any, fields: Any) -> None:
        logged.append(fields["status"])

    dispatcher.ended = log
    one, other = begin(traces), begin(traces, "2001:db8::1")
    end(dispatcher, 1, "192.0.2.7:700")
    end(dispatcher, 2, "[2001:db8::1%eth0]:700")
    assert [len(asker.reports) for asker in (one, other)] == [1, 1]
    assert dispatcher.ended == log
    assert logged == ["OK", "OK"]


def test_the_end_of_the_time() -> None:
    """A trace ends by itself, with its answer."""

    async def body() -> None:
        dispatcher, traces = made()
        asker = begin(traces, seconds=30)
        await asyncio.sleep(29)
        assert not asker.over
        await asyncio.sleep(2)
        assert asker.has_ended()
        assert dispatcher.ended is None

    virtual_time.run(body())


async def test_an_asker_who_has_gone() -> None:
    """The trace ends with the next handshake or trace, so links that break leave nothing."""
    dispatcher, traces = made()
    for _ in range(3 * MOST_TRACES):
        begin(traces, count=5).gone = True
    assert len(traces.open) == 1
    end(dispatcher, 1, "198.51.100.1:1")
    end(dispatcher, 2, "192.0.2.1:1")
    assert traces.open == []


@pytest.mark.parametrize("values", [{"peer": "x"}, {"peer": ""}, {"count": 0}, {"count": 1001}, {"seconds": 601}])
async def test_what_is_refused(values: dict[str, Any]) -> None:
    """A peer that is no network, and numbers past the bounds."""
    _, traces = made()
    with pytest.raises(RequestRefused) as caught:
        traces.begin({"peer": "::/0", **values}, Asker().answer, lambda: False)
    assert caught.value.errno == errno.EINVAL


async def test_bounds() -> None:
    """So many traces at once, so much of an agent's report; all end with the service."""
    dispatcher, traces = made()
    askers = [begin(traces) for _ in range(MOST_TRACES)]
    with pytest.raises(RequestRefused) as caught:
        begin(traces)
    assert caught.value.errno == errno.EAGAIN
    traces.traced(1, "x" * (MOST_STEPS + 1))
    assert len(traces._steps[1]) == MOST_STEPS
    traces.close()
    assert all(asker.over for asker in askers)
    assert dispatcher.ended is None
