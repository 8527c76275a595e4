"""Plugins among the distributions of strangers, some of which are broken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hsframework.registry.installed import Installed, installed
from tests.support.running import python_path

METADATA = "Metadata-Version: 2.1\nName: {}\nVersion: {}\n"
OURS = {"psp", "quic", "tls13"}


def distribution(folder: Path, name: str, *, metadata: str | None = None, entry_points: bytes | None = None) -> None:
    """Make a ``.dist-info`` as an installation, whole or interrupted, leaves it."""
    information = folder / f"{name}.dist-info"
    information.mkdir(parents=True)
    if metadata is not None:
        (information / "METADATA").write_text(metadata)
    if entry_points is not None:
        (information / "entry_points.txt").write_bytes(entry_points)


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder at the head of the path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def names(found: Installed) -> set[str]:
    return {each.name for each in found.plugins}


FOO = METADATA.format("foo", "1.0")


@pytest.mark.parametrize(
    ("name", "metadata", "entry_points"),
    [
        ("", None, None),
        ("~oo-1.0", None, None),
        ("foo-1.0", FOO, b"[console_scripts]\nfoo\n"),
        ("foo-1.0", FOO, b"[console_scripts]\nf\xe9 = foo:main\n"),
        ("foo-1.0", FOO, b"[hsframework]\nfoo\n"),
        ("foo-1.0", FOO, b"foo = foo:main\n[hsframework]\n"),
        ("foo-1.0", FOO, b"[hsframework]\nfoo = not an object\n"),
        ("hsframework_quic-0.0.1", None, None),
        ("foo-1.0", None, b"[hsframework]\nfoo = foo\n"),
    ],
    ids=["empty", "tilde", "no-equals", "latin-1", "ours-no-equals", "no-section", "no-object", "left-over", "no-name"],
)
def test_broken_metadata(beside: Path, name: str, metadata: str | None, entry_points: bytes | None) -> None:
    """It is named, with its folder and the reason, and hides no plugin."""
    distribution(beside, name, metadata=metadata, entry_points=entry_points)
    found = installed()
    assert names(found) == OURS
    (broken,) = found.broken
    assert broken.where == str(beside / f"{name}.dist-info")
    assert broken.reason


def test_an_older_one_without_entry_points(beside: Path) -> None:
    """Remains of an earlier version at the head of the path hide nothing, and are no plugin."""
    distribution(beside, "hsframework_quic-0.0.1", metadata=METADATA.format("hsframework-quic", "0.0.1"))
    found = installed()
    assert (names(found), found.broken) == (OURS, ())


def test_a_name_that_two_claim(beside: Path) -> None:
    """That one comes first whose distribution bears the name; each has the other named."""
    rival = METADATA.format("a-rival", "1.0")
    distribution(beside, "a_rival-1.0", metadata=rival, entry_points=b"[hsframework]\nquic = a\n")
    first, second = (each for each in installed().plugins if each.name == "quic")
    assert (first.distribution, first.rivals) == ("hsframework-quic", ("a-rival 1.0",))
    assert (second.distribution, second.rivals) == ("a-rival", (f"hsframework-quic {first.version}",))


def test_a_process_looks_once() -> None:
    """A look costs 10 ms and more, and the start asks for it at five places."""
    assert installed() is installed()


def test_the_commands_say_it(tmp_path: Path) -> None:
    """``plugins`` lists what can be used, names the culprit, and tells both claimants of each other."""
    distribution(tmp_path, "")
    rival = METADATA.format("a-rival", "1.0")
    distribution(tmp_path, "a_rival-1.0", metadata=rival, entry_points=b"[hsframework]\nquic = a_rival\n")
    (tmp_path / "a_rival.py").write_text("raise SystemExit('imported')\n")
    environment = os.environ | {"PYTHONPATH": python_path(tmp_path)}
    words = [sys.executable, "-m", "hsframework", "plugins"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert f"passed over: {tmp_path}/.dist-info" in done.stderr
    assert "the name is claimed by a-rival 1.0 too" in done.stdout
    assert "the name is claimed by hsframework-quic" in done.stdout
