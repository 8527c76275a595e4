"""Tests of this directory need the test kernel (``make kernel``); those in ``inside/`` run in it.

The outer pytest collects everything.  At the first test of ``inside/`` it boots the kernel once, with a pytest in it
that runs all of them; each report of that one becomes the report of the same test out here.  A kernel that hangs or
dies fails the test that was running, with its log, and the tests after that get a new one.

``@pytest.mark.kernel(memory="2G")`` gives a test a boot with that much memory, shared by all that ask for the same.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel import uml
from tests.kernel.reporter import Reporter

INSIDE = Path(__file__).with_name("inside")
REPORTS = "reports"
IN_THE_KERNEL = "HSFRAMEWORK_TEST_KERNEL"
"""In the environment of the inner run: the path of the exchange directory."""


def _in_the_kernel() -> str | None:
    return os.environ.get(IN_THE_KERNEL)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kernel(memory): needs the test kernel")
    exchange = _in_the_kernel()
    if exchange:
        config.pluginmanager.register(Reporter(config, Path(exchange, REPORTS)), "kernel-reporter")


def _ours(item: pytest.Item) -> bool:
    return item.path.is_relative_to(Path(__file__).parent)


def _runs_inside(item: pytest.Item) -> bool:
    return item.path.is_relative_to(INSIDE)


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Add the marker before ``-m`` selects; out here without a time limit, since a boot has one of its own."""
    if not _ours(item):
        return
    if item.get_closest_marker("kernel") is None:
        item.add_marker(pytest.mark.kernel)
    if not _in_the_kernel():
        reason = uml.unavailable()
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
        item.add_marker(pytest.mark.timeout(0))


def _memory(item: pytest.Item) -> str:
    marker = item.get_closest_marker("kernel")
    return str(marker.kwargs.get("memory", uml.MEMORY)) if marker else uml.MEMORY


class _InnerRun:
    """One boot and the tests that it was started for."""

    def __init__(self, items: list[pytest.Item], memory: str) -> None:
        inner = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *(item.nodeid for item in items)]
        self.boot = uml.Boot(inner, memory=memory, environment={IN_THE_KERNEL: "/run/exchange"})
        self._path = self.boot.exchange / REPORTS
        self._read = 0
        self._lines: dict[str, list[dict[str, Any]]] = {}

    def _take(self) -> None:
        if not self._path.exists():
            return
        with open(self._path, "rb") as reports:
            reports.seek(self._read)
            for line in reports:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                entry = json.loads(line)
                self._lines.setdefault(entry["test"], []).append(entry)

    def _finished(self, nodeid: str) -> bool:
        self._take()
        return any("finished" in line for line in self._lines.get(nodeid, ()))

    def reports(self, nodeid: str) -> list[dict[str, Any]]:
        """Return serialized reports.  Raises KernelFailed."""
        self.boot.watch(lambda: self._finished(nodeid))
        if not self._finished(nodeid):
            raise uml.KernelFailed(self.boot.report(f"the test kernel ended before {nodeid} was through"))
        return [line["report"] for line in self._lines[nodeid] if "report" in line]

    @property
    def got_anywhere(self) -> bool:
        return bool(self._lines)


class KernelRuns:
    """The boots of one outer session, by memory."""

    def __init__(self) -> None:
        self._runs: dict[str, _InnerRun] = {}
        self._hopeless: dict[str, str] = {}
        self._done: set[str] = set()

    def reports(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        """Yield the inner run's reports of the item, or one failure if the kernel ended before it had reported."""
        memory = _memory(item)
        self._done.add(item.nodeid)
        try:
            if memory in self._hopeless:
                raise uml.KernelFailed(self._hopeless[memory])
            serialized = self._run_for(item, memory).reports(item.nodeid)
        except uml.KernelFailed as error:
            self._end(memory, str(error))
            yield pytest.TestReport(item.nodeid, item.location, {}, "failed", str(error), "call")
            return
        for data in serialized:
            if isinstance(data["longrepr"], list):  # a skip's place and reason: JSON has no tuples
                data["longrepr"] = tuple(data["longrepr"])
            report = item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
            assert isinstance(report, pytest.TestReport)
            yield report

    def _run_for(self, item: pytest.Item, memory: str) -> _InnerRun:
        run = self._runs.get(memory)
        if run is None:
            later = [other for other in item.session.items if _runs_inside(other) and _memory(other) == memory]
            ahead = [other for other in later if other is item or other.nodeid not in self._done]
            run = self._runs[memory] = _InnerRun(ahead, memory)
        return run

    def _end(self, memory: str, text: str) -> None:
        """Give the next test a new kernel, unless this one did not get as far as to run any test."""
        run = self._runs.pop(memory, None)
        if run is not None:
            if not run.got_anywhere:
                self._hopeless[memory] = text
            run.boot.close()

    def close(self) -> None:
        for run in self._runs.values():
            run.boot.close()
        self._runs.clear()


_RUNS = pytest.StashKey[KernelRuns]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Report a test of ``inside/`` by the inner run, in the place of a run out here."""
    if not _runs_inside(item) or _in_the_kernel() or uml.unavailable():
        return None
    runs = item.session.stash.setdefault(_RUNS, KernelRuns())
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in runs.reports(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    runs = session.stash.get(_RUNS, None)
    if runs is not None:
        runs.close()
