"""Observations of the suite: secrets in any writing, imports that do input and output, what is left behind."""

from __future__ import annotations

import base64
import logging
import os
import sys
import textwrap
from pathlib import Path

import pytest
import structlog

from hsframework.interface import Secret
from hsframework.testing.imports import io_imports
from hsframework.testing.leaks import shown_secrets, too_short
from hsframework.testing.observation import observed

SECRET = bytes(range(190, 222))


@pytest.mark.parametrize(
    "text",
    [
        SECRET.hex(),
        SECRET.hex().upper(),
        SECRET.hex(":"),
        SECRET.hex(" "),
        repr(SECRET),
        f"{{'key': {SECRET!r}}}",
        base64.b64encode(SECRET).decode(),
        base64.urlsafe_b64encode(SECRET).decode(),
        SECRET.decode("latin-1"),
    ],
)
def test_secrets_are_recognised(text: str) -> None:
    """However they are written."""
    assert shown_secrets([SECRET], ["nothing", f"key={text}!"]) == [f"key={text}!"]


@pytest.mark.parametrize("part", [SECRET[:16], SECRET[16:], SECRET[:20]])
def test_halves_are_recognised(part: bytes) -> None:
    """The first or the second half of a secret, in all writings."""
    for text in (part.hex(), repr(part), base64.b64encode(part).decode(), str(list(part))):
        assert shown_secrets([SECRET], [text]) == [text]


def test_what_is_no_secret() -> None:
    """A few bytes of one, and what is too short to be found by anything but chance, which is said."""
    assert not shown_secrets([SECRET, b"ab"], [SECRET[:5].hex(), "ab", "<secret, 32 bytes>"])
    assert too_short([SECRET, b"ab", b""]) == [b"ab"]


def test_every_logger_is_watched() -> None:
    """Also one that is not propagated, at a level of its own; descriptors 1 and 2; and each Secret that is made."""
    logger = logging.getLogger("a quiet one")
    logger.propagate = False
    logger.setLevel(logging.ERROR)
    with observed() as seen:
        logger.log(1, "whispered")
        os.write(1, b"to fd 1")
        os.write(2, b"to fd 2")
        Secret(SECRET)
    text = "\n".join(seen.texts)
    assert all(word in text for word in ("whispered", "to fd 1", "to fd 2"))
    assert SECRET in seen.secrets
    assert not logger.isEnabledFor(logging.INFO)


def test_everything_said_is_seen() -> None:
    """By structlog, by logging, on stdout and stderr; and all is as before afterwards."""
    before = structlog.get_config()
    with observed() as seen:
        structlog.get_logger("x").error("one", plugin="x", reason="why")
        logging.getLogger("y").warning("two %s", "words")
        print("three")
        print("four", file=sys.stderr)
    text = "\n".join(seen.texts)
    assert all(word in text for word in ("one", "two words", "three", "four"))
    assert seen.blames == ["one: why"]
    assert structlog.get_config() == before


def test_files_that_are_opened(tmp_path: Path) -> None:
    """While they are watched, and not else."""
    (tmp_path / "a").write_text("")
    with observed() as seen:
        (tmp_path / "a").read_text()
        seen.watch_files = True
        (tmp_path / "a").read_bytes()
        seen.watch_files = False
        (tmp_path / "a").read_text()
    assert seen.opened == [str(tmp_path / "a")]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty package ``lonely`` on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "lonely").mkdir()
    (tmp_path / "lonely/__init__.py").write_text("")
    for name in [name for name in sys.modules if name.startswith("lonely")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path / "lonely"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import hashlib, struct", []),
        ("import socket", ["lonely.core (line 1) imports socket"]),
        ("import os.path", ["lonely.core (line 1) imports os.path"]),
        ("from time import monotonic", ["lonely.core (line 1) imports time"]),
        ("def f():\n    import asyncio", ["lonely.core (line 2) imports asyncio"]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import socket", []),
        ("from lonely import helper", ["lonely.helper (line 1) imports selectors"]),
        ("from .helper import thing", ["lonely.helper (line 1) imports selectors"]),
        ("import lonely.helper", ["lonely.helper (line 1) imports selectors"]),
    ],
)
def test_imports(package: Path, source: str, found: list[str]) -> None:
    """Of the module itself and of what it imports of its package, wherever in the file; types do not count."""
    (package / "core.py").write_text(textwrap.dedent(source))
    (package / "helper.py").write_text("import selectors\nthing = 1\n")
    assert io_imports("lonely.core") == found


def test_imports_of_what_is_not_there(package: Path) -> None:
    """A name that is misspelt is no protocol without input and output."""
    with pytest.raises(LookupError, match=r"lonely\.nothing"):
        io_imports("lonely.nothing")
