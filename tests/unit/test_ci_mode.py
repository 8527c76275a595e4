"""A skip in CI is a failure (tests/conftest.py)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SKIPS = """
import pytest
def test_skipped():
    pytest.skip("no such tool")
@pytest.mark.xfail(reason="known")
def test_expected():
    raise AssertionError
"""
SKIPS_WHOLE_FILE = 'import pytest\npytest.skip("no such module", allow_module_level=True)\n'


def run(folder: Path, content: str, ci: bool) -> subprocess.CompletedProcess[str]:
    """Run pytest in ``folder`` with this project's conftest and one test file."""
    shutil.copy(Path(__file__).parents[1] / "conftest.py", folder)
    (folder / "test_it.py").write_text(content)
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *(["--ci"] if ci else [])]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("content", [SKIPS, SKIPS_WHOLE_FILE], ids=["test", "file"])
def test_a_skip_fails_in_ci(tmp_path: Path, content: str) -> None:
    """With --ci a skipped test, and a file that skips itself, fail the run and say why."""
    finished = run(tmp_path, content, ci=True)
    assert finished.returncode != 0
    assert "skipped, and in CI nothing is: " in finished.stdout
    assert "no such" in finished.stdout


def test_a_skip_passes_elsewhere(tmp_path: Path) -> None:
    """Without CI a skip is a skip, and an expected failure is one in both."""
    finished = run(tmp_path, SKIPS, ci=False)
    assert finished.returncode == 0
    assert "1 skipped, 1 xfailed" in finished.stdout
    assert "1 failed, 1 xfailed" in run(tmp_path, SKIPS, ci=True).stdout
