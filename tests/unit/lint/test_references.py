"""scripts/lint/references.py finds references that lead nowhere, and no others."""

from __future__ import annotations

import ast

import pytest

from scripts.lint import references
from scripts.lint.sources import ROOT, docstrings

PACKAGE = ROOT / "plugins" / "tls13" / "hsframework_tls13"


@pytest.mark.parametrize(
    ("reference", "good"),
    [
        (":mod:`hsframework.errors`", True),
        (":mod:`hsframework.gone`", False),
        (":mod:`.engine`", True),
        (":mod:`.gone`", False),
        (":class:`~hsframework.errors.HandshakeError`", True),
        (":class:`~hsframework.errors.Gone`", False),
        (":class:`the error <hsframework.errors.HandshakeError>`", True),
        (":class:`the error <hsframework.errors.Gone>`", False),
        (":class:`asyncio.Event`", True),
        (":class:`asyncio.Gone`", False),
        (":func:`work`", True),
        (":func:`gone`", False),
        (":meth:`close`", True),
        (":meth:`Peer.close`", True),
        (":meth:`inherited`", True),
        (":meth:`gone`", False),
        (":attr:`address`", True),
        (":attr:`set_in_a_method`", True),
        (":class:`Path`", True),
    ],
)
def test_roles(reference: str, good: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference is looked up in its class, its module, its package, and as a full name."""
    text = '''
from pathlib import Path
class Base:
    def inherited(self): ...
class Peer(Base):
    """{}"""
    address: str
    def close(self):
        self.set_in_a_method = True
def work(): ...
'''
    tree = ast.parse(text.replace("{}", reference))
    known = {**references.modules(), "hsframework_tls13.sample": references.Module(tree)}
    monkeypatch.setattr(references, "modules", lambda: known)
    (docstring,) = docstrings(tree)
    assert docstring.scope == ("Peer",)
    assert (list(references.wrong_roles(docstring, PACKAGE / "sample.py")) == []) is good


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("``hsframework.errors.HandshakeError`` and ``hsframework.testing``", []),
        ("``hsframework.errors.Gone``", ["hsframework.errors.Gone"]),
        ("``hsframework/errors.py``", []),
        ("see hsframework/gone.py.", ["hsframework/gone.py"]),
        ("a table in docs/reference/ and `docs/gone.md`", ["docs/gone.md"]),
        ("``hooks.py`` beside it", []),
        ("``gone.py`` beside it", ["gone.py"]),
        ("``specs/tls13.yaml``", []),
        ("specs/gone.yaml", ["specs/gone.yaml"]),
        ("docs/_build/html and plugins/*/README.md", []),
        ("https://example.org/docs/gone.md", []),
    ],
)
def test_files_and_names(text: str, wrong: list[str]) -> None:
    """A file is looked for from the root, and from the folder that names it upwards."""
    assert list(references.wrong_names(text, PACKAGE / "engine.py")) == wrong


def test_pages_may_name_the_end_of_a_path() -> None:
    """A page of the documentation stands elsewhere than the files that it describes."""
    page = ROOT / "docs" / "topics" / "page.md"
    assert list(references.wrong_names("`tls13.yaml`, `hsframework_tls13/hooks.py`, `gone.py`", page)) == ["gone.py"]


def test_tables_of_modules() -> None:
    """The first column of a README's table names modules of the package beside it."""
    table = "| module | subject |\n|---|---|\n| `engine` (`_client`), `gone` | one `thing` |\n| `hooks` | another |\n"
    assert list(references.wrong_modules(table, PACKAGE.parent / "README.md")) == ["gone"]
