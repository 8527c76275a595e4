"""The promise of docs/reference/compatibility.md, as lines of text.

``python -m tests.unit.compatibility.promise`` renews ``promised_names.txt``: with each name that is new.  Before a name
is taken from it, the changelog has a line and INTERFACE_VERSION is raised.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar

ROOT = Path(__file__).parents[3]
PROMISED = Path(__file__).with_name("promised_names.txt")
_ROW = re.compile(r"^\| `(hsframework[\w.]*)` \|", re.MULTILINE)


def public_modules() -> list[str]:
    """Return the modules in the page's table."""
    return _ROW.findall((ROOT / "docs/reference/compatibility.md").read_text("utf-8"))


def promised_now() -> set[str]:
    """Return a line for each public name, attribute and argument."""
    return {line for name in public_modules() for line in _of_module(importlib.import_module(name))}


def _of_module(module: ModuleType) -> Iterator[str]:
    for name, value in _public(module):
        yield from _of_object(f"{module.__name__}.{name}", value)


def _public(module: ModuleType) -> Iterator[tuple[str, object]]:
    if hasattr(module, "__all__"):
        yield from ((name, getattr(module, name)) for name in module.__all__)
        return
    imported = _imported(module)
    for name, value in vars(module).items():
        ours = getattr(value, "__module__", module.__name__) == module.__name__ and name not in imported
        if ours and not name.startswith("_") and not isinstance(value, (ModuleType, TypeVar)):
            yield name, value


def _imported(module: ModuleType) -> set[str]:
    """Return the names that a module takes from others: a constant does not say where it was defined."""
    nodes = ast.walk(ast.parse(inspect.getsource(module)))
    found = [alias for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names]
    return {alias.asname or alias.name for alias in found}


def _of_object(name: str, value: object) -> Iterator[str]:
    yield name
    if inspect.isfunction(value):
        yield from (f"{name}({argument})" for argument in inspect.signature(value).parameters)
    elif inspect.isclass(value):
        yield from _of_class(name, value)


def _of_class(name: str, kind: type) -> Iterator[str]:
    if issubclass(kind, enum.Enum):
        yield from (f"{name}.{member}" for member in kind.__members__)
        yield from (f"{name}.{item}" for item, value in vars(kind).items() if isinstance(value, property))
        return
    if dataclasses.is_dataclass(kind):
        yield from (f"{name}({item.name})" for item in dataclasses.fields(kind) if item.init)
    ours = [base for base in kind.__mro__ if base.__module__.partition(".")[0] == "hsframework"]
    members = {name: value for base in reversed(ours) for name, value in vars(base).items()}
    for attribute, value in members.items():
        if attribute.startswith("_"):
            continue
        function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        yield f"{name}.{attribute}"
        if inspect.isfunction(function):
            arguments = [item for item in inspect.signature(function).parameters if item not in ("self", "cls")]
            yield from (f"{name}.{attribute}({argument})" for argument in arguments)


if __name__ == "__main__":
    PROMISED.write_text("".join(f"{line}\n" for line in sorted(promised_now())))
