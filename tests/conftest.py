"""For every tier.

* In CI (``CI=true`` in the environment, or ``--ci``) a test that would be skipped has failed: what is not run there is
  not run anywhere.  A test that is marked ``data_of_others`` is the exception.
* A test may be a coroutine: it runs on an event loop of its own, and no fd may be left of it.
* A program that a test starts has the default disposition of signals, also if the suite was started in the background
  by a shell that ignores SIGINT and SIGQUIT there (``make test &`` in a script).
* How logs are written is as it was before each test: a command that a test calls may set it for its process.
* No test is about time: Hypothesis does not mind how long an example takes.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
from collections.abc import Generator, Iterator

import hypothesis
import pytest
import structlog

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--ci", action="store_true", help="a skipped test has failed (also when CI=true)")


def pytest_configure() -> None:
    # exec(2) resets a handler to the default and keeps what is ignored.  The suite itself stays uninterrupted.
    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    configured, before = structlog.is_configured(), structlog.get_config()
    yield
    structlog.configure(**before)
    if not configured:
        structlog.reset_defaults()


def _strict(config: pytest.Config) -> bool:
    return bool(config.getoption("--ci")) or os.environ.get("CI", "").lower() in ("1", "true", "yes")


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, and in CI nothing is: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if _strict(item.config) and item.get_closest_marker("data_of_others") is None:
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if _strict(collector.config):
        _refuse_skip(report)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    before = os.listdir("/proc/self/fd")
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    assert len(os.listdir("/proc/self/fd")) == len(before)
    return True
