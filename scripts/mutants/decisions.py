"""Decisions: mutants that make no difference, with the reason and the test that shows it (``decisions.toml``)."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.lint.sources import ROOT
from scripts.mutants.mutants import mutants_of

FILE = Path(__file__).with_name("decisions.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One mutant, by its properties, and why no test need catch it.  ``test``: the name of the one that shows it."""

    file: str
    scope: str
    operator: str
    before: str
    after: str
    because: str
    test: str
    nth: int = 0


def decisions(path: Path = FILE) -> list[Decision]:
    """Return all decisions."""
    return [Decision(**entry) for entry in tomllib.loads(path.read_text()).get("decision", [])]


def by_mutant(decided: list[Decision], root: Path = ROOT) -> tuple[dict[str, Decision], list[str]]:
    """Return the decisions by the names of their mutants, and a complaint for each that is stale."""
    found: dict[str, Decision] = {}
    stale: list[str] = []
    mutants = {
        file: list(mutants_of(root / file, root)) for file in {it.file for it in decided} if (root / file).exists()
    }
    for decision in decided:
        key = (decision.scope, decision.operator, decision.before, decision.after, decision.nth)
        for mutant in mutants.get(decision.file, ()):
            if (mutant.scope, mutant.operator, mutant.before, mutant.after, mutant.nth) == key:
                found[mutant.name] = decision
                break
        else:
            stale.append(f"{decision.file}: {decision.scope}: {decision.before}  ->  {decision.after}: no such mutant")
        if not _exists(decision.test, root):
            stale.append(f"{decision.file}: {decision.scope}: {decision.before}: no such test: {decision.test}")
    return found, stale


def _exists(name: str, root: Path) -> bool:
    path, _, function = name.partition("::")
    return bool(function) and (root / path).is_file() and function in _tests(root / path)


def _tests(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
