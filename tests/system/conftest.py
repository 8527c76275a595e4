"""Tests on booted Debian systems (``make kernel guests``), each marked ``system``.

Guests that several tests share are prepared in the background from the first test on, two at a time: a User-Mode
Linux uses one processor.  A test that fails keeps the journal and console of its guests in build/system-logs.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from scripts.guests.releases import RELEASES
from tests.system.guest import Guest, unavailable
from tests.system.prepared import PREPARATIONS

LIMIT = 900
"""Seconds for one test, its share of the preparation included.  Each wait in a guest has a shorter limit."""


class Fleet:
    """The guests that tests share."""

    def __init__(self, names: list[str]) -> None:
        self._pool = ThreadPoolExecutor(2)
        self._guests: dict[str, Future[Guest]] = {
            name: self._pool.submit(PREPARATIONS[name].make, name) for name in names
        }

    def __getitem__(self, name: str) -> Guest:
        """Wait for a guest.  Raises what its preparation raised."""
        return self._guests[name].result()

    def close(self) -> None:
        """End all guests."""
        self._pool.shutdown(cancel_futures=True)
        for future in self._guests.values():
            if not future.cancelled() and future.exception() is None:
                future.result().close()


def _ours(item: pytest.Item) -> bool:
    return item.path.is_relative_to(Path(__file__).parent)


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test before ``-m`` selects, and skip it where there are no guests."""
    if not _ours(item):
        return
    item.add_marker(pytest.mark.system)
    item.add_marker(pytest.mark.timeout(LIMIT))
    reason = next(filter(None, (unavailable(release.suite) for release in RELEASES)), None)
    if reason:
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """The guests that the selected tests ask for."""
    used: set[str] = set()
    for item in request.session.items:
        if isinstance(item, pytest.Function):
            used.update(item.fixturenames)
            parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
            used.update(value for value in parameters if isinstance(value, str))
    fleet = Fleet([name for name in PREPARATIONS if name in used])
    yield fleet
    fleet.close()


@pytest.fixture
def main(fleet: Fleet) -> Guest:
    """Debian trixie with the service installed, enabled and serving, after a reboot."""
    return fleet["main"]


@pytest.fixture
def howtos(fleet: Fleet) -> Guest:
    """Debian trixie with the service installed by pip."""
    return fleet["howtos"]


@pytest.fixture
def bookworm(fleet: Fleet) -> Guest:
    """Debian bookworm with the service installed and enabled."""
    return fleet["bookworm"]


@pytest.fixture
def forky(fleet: Fleet) -> Guest:
    """Debian forky with the service installed and enabled."""
    return fleet["forky"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the logs of a failed test's guests, and name them in its report."""
    report = yield
    if report.failed and _ours(item):
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Guest):
                report.sections.append(("logs of the guest", str(value.keep(item.nodeid))))
    return report
