"""The coverage-guided fuzzer, each target for its share of the time."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.conftest import share_of
from tests.fuzz.guided.targets import TARGETS

pytestmark = pytest.mark.fuzz
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", TARGETS)
def test_target(request: pytest.FixtureRequest, name: str) -> None:
    """No input of strangers ends in anything but the documented errors.

    One that does is added to ``tests/fuzz/corpus/NAME.hex``, which makes it a test.
    """
    if importlib.util.find_spec("atheris") is None:
        assert os.environ.get("CI") != "true" or sys.version_info >= (3, 14), "install atheris"
        pytest.skip("atheris is not there for this Python or machine")
    seconds = max(1, round(share_of(request)))
    command = [sys.executable, "-m", "tests.fuzz.guided", name, "--seconds", str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert not done.returncode, f"{done.stdout}\n{done.stderr[-4000:]}"
