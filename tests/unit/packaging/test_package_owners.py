"""Distribution of wheels over the Debian packages, on a folder with metadata alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.packages.environment import owners
from scripts.packages.targets import RELEASES

NEEDS = {
    "hsframework": ["one"],
    "hsframework-tls13": ["hsframework", "shared"],
    "hsframework-quic": ["hsframework", "shared", "quics"],
    "hsframework-psp": ["hsframework", "hsframework-tls13", "new; python_version >= '3.14'"],
    "one": ["two[extra]", "old; python_version < '3.12'"],
    "two": ["tests; extra == 'tests'"],
    "shared": [],
    "quics": [],
    "old": [],
    "left-over": [],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the distributions of ``NEEDS``."""
    for name, needs in NEEDS.items():
        info = tmp_path / f"{name.replace('-', '_')}-1.dist-info"
        info.mkdir()
        lines = [f"Requires-Dist: {text}\n" for text in needs]
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n{''.join(lines)}")
    return tmp_path


def test_each_has_one_owner(folder: Path) -> None:
    """A distribution of the core or of two plugins is the core's, the rest its plugin's; an idle one is left out."""
    found = owners(folder, RELEASES["trixie"])
    core = {"hsframework", "one", "two", "shared"}
    assert {name for name, package in found.items() if package == "hsframework"} == core
    assert found["quics"] == "hsframework-quic"
    assert found.keys().isdisjoint({"left-over", "old", "tests"})


def test_an_older_python_needs_more(folder: Path) -> None:
    """Markers are those of the release's Python, not of the one that builds."""
    assert owners(folder, RELEASES["bookworm"])["old"] == "hsframework"


def test_what_pip_left_out(folder: Path) -> None:
    """A distribution that the release's Python needs and that is not there is an error that names it."""
    with pytest.raises(ValueError, match=r"new.* is needed by Python 3\.14"):
        owners(folder, RELEASES["forky"])
