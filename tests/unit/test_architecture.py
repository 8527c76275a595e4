"""The direction of imports: one table of allowed edges between the folders of ``hsframework/``, and no cycles.

Every import counts: at the top of a module, within a function, and for the type checker alone.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

EDGES = {
    # A folder may import those beside it and no others; each row imports only rows below it.
    "__main__": "cli",
    "cli": "supervisor dispatcher testing agent adapters client scaffold registry process configuration local telemetry"
    " credentials netlink tls top",
    # The processes.  Dispatcher and agent know nothing of each other.
    "supervisor": "dispatcher agent registry process configuration local top",
    "testing": "dispatcher agent client registry process configuration local telemetry credentials netlink top",
    "dispatcher": "process configuration local telemetry credentials netlink tls top",
    "agent": "registry process configuration local telemetry credentials netlink tls top",
    # Beside the service, for programs and for plugins.
    "adapters": "client tls top",
    "client": "registry configuration local netlink tls top",
    "streams": "top",
    "scaffold": "top",
    # Shared by the processes.
    "registry": "process configuration top",
    "process": "configuration top",
    "configuration": "local credentials tls top",
    "local": "top",
    "telemetry": "top",
    # Without any knowledge of the processes.
    "credentials": "tls top",
    "tls": "top",
    "netlink": "top",
    # interface, hookspecs, errors, failures, probes, caches, and hsframework/__init__.py with the version.
    "top": "",
}

PLUGINS = {"hsframework_psp": "hsframework_tls13", "hsframework_quic": "", "hsframework_tls13": ""}
"""The same between the plugins.  Of the core they import the public modules (tests/unit/compatibility)."""

KNOWN_CYCLES: Mapping[str, set[frozenset[str]]] = {}
"""By package: the modules and packages in it that import each other in a circle.  The list only shrinks."""

TOP = {"__init__", "caches", "interface", "hookspecs", "errors", "failures", "probes"}

Graph = dict[str, set[str]]


@cache
def modules() -> Mapping[str, Path]:
    """Return name and file of every module of the core and of the plugins; ``package.__init__`` is a module too."""
    found: dict[str, Path] = {}
    for package in (ROOT / "hsframework", *(ROOT / "plugins").glob("*/hsframework_*")):
        for path in sorted(package.rglob("*.py")):
            if "template" not in path.parts:  # what ``plugin new`` copies is nobody's module
                found[".".join(path.relative_to(package.parent).with_suffix("").parts)] = path
    return found


def module_of(name: str) -> str | None:
    """Return the module that an imported dotted name comes from; None: not one of ours."""
    for candidate in (name, f"{name}.__init__", name.rpartition(".")[0], f"{name.rpartition('.')[0]}.__init__"):
        if candidate in modules():
            return candidate
    return None


@cache
def imports() -> Graph:
    """Return the modules that each module imports."""
    graph: Graph = {}
    for module, path in modules().items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno}: a relative import"
                names.update(f"{node.module}.{alias.name}" for alias in node.names)
        graph[module] = {target for name in names if (target := module_of(name)) and target != module}
    return graph


def folder(module: str) -> str:
    """Return the row of the table that a module belongs to."""
    package, name = module.split(".")[:2]
    if package != "hsframework":
        return package
    return "top" if name in TOP else name


def circles(graph: Graph) -> set[frozenset[str]]:
    """Return the sets of nodes that reach each other."""
    reached: Graph = {}
    for start in graph:
        pending, seen = [start], set[str]()
        while pending:
            for target in graph.get(pending.pop(), set()) - seen:
                seen.add(target)
                pending.append(target)
        reached[start] = seen
    return {frozenset(b for b in reached[a] if a in reached.get(b, set())) for a in graph if a in reached[a]}


def test_folders_import_as_the_table_says() -> None:
    """No import goes against the table, and the table allows none that is not there."""
    found: dict[tuple[str, str], list[str]] = {}
    for module, targets in imports().items():
        for target in targets:
            found.setdefault((folder(module), folder(target)), []).append(f"{module} imports {target}")
    between = {edge: where for edge, where in found.items() if edge[0] != edge[1]}
    between = {edge: where for edge, where in between.items() if edge[0] not in PLUGINS or edge[1] in PLUGINS}
    allowed = {(row, target) for row, targets in (EDGES | PLUGINS).items() for target in targets.split()}
    assert {edge: where for edge, where in between.items() if edge not in allowed} == {}
    assert allowed - between.keys() == set(), "edges that nothing uses: strike them from the table"


def test_the_table_has_an_order() -> None:
    """Each row imports only rows below it, and every folder has a row."""
    rows = list(EDGES)
    below = {row: rows[index + 1 :] for index, row in enumerate(rows)}
    assert [(row, other) for row in rows for other in EDGES[row].split() if other not in below[row]] == []
    assert {folder(module) for module in modules()} == {*EDGES, *PLUGINS}


@pytest.mark.parametrize("package", sorted({module.rpartition(".")[0] for module in modules()}))
def test_no_circle_within(package: str) -> None:
    """No two modules or packages of one package import each other, however many others lie between."""
    prefix = f"{package}."
    graph: Graph = {}
    for module, targets in imports().items():
        if module.startswith(prefix):
            child = module[len(prefix) :].partition(".")[0]
            inner = {target[len(prefix) :].partition(".")[0] for target in targets if target.startswith(prefix)}
            graph.setdefault(child, set()).update(inner - {child})
    assert circles(graph) == KNOWN_CYCLES.get(package, set())
