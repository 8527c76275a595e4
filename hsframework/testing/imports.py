"""Search in a plugin's code: imports that do input and output, and comparisons of proofs that take a telling time."""

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

SECRET_NAMES = frozenset({
    "mac", "hmac", "proof", "verifier", "binder", "confirmation", "password", "secret", "token",
})  # fmt: skip
"""Words in the names of values whose comparison must take the same time however much of them is equal."""


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


def open_comparisons(module: str) -> list[str]:
    """Return the comparisons of secrets by ``==`` or ``!=`` in a module and in all modules of its package.

    A secret is known by its name (:data:`SECRET_NAMES`).  Comparisons with constants and of sizes are none.  Each is a
    text, for example ``"module.py (line 7): mac == expected"``.
    """
    spec = _spec(module.partition(".")[0])
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    own = _spec(module)
    # A module of a package with tests beside it, or one without a package, is searched alone.
    files = [path for folder in folders for path in sorted(Path(folder).rglob("*.py")) if "tests" not in path.parts]
    if not files and own is not None and own.origin and own.has_location:
        files = [Path(own.origin)]
    found = []
    for path in files:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
                sides = (node.left, node.comparators[0])
                if any(map(_is_secret, sides)) and not any(map(_is_known, sides)):
                    found.append(f"{path.name} (line {node.lineno}): {ast.unparse(node)}")
    return found


def _is_secret(node: ast.expr) -> bool:
    """Return True if an expression's own name is that of a secret, or of a call that makes one."""
    if isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Subscript):
        node = node.value
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return not SECRET_NAMES.isdisjoint(name.lower().strip("_").split("_"))


def _is_known(node: ast.expr) -> bool:
    """Return True for a constant, the name of one, a size, or a Secret, which compares in constant time."""
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "Secret":
        return True
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return bool(name) and name.isupper()


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
