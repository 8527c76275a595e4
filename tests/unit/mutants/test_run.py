"""Runs of mutants, and the sample of this project's that CI runs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.lint.sources import ROOT
from scripts.mutants import __main__ as command, running
from scripts.mutants.mutants import Mutant, mutants_of
from scripts.mutants.subjects import subjects
from scripts.mutants.tree import copied

FILE = "hsframework/dispatcher/requests/limits.py"
TESTS = ["tests/unit/dispatcher/test_limits.py"]
SAMPLE = 6
"""Mutants of all subjects together that CI runs; ``make mutants`` runs them all."""

SAMPLE_OF_A_PLUGIN = 2


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


def test_the_conformance_suite_judges_first() -> None:
    """All of the suite that calls a mutant's function runs before other tests; at the level of the module all of it."""
    fault = mutant("drop-change", "self._limits = _limits(limits)")
    calls = [[FILE, fault.function]]
    record = {
        "tests/test_suite.py::test_slow": {"seconds": 2.0, "calls": calls},
        "tests/test_suite.py::test_quick": {"seconds": 1.0, "calls": calls},
        "tests/test_suite.py::test_another": {"seconds": 1.0, "calls": []},
        "tests/test_own.py::test_quickest": {"seconds": 0.1, "calls": calls},
    }
    noise = next(it for it in subjects() if it.name == "noise")
    subject = replace(noise, suite=("tests/test_suite.py",))
    both = ["tests/test_suite.py::test_quick", "tests/test_suite.py::test_slow"]
    assert running.of_suite(subject, record, fault) == both
    assert running.callers(record, fault, but=both) == ["tests/test_own.py::test_quickest"]
    everywhere = running.of_suite(subject, record, replace(fault, function=0))
    assert everywhere == ["tests/test_suite.py::test_another", *both]


def test_the_subjects_of_plugins_and_examples() -> None:
    """They are those whose files lie outside of the core; each plugin has a suite, and all together 150 mutants."""
    outside = [subject for subject in subjects() if subject.outside]
    assert {subject.name for subject in outside if subject.suite} == {"tls13", "quic", "psp", "noise", "spake2"}
    assert sum(len(subject.chosen(command.SEED)) for subject in outside) >= 150


@pytest.mark.timeout(900)
def test_an_example_runs_as_if_it_were_installed() -> None:
    """The tests of an example find its entry point in the copy, and a fault in it is caught by the suite."""
    noise = next(it for it in subjects() if it.name == "noise")
    fault = next(it for it in noise.mutants if (it.operator, it.scope) == ("drop-change", "Exchange.__init__"))
    with copied(project=noise.project) as copy:
        verdict = copy.run([f"{noise.suite[0]}::TestIK::test_handshake_succeeds"], 120, mutant=fault)
    assert verdict.caught == f"{noise.suite[0]}::TestIK::test_handshake_succeeds", verdict.output


@pytest.mark.timeout(900)
def test_a_sample_of_mutants_is_caught(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the mutants of ``make mutants``, those of a sample are caught, or decided, and no decision is stale."""
    status = command.main(["run", "--sample", str(SAMPLE), "--unordered"])
    assert status == 0, capsys.readouterr().out


@pytest.mark.timeout(900)
def test_a_sample_of_a_plugins_mutants_is_caught(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the mutants of an example those of a sample are caught, and the score is printed."""
    status = command.main(["run", "noise", "--plugins", "--sample", str(SAMPLE_OF_A_PLUGIN), "--unordered"])
    said = capsys.readouterr().out
    assert status == 0, said
    assert "conformance suite, 0 decided, 0 escaped; score 100 %" in said
