"""CONTRIBUTING.md names what is there, and all of the tests."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
ROWS = re.findall(r"^\| (`[^|]*`) \| [^|]* \| *(?:`([^|`]*)`)? *\|$", PAGE, re.MULTILINE)
"""The first and the last cell of each row of the table of tests."""
PLACES = [place for cell, _ in ROWS for place in re.findall("`([^`]*)`", cell)]
FOLDERS = ("tests", "hsframework", "examples", "scripts", "docs", "plugins", "benchmarks")


def test_every_folder_of_tests_has_a_row() -> None:
    """Each test, and each entry of tests/, lies in a place of the table."""
    entries = [path for path in (ROOT / "tests").iterdir() if not path.name.startswith(("__", "."))]
    tests = [path for name in FOLDERS for path in (ROOT / name).rglob("test_*.py") if ".venv" not in path.parts]
    assert len(tests) > 200
    rows = [re.compile(re.escape(place).replace(r"\*", "[^/]+") + "(/|$)") for place in PLACES]
    paths = [str(path.relative_to(ROOT)) for path in entries + tests]
    assert not [path for path in paths if not any(row.match(path) for row in rows)]


def test_every_row_is_there() -> None:
    """A row whose folder has gone is missed."""
    assert all(any(ROOT.glob(place)) for place in PLACES)


def test_every_mark_has_a_row() -> None:
    """By the marks that pytest is given."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    marks = {re.split(r"[(:]", line)[0] for line in project["tool"]["pytest"]["ini_options"]["markers"]}
    assert {mark for _, mark in ROWS if mark} == marks


def test_the_files_that_are_named_are_there() -> None:
    """In the text, in "Where a change goes" and in links."""
    named = {
        word for word in re.findall(r"`([\w./-]+)`", PAGE) if word.startswith(tuple(f"{name}/" for name in FOLDERS))
    }
    named |= set(re.findall(r"\]\(([\w./-]+)\)", PAGE))
    assert len(named) > 15
    assert not {word for word in named if not any(ROOT.glob(word))}


CHANGES = [line for line in PAGE.partition("## Where a change goes")[2].splitlines() if line.startswith("| ")][2:]
"""The rows of the table of changes."""


@pytest.mark.parametrize("row", CHANGES, ids=lambda row: row.split("|")[1].strip())
def test_the_names_of_a_change_are_there(row: str) -> None:
    """The code that a row names is found in a file or folder that the row names."""
    quoted = re.findall("`([^`]*)`", row)
    places = [ROOT / word for word in quoted if "/" in word]
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*.py")))]
    text = "\n".join(file.read_text("utf-8") for file in files)
    names = [word for word in quoted if re.fullmatch(r"\w+", word)]
    assert not [name for name in names if not re.search(rf"(?<![.\w]){name}\b", text)]


def test_the_targets_of_make_are_there() -> None:
    """Each command line begins with a target of the Makefile."""
    makefiles = (ROOT / "Makefile").read_text("utf-8") + (ROOT / "scripts/kernel/kernel.mk").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefiles, re.MULTILINE))
    named = set(re.findall(r"^\$ make ([a-z-]+)", PAGE, re.MULTILINE)) | set(re.findall(r"`make ([a-z-]+)", PAGE))
    assert len(named) > 5
    assert named <= targets
