"""The examples in the documentation and the READMEs are checked: Python and TOML blocks, docstrings, links.

The blocks that are marked ``<!-- example: NAME -->`` are run whole by tests/peers (test_examples.py,
test_quic_examples.py, test_psp.py).  What examples/noise/README.md shows is run by its own tests, and the commands of
examples/hooks by tests/wheels/test_house_rules.py.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import hsframework
from hsframework.configuration.toml import load_configuration, settings_from_table
from hsframework.registry.plugins import load_plugins

ROOT = Path(__file__).parents[3]
READMES = sorted(ROOT.glob("plugins/*/README.md"))
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *READMES,
        *ROOT.glob("examples/*/README.md"),
        *(path for path in (ROOT / "docs").rglob("*.md") if "generated" not in path.parts),
    ]
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[pytest.ParameterSet]:
    """Return every block of a language, with its page and line."""
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
    """True if a block brings all the names that it uses, and makes no connection."""
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
    """A block is a configuration that the service would take, and so would the plugins that are installed here."""
    path = tmp_path / "hsframework.toml"
    path.write_text(text)
    configuration = load_configuration(path)
    for name, table in configuration.plugins.items():
        entry = load_plugins().protocols.get(name)
        if entry is not None and entry.protocol.settings_type is not None:
            settings_from_table(entry.protocol.settings_type, table, f"plugins.{name}")


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.parent.name)
def test_settings_in_readmes(page: Path, tmp_path: Path) -> None:
    """A plugin's README lists every setting with its default, in a comment where that is none."""
    name = page.parent.name
    kind = load_plugins().protocols[name].protocol.settings_type
    assert kind is not None
    (text,) = (match[2] for match in BLOCK.finditer(page.read_text("utf-8")) if match[1] == "toml")
    tables = []
    for shown in (text, re.sub(r"^# (?=[\w-]+ = )", "", text, flags=re.MULTILINE)):
        path = tmp_path / "hsframework.toml"
        path.write_text(shown)
        tables.append(load_configuration(path).plugins[name])
    stated, listed = tables
    assert settings_from_table(kind, stated, f"plugins.{name}") == kind()
    assert set(listed) == {item.name.replace("_", "-") for item in dataclasses.fields(kind)}
    settings_from_table(kind, listed, f"plugins.{name}")


def test_there_are_examples() -> None:
    """The pattern above still finds them, in READMEs too."""
    assert len(blocks("python")) >= 5
    assert len(blocks("toml")) >= 2
    found = {str(block.id).partition(":")[0] for block in (*blocks("python"), *blocks("toml"))}
    assert {"README.md", "examples/noise/README.md", *(str(page.relative_to(ROOT)) for page in READMES)} <= found


MARKED = re.compile(r"^<!-- example: ([\w-]+) -->\n```python$", re.MULTILINE)


def test_what_is_marked_is_run() -> None:
    """Each marked example is named, with its page, by a test that runs it."""
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests/peers").glob("test_*.py"))
    for page in PAGES:
        for name in MARKED.findall(page.read_text("utf-8")):
            relative = page.relative_to(ROOT)
            quoted = rf'"{re.escape(str(relative))}", "{name}"'
            by_page = rf'PAGE = "{re.escape(str(relative))}"(?s:.*)PAGE, "{name}"'
            assert re.search(f"{quoted}|{by_page}", tests), f"{relative}: nobody runs the example {name}"


def test_readmes_have_no_block_that_nobody_runs() -> None:
    """In a plugin's README every Python block is marked."""
    for page in READMES:
        text = page.read_text("utf-8")
        assert len(MARKED.findall(text)) == len(re.findall(r"^```python$", text, re.MULTILINE)), page


MODULES = [module.name for module in pkgutil.walk_packages(hsframework.__path__, "hsframework.")]


@pytest.mark.parametrize("module", MODULES)
def test_docstrings(module: str) -> None:
    """The examples in docstrings give what they say."""
    if module.endswith("__main__"):
        return
    assert doctest.testmod(importlib.import_module(module)).failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    """A link to a file leads to one.  Those to pages that ``make docs`` generates are checked by it."""
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8")):
        if "://" not in target and "generated" not in Path(target).parts:
            assert (page.parent / target).exists(), target
