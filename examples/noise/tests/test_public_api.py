"""This package is built on what hsframework promises, and on nothing else of it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import hsframework_noise

PUBLIC = {
    "hsframework",
    "hsframework.client",
    "hsframework.failures",
    "hsframework.errors",
    "hsframework.hookspecs",
    "hsframework.interface",
    "hsframework.netlink.spec",
    "hsframework.streams",
    "hsframework.testing",
}
"""The modules of hsframework's compatibility promise; of a package, what it exports.  Below ``testing``: everything."""

MODULES = sorted(Path(hsframework_noise.__file__).parent.glob("*.py")) + sorted(Path(__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports(path: Path) -> None:
    """Every module of hsframework that is imported, also within functions, is public, and no name is private."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        for module, name in names:
            if module.split(".")[0] == "hsframework":
                assert is_public(module, name), f"{module}.{name} is hsframework's own"


def is_public(module: str, name: str) -> bool:
    """Return True if ``from module import name`` is promised."""
    inside = module in PUBLIC or module.startswith("hsframework.testing.") or f"{module}.{name}" in PUBLIC
    return inside and not name.startswith("_")
