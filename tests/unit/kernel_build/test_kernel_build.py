"""Build of the test kernel: apt's sources are read rightly, lost options found, cache entries told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.kernel import places
from scripts.kernel.debian import Source, Unable, mirror, sources
from scripts.kernel.linux import dropped


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty apt configuration."""
    monkeypatch.delenv("DEBIAN_MIRROR", raising=False)
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_one_line_sources(apt: Path) -> None:
    """Options, comments, source packages and other archives are told apart."""
    (apt / "sources.list").write_text(
        "# deb http://old.example/debian bookworm main\n"
        "deb-src http://src.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://other.example/apt stable-x main\n"
        "deb http://mirror.example/debian/ bookworm main contrib\n"
    )
    assert Source("http://mirror.example/debian/", "bookworm") in list(sources(apt))
    assert len(list(sources(apt))) == 2
    assert mirror(apt) == "http://mirror.example/debian"


def test_deb822_sources(apt: Path) -> None:
    """Several values and lines a field; a stanza that is off, or for sources only, does not count."""
    (apt / "sources.list.d" / "debian.sources").write_text(
        "Enabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: trixie\n\n"
        "Types: deb-src\nURIs: http://src.example/debian\nSuites: trixie\n\n"
        "# a comment\nTypes: deb deb-src\nURIs: http://mirror.example/debian\nSuites: trixie-updates\n trixie\n"
        "Components: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n"
    )
    assert [source.suite for source in sources(apt)] == ["trixie-updates", "trixie"]
    assert mirror(apt) == "http://mirror.example/debian"


def test_no_mirror_says_what_to_do(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of another distribution: the message names the variable, and the variable is believed."""
    (apt / "sources.list").write_text("deb http://archive.example/ubuntu noble main\n")
    with pytest.raises(Unable, match="DEBIAN_MIRROR"):
        mirror(apt)
    monkeypatch.setenv("DEBIAN_MIRROR", "http://mine.example/debian")
    assert mirror(apt) == "http://mine.example/debian"


def test_lost_options_are_found() -> None:
    """Absent, another value, and set where it was to be off."""
    fragment = "CONFIG_A=y\nCONFIG_B=m\nCONFIG_C=n\nCONFIG_D=n\n# CONFIG_E is not set\n"
    lost = dropped(fragment, "CONFIG_B=y\nCONFIG_C=y\n# CONFIG_D is not set\n")
    assert [line.split("=")[0] for line in lost] == ["CONFIG_A", "CONFIG_B", "CONFIG_C"]
    assert dropped(fragment, "CONFIG_A=y\nCONFIG_B=m\n") == []


def test_cache_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by what they are made from, and complete once they say so."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    entry = places.kernel_entry("7.2")
    assert entry.path.is_relative_to(tmp_path / "hsframework" / "kernel")
    assert entry.path == places.kernel_entry("7.2").path != places.kernel_entry("7.3").path
    assert places.root_entry("a", ("x", "y")).path == places.root_entry("a", ("y", "x")).path
    with entry.locked():
        assert not entry.complete
        entry.finish(version="7.2.1")
    assert places.kernel_entry("7.2").facts == {"version": "7.2.1"}
