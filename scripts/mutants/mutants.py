"""Mutants of a file: every place at which an operator applies, and the choice of some of them by a seed."""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scripts.mutants import c_sources, expressions, statements

SHOWN = 100
"""Characters of a mutant's texts by which it is known; what is longer is cut."""

Place = tuple[int, int, str]
"""First byte, byte after the last, and the text that takes their place."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault in one file.

    ``path``: from the root of the tree.  ``scope``: the classes and functions around it.  ``before``, ``after``: the
    text that is replaced and the one in its place, as one line.  ``nth``: from 0, among those alike in all of these.
    """

    path: str
    scope: str
    operator: str
    before: str
    after: str
    nth: int
    line: int = field(compare=False)
    function: int = field(compare=False)
    """Line of the ``def`` (or of its first decorator) around it; 0: none is."""
    place: Place = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """Eight characters that stay the same while the code around the fault changes."""
        key = "\0".join((self.path, self.scope, self.operator, self.before, self.after, str(self.nth)))
        return hashlib.sha256(key.encode()).hexdigest()[:8]

    def applied(self, source: bytes) -> bytes:
        """Return the file with this fault."""
        first, end, text = self.place
        return source[:first] + text.encode() + source[end:]

    def __str__(self) -> str:
        return f"{self.name} {self.path}:{self.line} {self.operator}: {self.before}  ->  {self.after}"


def mutants_of(path: Path, root: Path) -> list[Mutant]:
    """Return every mutant of a file, in Python or C."""
    source = path.read_bytes()
    name = str(path.relative_to(root))
    return _in_c(source, name) if path.suffix == ".c" else _in_python(source, name)


def _in_c(source: bytes, path: str) -> list[Mutant]:
    seen: Counter[tuple[str, str, str, str]] = Counter()
    found: list[Mutant] = []
    text = source.decode("ascii")
    for change in sorted(c_sources.changes(text), key=lambda it: (it.first, it.operator, it.after)):
        before = _in_one_line(text[change.first : change.end])
        key = (change.scope, change.operator, before, _in_one_line(change.after))
        found.append(
            Mutant(path, *key, seen[key], change.line, change.function, (change.first, change.end, change.after))
        )
        seen[key] += 1
    return found


def _in_python(source: bytes, path: str) -> list[Mutant]:
    tree = ast.parse(source)
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    names = expressions.members_of(tree)
    seen: Counter[tuple[str, str, str, str]] = Counter()
    found: list[Mutant] = []
    for node, scope, function in _walk(tree, "", 0):
        for operator, first, last, after in _changes(node, names):
            begin = starts[_line(first) - 1] + _column(first)
            end = starts[(last.end_lineno or 1) - 1] + (last.end_col_offset or 0)  # type: ignore[attr-defined]
            key = (scope, operator, _in_one_line(source[begin:end].decode()), _in_one_line(after))
            place = (begin, end, after)
            found.append(Mutant(path, *key, seen[key], _line(first), function, place))
            seen[key] += 1
    return found


def chosen(mutants: Collection[Mutant], most: int, seed: str) -> list[Mutant]:
    """Return up to ``most`` of the mutants, evenly over files and operators.

    The choice is by a hash of seed and mutant, so it depends on nothing else, and hardly changes with the code.
    """
    hashed = sorted((hashlib.sha256(f"{seed} {mutant.name}".encode()).digest(), mutant.name) for mutant in mutants)
    by_name = {mutant.name: mutant for mutant in mutants}
    ranks: Counter[tuple[str, str]] = Counter()
    ranked: list[tuple[int, bytes, str]] = []
    for digest, name in hashed:
        kind = by_name[name].path, by_name[name].operator
        ranked.append((ranks[kind], digest, name))
        ranks[kind] += 1
    some = [by_name[name] for _, _, name in sorted(ranked)[:most]]
    return sorted(some, key=lambda mutant: (mutant.path, mutant.place[:2], mutant.name))


def _walk(node: ast.AST, scope: str, function: int) -> Iterator[tuple[ast.AST, str, int]]:
    """Yield the nodes at which a fault would be one, with scope and function."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        scope = f"{scope}.{node.name}".lstrip(".")
        if not isinstance(node, ast.ClassDef):
            function = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    yield node, scope, function
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr) and not statements.logs(child):
                yield from _walk(child, scope, function)


def _changes(node: ast.AST, names: expressions.Names) -> Iterator[tuple[str, ast.AST, ast.AST, str]]:
    for name, on_expressions in expressions.OPERATORS.items():
        for replaced, text in on_expressions(node, names):
            yield name, replaced, replaced, text
    for name, on_statements in statements.OPERATORS.items():
        for first, last, text in on_statements(node):
            yield name, first, last, text


def _line(node: ast.AST) -> int:
    return node.lineno  # type: ignore[attr-defined, no-any-return]


def _column(node: ast.AST) -> int:
    return node.col_offset  # type: ignore[attr-defined, no-any-return]


def _in_one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
