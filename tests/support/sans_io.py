"""Imports of a sans-IO module: read from the source, so that nothing has to run."""

from __future__ import annotations

import ast
from pathlib import Path

FORBIDDEN = {"asyncio", "socket", "select", "selectors", "time", "datetime", "threading", "ssl", "os", "pyroute2"}
"""No sockets, no event loop, no clock."""


def imports(source: Path) -> set[str]:
    """Return the top-level names of all that a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names
