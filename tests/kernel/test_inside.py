"""A test that runs in the kernel has out here the outcome that it had in there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.kernel import uml

OUTCOMES = Path(__file__).parent / "inside" / "outcomes.py"


def _run(report: Path, ci: str) -> dict[str, tuple[str, str]]:
    """Test → (outcome, text)."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(OUTCOMES), f"--junit-xml={report}"]
    environment = {**os.environ, "CI": ci}
    subprocess.run(command, cwd=uml.CHECKOUT, env=environment, capture_output=True, check=False, timeout=120)
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        outcomes = [(child.tag, child.get("message", "") + (child.text or "")) for child in case]
        found[case.attrib["name"]] = next(iter(outcomes), ("passed", ""))
    return found


@pytest.mark.parametrize(("ci", "of_a_skip"), [("", "skipped"), ("true", "failure")])
def test_outcomes(tmp_path: Path, ci: str, of_a_skip: str) -> None:
    """Passed, failed, skipped (failed in CI), broken; and a panic is one test's failure and nobody else's."""
    found = _run(tmp_path / "report.xml", ci)
    assert {name: outcome for name, (outcome, _) in found.items()} == {
        "test_passes": "passed",
        "test_fails": "failure",
        "test_skips": of_a_skip,
        "test_breaks": "error",
        "test_panics": "failure",
        "test_passes_in_the_next_kernel": "passed",
        "test_has_the_memory_that_it_asked_for": "passed",
    }
    assert "in its own words" in found["test_fails"][1]
    assert "for its own reason" in found["test_skips"][1]
    assert "in the set-up" in found["test_breaks"][1]
    assert "Kernel panic" in found["test_panics"][1]
