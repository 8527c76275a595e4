"""scripts/lint/prose.py finds the first lines that break a rule, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.lint import prose
from scripts.lint.sources import FOLDERS

FUNCTION = '{decorator}\ndef {name}():\n    """{line}"""\n'


def broken_rules(path: Path, text: str) -> list[str]:
    """Return the names of the rules that a file with this text breaks."""
    path.write_text(text)
    return [problem.rule for problem in prose.problems(path)]


@pytest.mark.parametrize(
    ("line", "broken"),
    [
        ("Return the address.", []),
        ("True if the peer is there.", []),
        ("Re-examine the queue.", []),
        ('Write "What?" to the log.', []),
        ("Name the peer.", []),
        ("Warn of the peer.", []),
        ("Name of the peer.", ["verb"]),
        ("The address.", ["verb"]),
        ("Returns the address.", ["verb"]),
        ("return the address", ["verb"]),
        ("``110`` for a time-out.", ["verb"]),
        ("What the peer has said.", ["clause", "verb"]),
        ("Is the peer there?", ["clause", "question", "verb"]),
        ("Return the peer; who else?", ["question"]),
        ("If the peer is there, close it.", ["clause", "verb"]),
        ("Send nothing any more.", ["longer"]),
    ],
)
def test_first_lines_of_functions(line: str, broken: list[str], tmp_path: Path) -> None:
    """Each rule has lines that break it and lines that do not."""
    text = FUNCTION.format(decorator="", name="work", line=line)
    assert broken_rules(tmp_path / "module.py", text) == broken


@pytest.mark.parametrize(
    ("decorator", "name"),
    [
        ("", "test_it"),
        ("@property", "it"),
        ("@functools.cached_property", "it"),
        ("@pytest.fixture(scope='module')", "it"),
    ],
)
def test_nouns_for_what_is_no_action(decorator: str, name: str, tmp_path: Path) -> None:
    """Properties, fixtures and tests need no verb, and may still not begin with a clause."""
    good = FUNCTION.format(decorator=decorator, name=name, line="The address of the peer.")
    bad = FUNCTION.format(decorator=decorator, name=name, line="Where the peer is.")
    assert broken_rules(tmp_path / "module.py", good + bad) == ["clause"]


def test_every_kind_of_docstring_is_looked_at(tmp_path: Path) -> None:
    """Modules, classes, attributes, methods, functions within functions, and comments."""
    text = '''"""What this is."""
class Peer:
    """Who is there."""
    name: str
    """How it is called."""
    def close(self):
        """Close it."""
        def inner():
            """Which of them?"""
        # not open any more
'''
    assert broken_rules(tmp_path / "module.py", text) == [
        "clause",
        "clause",
        "clause",
        "clause",
        "question",
        "verb",
        "longer",
    ]


def test_without_arguments_everything_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of the repository's folders, tests too, and no folder or rule is left out."""
    assert "tests" in FOLDERS
    for name in FOLDERS:
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "module.py").write_text('"""What it is?"""\n')
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    assert prose.main([]) == 1
    shown = capsys.readouterr().out.splitlines()
    rules = ("clause", "question")
    assert shown == [f"{name}/inner/module.py:1: {rule}: What it is?" for name in FOLDERS for rule in rules]
