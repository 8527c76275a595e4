"""`hsframework plugin new`: what it writes and what it refuses.  tests/wheels installs and runs what comes out."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from hsframework import __version__
from hsframework.cli import main as cli
from hsframework.netlink.spec import load_specification
from hsframework.scaffold import TEMPLATE, WORD, Names, create, template_files

ROOT = Path(__file__).parents[3]


def test_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every file of the template, under the new name in each of its forms; nothing of the template's own is left."""
    assert cli.main(["plugin", "new", "my-way", "--folder", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    folder = tmp_path / "hsframework-my-way"
    files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert len(files) == len(list(template_files())) >= 12
    for path in files:
        text = (folder / path).read_text("utf-8")
        assert WORD not in (str(path) + text).lower(), path
        assert f"    {path}\n" in said
        if path.suffix == ".py":
            ast.parse(text)
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["name"] == "hsframework-my-way"
    assert project["project"]["entry-points"]["hsframework"] == {"my-way": "hsframework_my_way.hooks"}
    assert "class MyWayProtocol" in (folder / "hsframework_my_way" / "plugin.py").read_text("utf-8")
    assert load_specification(folder / "hsframework_my_way" / "specs" / "my-way.yaml").name == "my-way"


def test_it_is_in_good_order(tmp_path: Path) -> None:
    """ruff has nothing to say about the new package, by its own settings."""
    for name in ("a", "a-longer-name"):
        create(Names(name), tmp_path)
    finished = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout


@pytest.mark.parametrize("project", [TEMPLATE, ROOT / "examples" / "noise"], ids=["template", "noise"])
def test_versions_that_fit(project: Path) -> None:
    """The versions that a new plugin names are those that it is tested with."""
    table = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    needed = next(item for item in table["project"]["dependencies"] if item.startswith("hsframework"))
    assert Requirement(needed).specifier.contains(__version__)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("Capital", "use lower-case"),
        ("under_score", "use lower-case"),
        ("../escape", "use lower-case"),
        ("9lives", "use lower-case"),
        ("double--dash", "use lower-case"),
        ("trailing-", "use lower-case"),
        ("", "use lower-case"),
        ("x" * 41, "use at most 40"),
        ("class", "has a meaning"),
        ("testing", "has a meaning"),
        ("hsframework-mine", "leave the beginning out"),
        ("tls13", "is the name of a protocol that is installed"),
    ],
)
def test_names_that_are_none(name: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, the reason, and nothing is written."""
    assert cli.main(["plugin", "new", name, "--folder", str(tmp_path)]) == 2
    assert problem in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing in it is touched."""
    mine = tmp_path / "hsframework-mine" / "README.md"
    mine.parent.mkdir()
    mine.write_text("mine")
    assert cli.main(["plugin", "new", "mine", "--folder", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert mine.read_text() == "mine"
    assert cli.main(["plugin", "new", "other", "--folder", str(tmp_path / "no" / "where")]) == 2
    assert "cannot make the folder" in capsys.readouterr().err


def test_the_word_stands_for_the_name_alone() -> None:
    """The template's word is no part of another word, so that it can be put in everywhere."""
    for path in template_files():
        text = (TEMPLATE / path).read_text("utf-8")
        assert Names(WORD).put_into(text) == text
        assert not [word for word in text.lower().split() if word in (f"{WORD}s", f"{WORD}ing", f"{WORD}ed")], path
