"""Decisions on mutants: each is of a mutant that there is, with a test that there is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scripts.mutants.decisions import Decision, by_mutant, decisions
from scripts.mutants.mutants import mutants_of

CODE = "def f(queue):\n    queue.close()\n"
DECISION = Decision(
    file="code.py",
    scope="f",
    operator="drop-ending",
    before="queue.close()",
    after="pass",
    because="it is closed already",
    test="test_code.py::test_f",
)


def folder(path: Path) -> Path:
    """Return a folder with the code and its test."""
    (path / "code.py").write_text(CODE)
    (path / "test_code.py").write_text("def test_f():\n    ...\n")
    return path


def test_a_decision_is_of_its_mutant(tmp_path: Path) -> None:
    """A decision with mutant and test is found by the mutant's name, and is not stale."""
    root = folder(tmp_path)
    (mutant,) = (it for it in mutants_of(root / "code.py", root) if it.operator == "drop-ending")
    assert by_mutant([DECISION], root) == ({mutant.name: DECISION}, [])


def test_stale_decisions(tmp_path: Path) -> None:
    """A decision of code that is gone, of a file that is gone, or with a test that is gone, is stale."""
    root = folder(tmp_path)
    for gone in ({"before": "queue.open()"}, {"nth": 1}, {"file": "gone.py"}, {"test": "test_code.py::test_g"}):
        _, stale = by_mutant([replace(DECISION, **gone)], root)
        assert len(stale) == 1, gone


def test_no_decision_is_stale() -> None:
    """The decisions of this repository are of mutants and tests that there are, and none is there twice."""
    decided = decisions()
    found, stale = by_mutant(decided)
    assert stale == []
    assert len(found) == len(decided)
