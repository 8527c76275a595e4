"""Counts of a cell, which the dispatcher's metrics have: sent in batches, by way of the supervisor."""

from __future__ import annotations

from collections.abc import Iterator

from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.errors import MessageError
from hsframework.local.control import CellCounted, Counted
from hsframework.local.control_form import MOST_NUMBERS
from hsframework.telemetry.metrics import UNKNOWN, Kind, Metrics

IN_A_CELL = Kind(source="cell")
"""Kind of a handshake of a user's cell, of which no more is known here."""

LONGEST = 3600 * 1_000_000
"""Microseconds of a request, at most."""


class Tally(Metrics):
    """Metrics of a cell: what has come since the last call of :meth:`reports`."""

    def __init__(self) -> None:
        super().__init__()
        self._ended: dict[str, list[tuple[int, int]]] = {}
        self._refused: dict[str, list[int]] = {}

    def handshake(self, group: str, status: int, duration: float, kind: Kind = UNKNOWN) -> None:
        """Count a request that was completed, as :class:`Metrics` does, but for its kind."""
        self._ended.setdefault(group, []).append((status, min(int(duration * 1_000_000), LONGEST)))

    def refusal(self, group: str, number: int) -> None:
        """Count a request that was refused, as :class:`Metrics` does."""
        self._refused.setdefault(group, []).append(number)

    def reports(self) -> Iterator[Counted]:
        """Yield what has been counted, and begin anew."""
        ended, self._ended = self._ended, {}
        refused, self._refused = self._refused, {}
        for group in {**ended, **refused}:
            of_group, errors = ended.get(group, []), refused.get(group, [])
            for first in range(0, max(len(of_group), len(errors)), MOST_NUMBERS):
                part = of_group[first : first + MOST_NUMBERS]
                try:
                    yield Counted(
                        group,
                        tuple(status for status, _ in part),
                        tuple(duration for _, duration in part),
                        tuple(errors[first : first + MOST_NUMBERS]),
                    )
                except MessageError:
                    # A consumer has chosen a group's name that no message has room for: it is counted for none.
                    continue


def count_cell(dispatcher: Dispatcher, message: CellCounted) -> None:
    """Count what a cell reports, which is a stranger's word: only groups that are served here are labels."""
    group = message.group if message.group in dispatcher.groups else ""
    for status, duration in zip(message.statuses, message.durations, strict=False):
        if 0 <= status <= 4095 and 0 <= duration <= LONGEST:
            dispatcher.metrics.handshake(group, status, duration / 1_000_000, IN_A_CELL)
            dispatcher.metrics.recent.count(group, status, "in a cell")
    for number in message.refused:
        if 0 < number <= 4095:
            dispatcher.metrics.refusal(group, number)
