"""Fixtures for the consumer's connection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hsframework_quic.consumer import connection as core
from tests.unit.quic.joined import Ends, joined
from tests.unit.quic.pair import Pair


@pytest.fixture
def ends() -> Iterator[Ends]:
    with joined() as both:
        yield both


@pytest.fixture
def pair(ends: Ends) -> Pair:
    return Pair(ends)


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``close`` give up soon on a peer that acknowledges nothing."""
    monkeypatch.setattr(core, "CLOSE_PATIENCE", 0.05)
    monkeypatch.setattr(core, "PATIENCE_IN_PROBES", 0)
