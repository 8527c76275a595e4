"""Operators on statements: one is left out, or exchanged with its neighbour.

As those on expressions, they look at nothing but the tree.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

Change = tuple[ast.AST, ast.AST, str]
"""First and last node of what is replaced, and the text in its place."""

Operator = Callable[[ast.AST], Iterator[Change]]

ENDINGS = frozenset(
    "abort cancel clear close close_fd detach difference_update discard end give_back kill leave pop popleft release "
    "remove restore send_signal shut_down shutdown stop terminate unlink unregister withdraw".split()
)
"""Functions that end something or give it back."""

LOGGING = frozenset(("debug", "info", "warning", "error", "exception", "critical"))


def bodies(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """Yield the lists of statements of a node."""
    for field in ("body", "orelse", "finalbody"):
        found = getattr(node, field, None)
        if isinstance(found, list) and found and isinstance(found[0], ast.stmt):
            yield found


def called(statement: ast.stmt) -> str | None:
    """Return the name of the function that a statement calls, and for nothing else than its effect; else None."""
    if not isinstance(statement, ast.Expr):
        return None
    value = statement.value.value if isinstance(statement.value, ast.Await) else statement.value
    if not isinstance(value, ast.Call):
        return None
    function = value.func
    return function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)


def logs(node: ast.AST) -> bool:
    """True if a node is a call that writes to the log."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LOGGING
        and ast.unparse(node.func.value).rpartition(".")[2].strip("_") in ("log", "logger")
    )


def check(node: ast.AST) -> Iterator[Change]:
    """Drop a check: a condition that leads to an error or a way out is never met."""
    if isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise | ast.Return | ast.Continue | ast.Break):
        yield node.test, node.test, "False"
    elif isinstance(node, ast.Assert) and not ast.unparse(node.test).endswith(" is not None"):
        yield node, node, "pass"  # that one is for the type checker


def way_out(node: ast.AST) -> Iterator[Change]:
    """Go on in a loop instead of leaving it, and the other way round."""
    if isinstance(node, ast.Break):
        yield node, node, "continue"
    elif isinstance(node, ast.Continue):
        yield node, node, "break"


def swallow(node: ast.AST) -> Iterator[Change]:
    """Swallow an exception: it is not raised, or what its handler does is left out."""
    if isinstance(node, ast.Raise):
        yield node, node, "pass"
    elif isinstance(node, ast.ExceptHandler) and not isinstance(node.body[0], ast.Pass | ast.Raise):
        yield node.body[0], node.body[-1], "pass"


def skip_await(node: ast.AST) -> Iterator[Change]:
    """Skip an await: what a statement waits for is not done."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Await):
        yield node, node, "pass"


def drop_ending(node: ast.AST) -> Iterator[Change]:
    """Drop a statement that ends something or gives it back."""
    if isinstance(node, ast.Delete) or (isinstance(node, ast.stmt) and called(node) in ENDINGS):
        yield node, node, "pass"


def drop_call(node: ast.AST) -> Iterator[Change]:
    """Drop a call that is made for its effect."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not logs(node.value):
        yield from [] if called(node) in ENDINGS else [(node, node, "pass")]


def drop_change(node: ast.AST) -> Iterator[Change]:
    """Drop a change of an attribute, of an entry or of a count."""
    if isinstance(node, ast.AugAssign) or (
        isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute | ast.Subscript)
    ):
        yield node, node, "pass"


def drop_entry(node: ast.AST) -> Iterator[Change]:
    """Drop an entry of a table: of a literal that a module or a class is given, or of any dictionary."""
    if isinstance(node, ast.Dict) and len(node.values) > 1:
        for key, value in zip(node.keys, node.values, strict=True):
            if key is not None:
                yield key, value, "**{}"
    elif isinstance(node, ast.Module | ast.ClassDef):
        for statement in node.body:
            exported = isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__"
            if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None and not exported:
                types = {id(node.slice) for node in ast.walk(statement.value) if isinstance(node, ast.Subscript)}
                for table in ast.walk(statement.value):
                    if id(table) in types:
                        continue
                    if isinstance(table, ast.Tuple | ast.List | ast.Set) and len(table.elts) > 1:
                        for entry in table.elts:
                            yield entry, entry, "*()"


def exchange(node: ast.AST) -> Iterator[Change]:
    """Exchange two statements that follow each other, of which one changes a part of what is in the other."""
    for body in bodies(node):
        for first, second in pairwise(body):
            changed = _changed(first), _changed(second)
            if all(changed) and (changed[0] in ast.unparse(second) or changed[1] in ast.unparse(first)):
                indent = " " * first.col_offset
                yield first, second, f"{ast.unparse(second)}\n{indent}{ast.unparse(first)}"


def _changed(statement: ast.stmt) -> str:
    """Return what a statement changes: the object whose method it calls, or the attribute that it sets; else ""."""
    target: ast.expr | None = None
    if called(statement) is not None and isinstance(statement, ast.Expr) and not logs(statement.value):
        value = statement.value.value if isinstance(statement.value, ast.Await) else statement.value
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
            target = value.func.value
    elif isinstance(statement, ast.Delete | ast.Assign):
        target = statement.targets[0]
    elif isinstance(statement, ast.AugAssign):
        target = statement.target
    if target is None or (isinstance(target, ast.Name) and not isinstance(statement, ast.Expr)):
        return ""
    return ast.unparse(target)


OPERATORS: Mapping[str, Operator] = {
    "check": check,
    "way-out": way_out,
    "swallow": swallow,
    "skip-await": skip_await,
    "drop-ending": drop_ending,
    "drop-call": drop_call,
    "drop-change": drop_change,
    "drop-entry": drop_entry,
    "exchange": exchange,
}
