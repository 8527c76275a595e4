"""Repeated events of the log are counted and not written."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from hsframework.telemetry import log as module, repeats
from hsframework.telemetry.log import configure
from hsframework.telemetry.repeats import BURST, CROWD, MOST_CAUSERS, WINDOW, Repeats


class Log:
    """A log in a file, with a clock that the test sets."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self._path = path
        self._fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        monkeypatch.setattr(module, "Repeats", lambda: Repeats(lambda: self.now))
        configure("debug", "json", fd=self._fd)

    def info(self, event: str, times: int = 1, **values: Any) -> None:
        for number in range(times):
            structlog.get_logger("test").info(event, number=number, **values)

    def warning(self, event: str, times: int = 1, **values: Any) -> None:
        for number in range(times):
            structlog.get_logger("test").warning(event, number=number, **values)

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self._path.read_text().splitlines()]
        return [event for event in found if name in (None, event["event"])]

    def close(self) -> None:
        structlog.reset_defaults()
        os.close(self._fd)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    made = Log(tmp_path / "log", monkeypatch)
    yield made
    made.close()


def test_a_flood_is_counted(log: Log) -> None:
    """The first are written, and once their time is over one line says how many were not."""
    log.info("a request is refused", 100_000, uid=4001)
    assert len(log.events()) == BURST
    log.now += WINDOW
    log.info("something else")
    (said,) = log.events("the same event again")
    assert (said["of"], said["uid"], said["times"]) == ("a request is refused", 4001, 100_000 - BURST)
    log.info("a request is refused", uid=4001)
    assert len(log.events("a request is refused")) == BURST + 1


def test_nobody_hides_the_events_of_another(log: Log) -> None:
    """Each causer has a count of its own, and so has each event; few events are all written, without a count."""
    log.info("a request is refused", BURST + 1, uid=4001)
    log.info("a request is refused", uid=4002)
    log.info("a request is refused", agent="a")
    log.info("an agent joins", uid=4001)
    assert len(log.events()) == BURST + 3
    log.now += WINDOW
    log.info("something else")
    assert [event["times"] for event in log.events("the same event again")] == [1]


def test_a_user_with_many_processes_is_one(log: Log) -> None:
    """The names of his agents, and the numbers of his processes, are no way around the count."""
    for number in range(BURST * 2):
        log.info("an agent's message is refused", uid=4001, agent=f"pid {number}", process=number)
    assert len(log.events()) == BURST
    log.now += WINDOW
    log.info("something else")
    (said,) = log.events("the same event again")
    assert (said["uid"], said["times"]) == (4001, BURST)


def test_a_crowd_is_bounded(log: Log) -> None:
    """Of many causers at once each is written once, whatever the others do; afterwards all have room again."""
    for uid in range(CROWD * 4):
        log.info("a request is refused", BURST, uid=uid)
    assert len(log.events()) == BURST * CROWD + 3 * CROWD
    assert {event["uid"] for event in log.events()} == set(range(CROWD * 4))
    log.now += WINDOW
    log.info("something else")
    assert len(log.events("the same event again")) == 3 * CROWD
    log.info("a request is refused", BURST, uid=5000)
    assert sum(event.get("uid") == 5000 for event in log.events()) == BURST


def test_what_an_event_says_does_not_make_it_another(log: Log) -> None:
    """A name of the causer's choice is no way around the count."""
    for number in range(BURST * 2):
        log.info("a request is refused", uid=4001, group=f"group {number}")
    assert len(log.events()) == BURST


def test_outcomes_of_handshakes_are_all_written(log: Log) -> None:
    """They are what the log is for; so are the events at the level debug, and a plugin's own records."""
    log.info("handshake", BURST * 3, agent="a")
    log.info("a plugin's record", BURST * 3)
    for _ in range(BURST * 3):
        structlog.get_logger("test").debug("a detail")
    assert len(log.events()) == BURST * 9


def test_failed_handshakes_are_summed_up_by_peer(log: Log) -> None:
    """A peer has one count for all its ports, and hides neither another peer's failures nor its own successes."""
    for port in range(BURST + 317):
        log.warning("handshake", peer=f"192.0.2.7:{port}", agent="a", source="kernel")
    log.warning("handshake", peer="192.0.2.8:1", agent="a", source="kernel")
    log.info("handshake", peer="192.0.2.7:1", agent="a", source="kernel")
    assert len(log.events("handshake")) == BURST + 2
    log.now += WINDOW
    log.info("something else")
    (said,) = log.events("the same event again")
    assert (said["of"], said["peer"], said["times"], said["seconds"]) == ("handshake", "192.0.2.7", 317, WINDOW)


def test_a_peer_counts_for_each_user(log: Log) -> None:
    """One user's failures with a peer do not hide another's; on a unix socket the user alone counts."""
    for uid in (4001, 4002):
        log.warning("handshake", BURST, peer="[2001:db8::7]:1", uid=uid)
        log.warning("handshake", BURST + 1, peer="unix", uid=uid)
    assert len(log.events("handshake")) == 4 * BURST


def test_warnings_without_a_causer_are_counted(log: Log) -> None:
    """A library's complaints of what peers send have none."""
    for _ in range(BURST * 3):
        structlog.get_logger("quic").warning("a datagram makes no sense")
    assert len(log.events()) == BURST


def test_any_number_of_causers(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are not remembered share one count, so that neither memory nor the log grows."""
    monkeypatch.setattr(repeats, "MOST_CAUSERS", 8)
    for uid in range(8 + BURST * 2):
        log.info("a request is refused", uid=uid)
    assert len(log.events()) == 8 + BURST
    assert MOST_CAUSERS > 256, "one for each agent there may be"


async def test_the_number_is_logged_although_nothing_else_happens(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event loop looks again when the time is over."""
    later: list[Any] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda delay, act: later.append((delay, act)))
    log.info("a request is refused", BURST + 5, uid=4001)
    ((delay, act),) = later
    log.now += delay
    act()
    assert [event["times"] for event in log.events("the same event again")] == [5]


def test_a_forked_process_counts_anew(log: Log) -> None:
    """Events that its parent left out are reported by the parent alone."""
    log.info("a request is refused", BURST + 5, uid=4001)
    pid = os.fork()
    if not pid:
        log.now += WINDOW
        log.info("in the child")
        os._exit(0)
    os.waitpid(pid, 0)
    assert log.events("the same event again") == []
    assert len(log.events("in the child")) == 1
