"""Plugin of pytest for a run with a mutant: the first test that fails, and limits on what the run may use.

With no fault in the tree it records instead which functions each test calls, in its own process.  What it is told and
what it reports are JSON files; the name of the first is in the environment.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

VARIABLE = "HSFRAMEWORK_MUTANTS"
MEMORY = 6 << 30
"""Bytes of address space for one process of a run."""
FILE = 256 << 20
"""Bytes of the largest file that a run may write."""

Call = tuple[str, int]
"""A file, from the root, and the line of a function in it."""


class Plugin:
    """Record and report of one run.

    ``told``: ``report`` (a path), ``record`` (True: record the calls), ``root`` (of the tree).
    """

    def __init__(self, told: dict[str, Any]) -> None:
        self._record = bool(told["record"])
        self._report = Path(told["report"])
        self._root = f"{told['root']}/"
        self._calls: set[Call] = set()
        self._tests: dict[str, dict[str, Any]] = {}
        self._failed: str | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Record the calls of a test."""
        if not self._record:
            return (yield)
        self._calls = set()
        threading.settrace(self._trace)
        sys.settrace(self._trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)
            calls = sorted((path.removeprefix(self._root), line) for path, line in self._calls)
            self._tests.setdefault(item.nodeid, {"seconds": 0.0})["calls"] = calls

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how long a test took, and the first that failed."""
        self._tests.setdefault(report.nodeid, {"seconds": 0.0})["seconds"] += report.duration
        if report.failed and self._failed is None:
            self._failed = report.nodeid

    def pytest_sessionfinish(self) -> None:
        """Write the report."""
        self._report.write_text(json.dumps({"failed": self._failed, "tests": self._tests if self._record else {}}))

    def _trace(self, frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if code.co_filename.startswith(self._root):
            self._calls.add((code.co_filename, code.co_firstlineno))


def pytest_configure(config: pytest.Config) -> None:
    """Limit this process, unless it boots a kernel, and register the plugin."""
    told = json.loads(Path(os.environ[VARIABLE]).read_text())
    if told["limited"]:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
    config.pluginmanager.register(Plugin(told))
