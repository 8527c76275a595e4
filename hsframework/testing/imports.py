"""Search for input and output in protocol code, by the imports of its modules."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

IO_MODULES = frozenset({
    "asyncio", "socket", "select", "selectors", "socketserver", "ssl", "time", "datetime", "threading", "concurrent",
    "multiprocessing", "subprocess", "signal", "os", "io", "pathlib", "shutil", "tempfile", "mmap", "fcntl", "pyroute2",
    "trio", "anyio", "urllib", "http", "requests",
})  # fmt: skip
"""Modules and packages that protocol code must not import."""


def io_imports(module: str) -> list[str]:
    """Return the forbidden imports of a module, and of the modules of its own package that it imports, at any depth.

    Each is a text, for example ``"module (line 7) imports socket"``.  Raises LookupError for a module that is missing.
    """
    found: list[str] = []
    seen: set[str] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        for imported, line in _imports(name):
            top = imported.partition(".")[0]
            if top in IO_MODULES:
                found.append(f"{name} (line {line}) imports {imported}")
            elif top == module.partition(".")[0] and imported != top and _spec(imported) is not None:
                pending.append(imported)
    return sorted(found)


def _imports(module: str) -> Iterator[tuple[str, int]]:
    spec = _spec(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise LookupError(f"there is no module {module!r} here; sans_io names modules of the plugin")
    package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
    tree = ast.parse(Path(spec.origin).read_text("utf-8"))
    for node in _run_at_run_time(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, package)
            yield base, node.lineno
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names if _is_module(base, alias.name))


def _run_at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield every node except those below ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from _run_at_run_time(node)


def _is_module(package: str, name: str) -> bool:
    spec = _spec(package)
    return spec is not None and spec.submodule_search_locations is not None and _spec(f"{package}.{name}") is not None


def _spec(module: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
