"""Many requests of the kernel's at once, through `hsframework run`."""

from __future__ import annotations

import pytest

from tests.kernel.house import ROOT, End, house
from tests.kernel.requests import Ask, Device, make_requests


@pytest.mark.parametrize("at_once", [16, 64])
def test_many_requests(at_once: int) -> None:
    """400, both ends ours: each ends, with a session that carries data, however many the kernel refused at first."""
    server = End(ROOT.issue(["server.test"]))
    with house(client=End(), server=server), Device() as device:
        tally = make_requests(device, 400, at_once, Ask("server.test"))
    assert (tally.served, tally.lost, dict(tally.failed)) == (400, 0, {})
