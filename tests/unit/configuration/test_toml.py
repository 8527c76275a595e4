"""The configuration's file: a wrong key or value is named, with its mending."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hsframework.configuration.runtime_dir import MOST_BYTES
from hsframework.configuration.tlshd import load_tlshd_configuration
from hsframework.configuration.toml import load_configuration
from hsframework.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("limts.per-source = 1", "limts: unknown key; did you mean 'limits'?"),
        ("limits.per-sauce = 1", "limits.per-sauce: unknown key; did you mean 'per-source'?"),
        ("limits.per-source = 0", "limits: per-source must be at least 1"),
        ('limits.per-source = "many"', "limits.per-source: a whole number is wanted, not str"),
        ("limits.per-source = true", "limits.per-source: a whole number is wanted, not bool"),
        ("limits = 1", "limits: a table is wanted here"),
        ("limits.per-source = ", "not TOML"),
        ('profiles.web.trust = "partners"', "profiles.web.trust: 'partners' is not configured"),
        ("[identities.web]\ncertificate = 'web.pem'", "identities.web.private-key: missing; add it"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    """The message has the file, the key, and the way to mend it."""
    file = tmp_path / "hsframework.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(file)
    assert str(caught.value).startswith(f"{file}:1: ")
    assert said in str(caught.value)


def test_relative_paths_are_the_files(tmp_path: Path) -> None:
    """A path is looked up beside the file, wherever the program was started."""
    (tmp_path / "hsframework.toml").write_text('[trust.all]\nbundle = ["ca.pem"]')
    assert load_configuration(tmp_path / "hsframework.toml").trust["all"].bundle == (tmp_path / "ca.pem",)


@pytest.mark.parametrize("load", [load_configuration, load_tlshd_configuration])
def test_what_keeps_a_reader_waiting_is_refused(tmp_path: Path, load: Callable[[Path], object]) -> None:
    """A pipe without a writer, a device without an end and a file beyond the bound are errors that name them."""
    place = tmp_path / "hsframework.toml"
    os.mkfifo(place)
    with pytest.raises(ConfigurationError, match=f"^{place} is not a regular file"):
        load(place)
    place.unlink()
    place.symlink_to("/dev/zero")
    with pytest.raises(ConfigurationError, match=f"^{place} is not a regular file"):
        load(place)
    place.unlink()
    place.touch()
    os.truncate(place, MOST_BYTES + 1)
    with pytest.raises(ConfigurationError, match=f"^{place} has {MOST_BYTES + 1} bytes, more than"):
        load(place)
