"""``make lint`` runs every check, and fails at the end with the names of those that failed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CHECKS = [
    "ruff check .",
    "ruff format --check .",
    "mypy",
    "python -m scripts.lint.references",
    "python -m scripts.lint.prose",
]


def make_lint(environment: Path, *failing: str) -> subprocess.CompletedProcess[str]:
    """Run ``make lint`` with programs that do nothing in place of the checks; ``failing``: those that fail."""
    (environment / "bin").mkdir()
    for program in {check.split()[0] for check in CHECKS}:
        script = environment / "bin" / program
        cases = "".join(f'  "{check}") echo broken; exit 3 ;;\n' for check in failing)
        script.write_text(f'#!/bin/sh\necho "ran ${{0##*/}} $*"\ncase "${{0##*/}}${{*:+ }}$*" in\n{cases}esac\n')
        script.chmod(0o755)
    (environment / ".ready").touch()
    command = ["make", "--no-print-directory", f"VENV={environment}", "lint"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_all_is_well(tmp_path: Path) -> None:
    """Every check runs once."""
    done = make_lint(tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line[4:].strip() for line in done.stdout.splitlines() if line.startswith("ran ")] == CHECKS


@pytest.mark.parametrize("failing", [CHECKS[:1], CHECKS[-1:], CHECKS[1:4]], ids=["first", "last", "several"])
def test_a_failure_stops_no_other_check(tmp_path: Path, failing: list[str]) -> None:
    """The rest still runs, and the last line names what failed."""
    done = make_lint(tmp_path, *failing)
    assert done.returncode
    assert sum(line.startswith("ran ") for line in done.stdout.splitlines()) == len(CHECKS)
    assert f"lint failed: {', '.join(failing)}\n" in done.stderr
