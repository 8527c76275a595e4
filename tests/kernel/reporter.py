"""pytest inside the test kernel: each report goes to the exchange directory, from where the outer pytest takes it.

One JSON object a line, on the host's disk before the next test starts, so that what ends the kernel is told apart.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest


class Reporter:
    """A plugin of the inner run."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self._config = config
        self._file = open(path, "a")

    def _write(self, **line: Any) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        serialized = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._write(test=report.nodeid, report=serialized)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._write(test=nodeid, finished=True)
