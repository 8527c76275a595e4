"""The project's Python files, with their docstrings and comments."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

FOLDERS = ("hsframework", "plugins", "examples", "scripts", "docs", "benchmarks", "tests")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Docstring:
    """``owner``: the module, class or function; for an attribute the assignment in front of its docstring.

    ``scope``: the names of the classes around it, from the outside, its own included.
    """

    owner: ast.AST
    text: str
    line: int
    scope: tuple[str, ...]


def python_files(folder: Path) -> Iterator[Path]:
    """Yield the Python files below a folder, or the one file that ``folder`` is, in order of their names."""
    paths = [folder] if folder.is_file() else sorted(folder.rglob("*.py"))
    return (path for path in paths if not {"_build", "build", "__pycache__"} & set(path.parts))


def module_name(path: Path, root: Path = ROOT) -> str:
    """Return the dotted name by which a file is imported; a package has the name of its folder."""
    parts = list(path.relative_to(root).with_suffix("").parts)
    first = next((index for index, part in enumerate(parts[:-1]) if part.startswith("hsframework_")), 0)
    parts = parts[first:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def docstrings(tree: ast.Module) -> Iterator[Docstring]:
    """Yield the docstrings of a module, of its classes and functions at any depth, and of attributes."""
    yield from _docstrings(tree, ())


def _docstrings(node: ast.AST, scope: tuple[str, ...]) -> Iterator[Docstring]:
    if isinstance(node, ast.ClassDef):
        scope = (*scope, node.name)
    if isinstance(node, ast.Module | ast.ClassDef | Function):
        owner: ast.AST = node
        for statement in node.body:
            text = _text(statement)
            if text is not None and (owner is node or isinstance(owner, ast.Assign | ast.AnnAssign)):
                yield Docstring(owner, text, statement.lineno, scope)
            owner = statement
    for child in ast.iter_child_nodes(node):
        yield from _docstrings(child, scope)


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return node.value.value
    return None


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield each comment with its line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
