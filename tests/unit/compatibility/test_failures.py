"""The table of failures: each row is whole, and the documentation shows it."""

from __future__ import annotations

import errno
import runpy

import pytest

from hsframework.failures import Blame, Failure, HandshakeFailed
from tests.unit.compatibility.promise import ROOT


@pytest.mark.parametrize("failure", Failure, ids=lambda failure: failure.name)
def test_each_failure_says_who_is_to_blame(failure: Failure) -> None:
    """A side, an errno with a name, an alert of one byte or none, and a text of one line."""
    assert isinstance(failure.blame, Blame)
    assert failure.errno in errno.errorcode
    assert failure.alert is None or 0 <= failure.alert <= 255
    assert failure.meaning
    assert "\n" not in failure.meaning
    assert HandshakeFailed(failure).errno == failure.errno


def test_no_two_failures_are_one() -> None:
    """Members with equal rows would be one member with two names."""
    assert len(Failure) == len(Failure.__members__)


def test_each_side_is_to_blame_for_something() -> None:
    """No member of Blame is there in vain, and the two extremes are where they belong."""
    assert {failure.blame for failure in Failure} == set(Blame)
    assert Failure.BAD_SIGNATURE.blame is Blame.PEER
    assert Failure.INTERNAL.blame is Blame.US


def test_the_documentation_shows_the_blame() -> None:
    """The generated table has a row for each failure, which names its side."""
    lines = runpy.run_path(str(ROOT / "docs" / "generate.py"))["failures_table"]().splitlines()
    rows = {cells[1].strip("`"): cells for cells in ([cell.strip() for cell in line.split("|")] for line in lines[2:])}
    assert {name: cells[5] for name, cells in rows.items()} == {item.name: item.blame.value for item in Failure}
