"""Runs of mutants, and the sample of this project's that CI runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts.lint.sources import ROOT
from scripts.mutants import __main__ as command
from scripts.mutants.mutants import Mutant, mutants_of
from scripts.mutants.tree import copied

FILE = "hsframework/dispatcher/requests/limits.py"
TESTS = ["tests/unit/dispatcher/test_limits.py"]
SAMPLE = 6
"""Mutants of all subjects together that CI runs; ``make mutants`` runs them all."""


def mutant(operator: str, before: str) -> Mutant:
    """Return the first mutant of the file with this operator and text."""
    return next(it for it in mutants_of(ROOT / FILE, ROOT) if (it.operator, it.before) == (operator, before))


def test_a_mutant_is_caught_by_name_in_a_copy() -> None:
    """The test that fails is named; the copy is whole afterwards, and the checkout was not touched."""
    fault = mutant("compare", "counts.get(key, 0) >= most[row]")
    before = (ROOT / FILE).read_bytes()
    with copied() as copy:
        verdict = copy.run(TESTS, 60, mutant=fault)
        assert verdict.caught is not None, verdict.output
        assert verdict.caught.startswith(TESTS[0] + "::")
        assert copy.run(TESTS, 60).caught is None
        assert (copy.root / FILE).read_bytes() == before == (ROOT / FILE).read_bytes()


def test_the_record_names_the_tests_that_call_a_function() -> None:
    """A run without a mutant records which test calls what; those that are given run in their order."""
    fault = mutant("drop-change", "self._limits = _limits(limits)")
    with copied() as copy:
        record = copy.run(TESTS, 60).report["tests"]
        callers = [name for name, it in record.items() if [FILE, fault.function] in it["calls"]]
        assert callers
        assert copy.run(callers[::-1], 60, mutant=fault).caught == callers[-1]


def test_a_run_ends_at_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant that no test would end is ended from outside, with the processes that it has started."""
    fault = mutant("check", "limit is not None")
    with copied() as copy:
        # A program that ignores what a test could send, in the place of the interpreter.
        endless = tmp_path / "endless"
        endless.write_text("#!/bin/sh\ntrap '' TERM INT HUP\nwhile :; do sleep 1; done\n")
        endless.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(endless))
        assert copy.run(TESTS, 0.5, mutant=fault).caught == "[the limit in time]"


@pytest.mark.timeout(900)
def test_a_sample_of_mutants_is_caught(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the mutants of ``make mutants``, those of a sample are caught, or decided, and no decision is stale."""
    status = command.main(["run", "--sample", str(SAMPLE), "--unordered"])
    assert status == 0, capsys.readouterr().out
