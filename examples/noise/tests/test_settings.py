"""The table [plugins.noise]."""

from __future__ import annotations

from pathlib import Path

import pytest
from hsframework.errors import ConfigurationError

from hsframework_noise.settings import Settings, load_keys
from keys import OURS, write_key


def test_keys(tmp_path: Path) -> None:
    """A file as wg genkey writes it."""
    write_key(tmp_path / "key", OURS)
    assert load_keys(Settings(keys={"host": tmp_path / "key"})) == {"host": OURS.secret}


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        (None, 0, "cannot read"),
        (b"bm90IDMyIGJ5dGVz\n", 0o600, "holds no key"),
        (b"not base64!", 0o600, "holds no key"),
        (bytes(range(128, 256)), 0o600, "holds no key"),
        (b"A" * 43 + b"=", 0o604, "can be read by everybody"),
    ],
)
def test_files_that_hold_none(content: bytes | None, mode: int, problem: str, tmp_path: Path) -> None:
    """The message names the setting and the file, and shows nothing of what is in it."""
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(ConfigurationError, match=problem) as caught:
        load_keys(Settings(keys={"host": path}))
    assert "plugins.noise.keys.host" in str(caught.value)
    assert str(path) in str(caught.value)
    assert content is None or content.decode("latin-1").strip() not in str(caught.value)


def test_pattern() -> None:
    """The default pattern is one of the two."""
    with pytest.raises(ConfigurationError, match="use XX or IK"):
        Settings(pattern="KK")
