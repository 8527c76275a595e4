"""The table "Inside" of each plugin's README: it names the modules that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/README.md"))


def named(readme: str) -> Iterator[str]:
    """Yield the modules in the table, ``folder/module`` for those in a folder; ``*`` stands for the rest of a name."""
    folder = ""
    rows = readme.partition("\n## Inside\n")[2].partition("\n\nA session")[0]
    for row in re.findall(r"^\|(.*)\|$", rows, re.MULTILINE)[2:]:
        cells = [re.findall(r"`([\w*/]+)`", cell) for cell in row.split("|")[:-1]]
        if len(cells) == 2:
            folder = cells[0][0] if cells[0] else folder
        yield from (folder + name for name in cells[-1])


def modules(package: Path) -> set[str]:
    """Return the modules of a package as the table names them."""
    return {str(path.relative_to(package).with_suffix("")) for path in package.rglob("*.py") if path.stem != "__init__"}


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_the_table_names_every_module_and_no_other(plugin: Path) -> None:
    """A module that moves, comes or goes changes its plugin's README."""
    table = set(named((plugin / "README.md").read_text("utf-8")))
    there = modules(next(plugin.glob("hsframework_*")))
    assert [name for name in table if not any(fnmatch(module, name) for module in there)] == []
    assert [module for module in there if not any(fnmatch(module, name) for name in table)] == []


def test_a_name_that_is_not_there_is_found() -> None:
    """The names are read out of tables of two columns and of three."""
    two = "\n## Inside\n\n| module | subject |\n|---|---|\n| `one`, `two` | `neither` |\n\nA session\n| `other` | x |\n"
    rooms = "| | `one` | x |\n| `a/` | `two` | x |\n| | `three` | x |\n"
    three = f"\n## Inside\n\n| room | module | subject |\n|---|---|---|\n{rooms}"
    assert list(named(two)) == ["one", "two"]
    assert list(named(three)) == ["one", "a/two", "a/three"]
