"""Every field, enum member and method of the modules that a plugin author reads first has a docstring."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.compatibility.promise import ROOT

FOLDER = ROOT / "hsframework"
READ_FIRST = sorted(
    [*(FOLDER / "interface").glob("*.py"), *(FOLDER / "streams").glob("*.py")]
    + [FOLDER / name for name in ("errors.py", "failures.py", "hookspecs.py")]
)

NO_DOCSTRINGS = {"ABC", "Exception", "Protocol", "TypingProtocol", "enum.Enum", "enum.IntEnum"}
"""Bases whose members need docstrings of their own."""


@pytest.mark.parametrize("source", READ_FIRST, ids=lambda path: str(path.relative_to(FOLDER)))
def test_everything_is_documented(source: Path) -> None:
    """The module, its classes and functions, their fields, members and methods."""
    assert not list(undocumented(ast.parse(source.read_text("utf-8")), source.stem))


def test_a_gap_is_found() -> None:
    """A field, a member, a method and a class without a docstring are named; private and inherited ones are not."""
    text = '''
"""A module."""
class Kind(enum.Enum):
    """Documented."""
    ONE = 1
    TWO = 2
    """Documented."""
    THREE = (3, "documented")
class Bare:
    field: int
    _private: int
    def method(self): ...
    def _hidden(self): ...
class Child(Kind):
    """Documented."""
    field = 2
    def method(self): ...
'''
    assert list(undocumented(ast.parse(text), "m")) == ["m.Kind.ONE", "m.Bare", "m.Bare.field", "m.Bare.method"]


def undocumented(node: ast.Module | ast.ClassDef, where: str) -> Iterator[str]:
    """Yield the names below ``node`` without a docstring; a class with a base may leave its members' to the base."""
    if not ast.get_docstring(node):
        yield where
    inherits = isinstance(node, ast.ClassDef) and bool({ast.unparse(base) for base in node.bases} - NO_DOCSTRINGS)
    for item, following in zip(node.body, [*node.body[1:], None], strict=True):
        match item:
            case ast.ClassDef(name=name) if not name.startswith("_"):
                yield from undocumented(item, f"{where}.{name}")
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                documented = inherits or bool(ast.get_docstring(item))
                yield from () if documented or name.startswith("_") else (f"{where}.{name}",)
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                documented = inherits or _is_text(following) or _has_text(item.value) or isinstance(node, ast.Module)
                yield from () if documented or name.startswith("_") else (f"{where}.{name}",)


def _is_text(node: ast.stmt | None) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _has_text(value: ast.expr | None) -> bool:
    """Return True for the row of a table whose last column says what it means."""
    return isinstance(value, ast.Tuple) and isinstance(value.elts[-1], ast.Constant)
