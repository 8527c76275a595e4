"""Many requests of the kernel's at once, through `hsframework run`."""

from __future__ import annotations

import errno

import pytest

from benchmarks.stalled import client_hello
from tests.kernel.house import ROOT, End, house
from tests.kernel.requests import Ask, Device, make_requests, silent
from tests.support.running import proportional_memory


@pytest.mark.parametrize("at_once", [16, 64])
def test_many_requests(at_once: int) -> None:
    """400, both ends ours: each ends, with a session that carries data, however many the kernel refused at first."""
    server = End(ROOT.issue(["server.test"]))
    with house(client=End(), server=server), Device() as device:
        tally = make_requests(device, 400, at_once, Ask("server.test"))
    assert (tally.served, tally.lost, dict(tally.failed)) == (400, 0, {})


STALLED = 200


def test_stalled_peers() -> None:
    """200 that say nothing after their ClientHello: no process more, less than a fifth of tlshd's 363 KiB each."""
    with house(client=End(), server=End(ROOT.issue(["server.test"]))) as service, Device() as device:
        make_requests(device, 40, 8, Ask("server.test"))
        processes = service.processes()
        before = sum(map(proportional_memory, processes))
        with silent(device) as peers:
            peers.add(STALLED, client_hello())
            peers.answered()
            assert {*service.processes()} == {*processes}
            each = (sum(map(proportional_memory, processes)) - before) / STALLED
            assert not device.ended(0)
            peers.hang_up()
            assert {item.status for item in peers.ended(STALLED)} == {errno.ETIMEDOUT}
        assert each < 363 / 5
