"""The configuration's file: a wrong key or value is named, with its mending."""

from __future__ import annotations

from pathlib import Path

import pytest

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
