"""The threat model names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "topics" / "security.md"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def functions(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_named_test_exists() -> None:
    """A promise whose test was renamed or is gone is a promise without a proof."""
    named = TEST.findall(PAGE.read_text("utf-8"))
    assert len(named) > 30
    missing = [f"{file}::{name}" for file, name in named if name not in functions(ROOT / file)]
    assert missing == []


def test_each_promise_names_a_test() -> None:
    """Every row of a table of promises ends with a test."""
    promises = PAGE.read_text("utf-8").split("## Promises")[1].split("\n## ")[0]
    rows = [
        line for line in promises.splitlines() if line.startswith("| ") and not line.startswith(("| promise", "| ---"))
    ]
    assert len(rows) > 30
    assert [row for row in rows if not TEST.search(row.split("|")[2])] == []
