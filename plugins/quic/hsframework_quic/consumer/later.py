"""The answer of a method that cannot give one without waiting."""

from __future__ import annotations

import enum
from typing import Final

from hsframework_quic.consumer.endings import Ending, check_open


class Later(enum.Enum):
    """The type of :data:`LATER`."""

    LATER = enum.auto()


LATER: Final = Later.LATER
"""Returned by a ``try_`` method whose caller has to wait for the peer."""


def later(ending: Ending | None) -> Later:
    """Return LATER while the connection is open.  Raises ConnectionEnded once it is over: nothing more will come."""
    check_open(ending)
    return LATER
