"""The table [kernel.raw]."""

from __future__ import annotations

from pathlib import Path

import pytest

from hsframework.configuration.toml import load_configuration
from hsframework.errors import ConfigurationError


def _load(folder: Path, text: str) -> dict[str, int]:
    file = folder / "hsframework.toml"
    file.write_text(f"[kernel.raw]\n{text}\n")
    return dict(load_configuration(file).kernel.raw.protocols)


def test_protocols(tmp_path: Path) -> None:
    """Those of the form's first three groups, or the ones that are named instead."""
    assert _load(tmp_path, "enabled = true") == {"tlshd": 1, "quic": 2, "psp": 3}
    assert _load(tmp_path, "protocols = {tlshd = 1, mine = 9}") == {"tlshd": 1, "mine": 9}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("protocols = {mine = 0}", "kernel.raw: protocols.mine: 0 is not from 1 to 65535"),
        ("protocols = {mine = 65536}", "kernel.raw: protocols.mine: 65536 is not from 1 to 65535"),
        ("protocols = {one = 4, two = 4}", "kernel.raw: protocols.two: 4 is the number of 'one' already"),
        ("protocols = {mine = '4'}", "kernel.raw.protocols.mine: a whole number is wanted, not str"),
        ("protocols = [4]", "kernel.raw.protocols: a table is wanted here"),
        ("groups = {}", "kernel.raw.groups: unknown key"),
    ],
)
def test_what_is_wrong(tmp_path: Path, text: str, problem: str) -> None:
    """A wrong value is named with its place."""
    with pytest.raises(ConfigurationError) as error:
        _load(tmp_path, text)
    assert problem in str(error.value)
