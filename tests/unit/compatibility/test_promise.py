"""The compatibility promise: every promised name is there, and the project's own plugins use no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.unit.compatibility.promise import PROMISED, ROOT, promised_now, public_modules

FOLDERS = [ROOT / "plugins", ROOT / "examples", ROOT / "hsframework" / "scaffold" / "template"]
SOURCES = sorted(
    path for folder in FOLDERS for path in folder.rglob("*.py") if not {".venv", "build"} & set(path.parts)
)


def test_what_is_promised_is_there() -> None:
    """No public name, attribute or argument has gone.  Where one has to: CHANGELOG, INTERFACE_VERSION, and renew the
    file as its module says."""
    promised = set(PROMISED.read_text().split())
    assert len(promised) > 300
    assert not promised - promised_now()


def test_each_public_module_has_a_page() -> None:
    """The reference has each promised module, or one of its parts by name, so that nobody needs the source."""
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs/reference").glob("*.md"))
    shown = set(re.findall(r"auto(?:module|class|function):: (hsframework[\w.]*)", pages))
    assert not [name for name in public_modules() if not any(f"{item}.".startswith(f"{name}.") for item in shown)]


def test_what_is_public_is_promised() -> None:
    """A name that is new has its line in the list, without which nothing would notice that it goes."""
    promised = set(PROMISED.read_text().split())
    assert not promised_now() - promised, "run python -m tests.unit.compatibility.promise, and commit what it writes"


def test_the_list_would_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that is gone, and an argument that has another name, are missed."""
    from hsframework import interface
    from hsframework.client import Client

    monkeypatch.delattr(interface.Secret, "reveal")
    monkeypatch.setattr(Client, "handshake", lambda self, connection: None)
    gone = set(PROMISED.read_text().split()) - promised_now()
    assert {"hsframework.interface.Secret.reveal", "hsframework.client.Client.handshake(options)"} <= gone


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_our_plugins_use_public_modules_alone(source: Path) -> None:
    """No door that a stranger cannot use."""
    public = set(public_modules())
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "hsframework":
            modules = {f"{node.module}.{alias.name}" for alias in node.names} & public
            assert modules or node.module in public, _mend(source, node.lineno, node.module)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "hsframework":
                    assert alias.name in public, _mend(source, node.lineno, alias.name)


def _mend(source: Path, line: int, module: str | None) -> str:
    return (
        f"{source}, line {line}: {module} is not public.  Where strangers are to have it too, add it to the table in "
        "docs/reference/compatibility.md and run python -m tests.unit.compatibility.promise; else use something public"
    )
