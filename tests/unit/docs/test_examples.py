"""The examples in the documentation are checked: Python and TOML blocks, docstrings, links.

The blocks that are marked ``<!-- example: NAME -->`` are run whole by tests/peers/test_examples.py.
"""

from __future__ import annotations

import ast
import builtins
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import hsframework
from hsframework.config import load_configuration

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(path for path in (ROOT / "docs").rglob("*.md") if "generated" not in path.parts)])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[pytest.ParameterSet]:
    """Every block of a language, with the page and line that it stands at."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in BLOCK.finditer(text):
            if match[1] == language:
                line = text[: match.start()].count("\n") + 1
                found.append(pytest.param(match[2], id=f"{page.relative_to(ROOT)}:{line}"))
    return found


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks(code: str) -> None:
    """A block is Python, and what it imports from us is there."""
    tree = ast.parse(code)
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert imports, "an example shows its imports"
    for node in imports:
        exec(compile(ast.Module([node], []), "<example>", "exec"), {})


def is_whole(code: str) -> bool:
    """Does a block bring all the names that it uses, and make no connection?"""
    tree = ast.parse(code)
    made = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    made |= {alias.asname or alias.name.partition(".")[0] for node in ast.walk(tree)
             if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names}  # fmt: skip
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return not used - made - set(dir(builtins)) and not used & {"Client", "AsyncClient", "asyncio", "socket"}


@pytest.mark.parametrize("code", [block for block in blocks("python") if is_whole(str(block.values[0]))])
def test_whole_blocks_run(code: str) -> None:
    """A block that needs no service is run as it stands."""
    exec(compile(code, "<example>", "exec"), {"__name__": "example"})


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml_blocks(text: str, tmp_path: Path) -> None:
    """A block is a configuration that the service would take."""
    path = tmp_path / "hsframework.toml"
    path.write_text(text)
    load_configuration(path)


def test_there_are_examples() -> None:
    """The pattern above still finds them."""
    assert len(blocks("python")) >= 5
    assert len(blocks("toml")) >= 2


MODULES = [module.name for module in pkgutil.walk_packages(hsframework.__path__, "hsframework.")]


@pytest.mark.parametrize("module", MODULES)
def test_docstrings(module: str) -> None:
    """The examples in docstrings give what they say."""
    if module.endswith("__main__"):
        return
    assert doctest.testmod(importlib.import_module(module)).failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    """A link to a file leads to one."""
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target
