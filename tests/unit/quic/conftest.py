"""Fixtures for the consumer's connection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.quic.joined import Ends, joined
from tests.unit.quic.pair import Pair


@pytest.fixture
def ends() -> Iterator[Ends]:
    with joined() as both:
        yield both


@pytest.fixture
def pair(ends: Ends) -> Pair:
    return Pair(ends)
