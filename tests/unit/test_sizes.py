"""A file has one subject: at most 400 lines; a function has at most 50."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

MAX_LINES_OF_A_FILE = 400
MAX_LINES_OF_A_FUNCTION = 50

TOO_LONG: set[str] = set()
"""Files and functions (``file:function``) that are known to be longer.  The list only shrinks."""


def longer_ones() -> Iterator[str]:
    """Yield the files and functions of the core and of the plugins that are above the limits."""
    for path in sorted([*(ROOT / "hsframework").rglob("*.py"), *(ROOT / "plugins").glob("*/hsframework_*/**/*.py")]):
        text = path.read_text()
        name = str(path.relative_to(ROOT))
        if len(text.splitlines()) > MAX_LINES_OF_A_FILE:
            yield name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                if (node.end_lineno or first) - first + 1 > MAX_LINES_OF_A_FUNCTION:
                    yield f"{name}:{node.name}"


def test_nothing_is_longer() -> None:
    """No file and no function is above its limit, but for those that are listed, and each of those is."""
    assert set(longer_ones()) == TOO_LONG
