"""The record of a handshake's messages, for a trace."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hsframework.agent.traced import MOST_STEPS, Recorder

HELLO = b"\x16\x03\x01" + (20).to_bytes(2) + b"\x01" + (16).to_bytes(3) + bytes(16)
CHANGE = b"\x14\x03\x03\x00\x01\x01"
SECRET = b"\x17\x03\x03" + (30).to_bytes(2) + b"do not show these thirty bytes"
ALERT = b"\x15\x03\x03\x00\x02\x02\x28"


def steps(recorder: Recorder) -> list[list[Any]]:
    return list(json.loads(recorder.report()))


@pytest.fixture
def recorder() -> Recorder:
    times = iter(range(10_000))
    return Recorder(lambda: next(times) / 1000)


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_records_however_they_are_cut(recorder: Recorder, size: int) -> None:
    """Each TLS record is one step with its type, its size and its time, and none of its contents."""
    data = HELLO + CHANGE + SECRET
    for at in range(0, len(data), size):
        recorder.received(data[at : at + size])
    recorder.sent(ALERT)
    found = steps(recorder)
    assert found == [
        [1.0, "received", "ClientHello", 25],
        [2.0, "received", "ChangeCipherSpec", 6],
        [3.0, "received", "encrypted", 35],
        [4.0, "sent", "alert 40", 7],
    ]
    assert "show" not in recorder.report()


def test_messages_in_one_record_and_over_several(recorder: Recorder) -> None:
    """All that begin in a record are named, and one that goes on is not taken for another."""
    body = b"\x02" + (4).to_bytes(3) + bytes(4) + b"\x0b" + (20).to_bytes(3) + bytes(10)
    recorder.received(b"\x16\x03\x03" + len(body).to_bytes(2) + body)
    rest = bytes(10) + b"\x63" + (0).to_bytes(3)
    recorder.received(b"\x16\x03\x03" + len(rest).to_bytes(2) + rest)
    assert [what for _, _, what, _ in steps(recorder)] == ["ServerHello, Certificate", "handshake message 99"]


def test_what_is_no_tls(recorder: Recorder) -> None:
    """Each piece is one step with its size, also after what began like a record; so is each datagram."""
    recorder.sent(b"hello")
    recorder.received(b"\x16\x03\xff\xff\xff")
    recorder.received(b"more")
    recorder.datagram("sent", bytes(1200))
    assert [step[1:] for step in steps(recorder)] == [
        ["sent", "data", 5],
        ["received", "data", 5],
        ["received", "data", 4],
        ["sent", "datagram", 1200],
    ]


def test_steps_are_bounded(recorder: Recorder) -> None:
    """Further ones are counted, so the report of a hostile peer fits into a message."""
    for _ in range(MOST_STEPS + 5):
        recorder.sent(b"x")
    found = steps(recorder)
    assert len(found) == MOST_STEPS + 1
    assert found[-1][2:] == ["further steps", 5]
    assert len(recorder.report()) < 32_000
