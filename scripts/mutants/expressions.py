"""Operators on expressions.  Each yields the nodes that it replaces, with the text that takes their place.

An operator is a function of a node and of the names in its file.  It looks at nothing else, so it applies to any code.
What it makes can be compiled.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

Change = tuple[ast.expr, str]
"""The node that is replaced, and the text in its place."""


@dataclass(frozen=True, slots=True)
class Names:
    """Names in a file: all identifiers, and the members of constant classes, as ``errno`` and enumerations."""

    all: frozenset[str]
    members: Mapping[str, tuple[str, ...]]


Operator = Callable[[ast.AST, Names], Iterator[Change]]

NEGATED: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
BOUNDARY: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
OPPOSITE: Mapping[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
ROLES = (
    ("client", "server"),
    ("local", "peer"),
    ("local", "remote"),
    ("transmit", "receive"),
    ("tx", "rx"),
    ("send", "receive"),
    ("read", "write"),
    ("ours", "theirs"),
    ("own", "peer"),
)
"""Words for the two sides of one thing: in a name, one takes the other's place."""
ENDS = {"popleft": "pop", "appendleft": "append", "extendleft": "extend", "min": "max", "max": "min"}
"""Functions that take one end of an order, and those that take the other."""
FIXED = frozenset(("isinstance", "issubclass", "getattr", "cast", "field", "min", "max"))
"""Functions whose arguments no swap can mistake, or whose result none can change."""


def members_of(tree: ast.Module) -> Names:
    """Return the names in a file."""
    members: dict[str, set[str]] = {}
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
            if isinstance(node.value, ast.Name) and node.attr.isupper():
                members.setdefault(node.value.id, set()).add(node.attr)
    return Names(frozenset(found), {name: tuple(sorted(values)) for name, values in members.items()})


def invert(node: ast.AST, names: Names) -> Iterator[Change]:
    """Invert a condition."""
    for test in _conditions(node):
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            yield test, f"({ast.unparse(test.operand)})"
        elif not (isinstance(test, ast.Constant) or ast.unparse(test) == "TYPE_CHECKING"):
            yield test, f"(not ({ast.unparse(test)}))"


def compare(node: ast.AST, names: Names) -> Iterator[Change]:
    """Swap a comparison: with its boundary or without, equal or not (unless that inverts a whole condition)."""
    conditions = _conditions(node)
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.Compare):
            continue
        for index, operator in enumerate(child.ops):
            other = BOUNDARY.get(type(operator)) or NEGATED.get(type(operator))
            if other is None or (type(operator) in NEGATED and child in conditions and len(child.ops) == 1):
                continue
            changed = copy.deepcopy(child)
            changed.ops[index] = other()
            yield child, f"({ast.unparse(changed)})"


def junction(node: ast.AST, names: Names) -> Iterator[Change]:
    """Swap ``and`` and ``or``."""
    if isinstance(node, ast.BoolOp):
        changed = copy.deepcopy(node)
        changed.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield node, f"({ast.unparse(changed)})"


def off_by_one(node: ast.AST, names: Names) -> Iterator[Change]:
    """Add one to a number."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield node, f"({node.value + 1})"  # type: ignore[operator]


def arithmetic(node: ast.AST, names: Names) -> Iterator[Change]:
    """Swap plus and minus, and their like."""
    if isinstance(node, ast.BinOp) and (other := OPPOSITE.get(type(node.op))):
        changed = copy.deepcopy(node)
        changed.op = other()
        yield node, f"({ast.unparse(changed)})"


def arguments(node: ast.AST, names: Names) -> Iterator[Change]:
    """Swap two neighbouring arguments of a call."""
    if not isinstance(node, ast.Call) or _last_name(node.func) in FIXED:
        return
    for index, (first, second) in enumerate(zip(node.args, node.args[1:], strict=False)):
        if isinstance(first, ast.Starred) or isinstance(second, ast.Starred) or ast.dump(first) == ast.dump(second):
            continue
        if _is_text(first) is not _is_text(second):
            continue  # any test that runs it would catch that
        changed = copy.deepcopy(node)
        changed.args[index], changed.args[index + 1] = changed.args[index + 1], changed.args[index]
        yield node, ast.unparse(changed)


def roles(node: ast.AST, names: Names) -> Iterator[Change]:
    """Put the other side's name in the place of this one's, if the file has it."""
    if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
        name = node.id if isinstance(node, ast.Name) else node.attr
        for other in sorted(_counterparts(name) & names.all):
            yield node, other if isinstance(node, ast.Name) else f"{_primary(node.value)}.{other}"


def status(node: ast.AST, names: Names) -> Iterator[Change]:
    """Put another member of the same class in the place of a status, and False in the place of True."""
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield node, str(not node.value)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr.isupper():
        members = list(names.members.get(node.value.id, ()))
        if node.value.id == "errno" and len(members) == 1:
            members.append("EXDEV")
        if len(members) > 1:
            yield node, f"{node.value.id}.{members[(members.index(node.attr) + 1) % len(members)]}"


def order(node: ast.AST, names: Names) -> Iterator[Change]:
    """Take the other end of a queue, or an order as it comes."""
    if isinstance(node, ast.Call):
        name = _last_name(node.func)
        if name in ENDS and isinstance(node.func, ast.Attribute):
            yield node.func, f"{_primary(node.func.value)}.{ENDS[name]}"
        elif name in ENDS:
            yield node.func, ENDS[name]
        elif name in ("append", "pop") and "deque" in names.all and isinstance(node.func, ast.Attribute):
            yield node.func, f"{_primary(node.func.value)}.{name}left"
        elif name in ("reversed", "sorted") and node.args:
            yield node, f"list({ast.unparse(node.args[0])})"
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        index = ast.unparse(node.slice)
        if index in ("0", "-1"):
            yield node, f"{_primary(node.value)}[{'-1' if index == '0' else '0'}]"


def _conditions(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        return [node.test]
    return node.ifs if isinstance(node, ast.comprehension) else []


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _primary(node: ast.expr) -> str:
    return f"({ast.unparse(node)})" if isinstance(node, ast.Await) else ast.unparse(node)


def _last_name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)


def _counterparts(name: str) -> set[str]:
    """Return what the name is with the word of the other side in it."""
    found = set()
    for pair in ROLES:
        for word, other in (pair, pair[::-1]):
            for style in (str.lower, str.upper, str.capitalize):
                pattern = rf"(?<![a-zA-Z]){style(word)}(?![a-z])"
                found.add(re.sub(pattern, style(other), name))
    return found - {name}


OPERATORS: Mapping[str, Operator] = {
    "invert": invert,
    "compare": compare,
    "junction": junction,
    "off-by-one": off_by_one,
    "arithmetic": arithmetic,
    "arguments": arguments,
    "roles": roles,
    "status": status,
    "order": order,
}
