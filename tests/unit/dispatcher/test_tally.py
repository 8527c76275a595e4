"""Counts of a cell, and their place in the dispatcher's metrics."""

from __future__ import annotations

import errno

from hsframework.dispatcher.tally import IN_A_CELL, Tally, count_cell
from hsframework.local.control import CellCounted, Counted
from hsframework.local.control_form import MOST_NUMBERS
from tests.unit.dispatcher.played import GROUP, stage


def test_reports_have_all_of_it_once() -> None:
    """In parts that a message has room for; a group whose name is too long for one is left out."""
    tally = Tally()
    for number in range(MOST_NUMBERS + 5):
        tally.handshake("toy", 0, number / 1000)
    tally.refusal("other", errno.EAGAIN)
    tally.refusal("x" * 5000, errno.ESRCH)
    reports = list(tally.reports())
    assert [len(report.statuses) for report in reports if report.group == "toy"] == [MOST_NUMBERS, 5]
    assert reports[0].durations[:3] == (0, 1000, 2000)
    assert Counted("other", (), (), (errno.EAGAIN,)) in reports
    assert len(reports) == 3
    assert not list(tally.reports())


async def test_a_cell_chooses_no_label() -> None:
    """A group that is not served here is counted without a name; numbers that are none are passed over."""
    async with stage() as played:
        for group in (GROUP, "nonsense"):
            count_cell(played.dispatcher, CellCounted(group, (0, errno.EIO, -1), (1000, 2000, 3000), (0, errno.EAGAIN)))
        metrics = played.dispatcher.metrics
        assert metrics.outcomes == {(group, status, IN_A_CELL): 1 for group in (GROUP, "") for status in (0, errno.EIO)}
        assert metrics.refused == {(GROUP, errno.EAGAIN): 1, ("", errno.EAGAIN): 1}
        assert metrics.duration_sums[GROUP] == 0.003
