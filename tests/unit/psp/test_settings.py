"""The table [plugins.psp]: what it takes, and that what it does not take is said clearly."""

from __future__ import annotations

from typing import Any

import pytest

from hsframework.errors import ConfigurationError
from hsframework_psp.settings import Settings
from hsframework_psp.versions import Version


def test_defaults() -> None:
    """Encrypting versions alone, the stronger first; both sides prove who they are."""
    settings = Settings()
    assert settings.preference == (Version.AES_GCM_256, Version.AES_GCM_128)
    assert settings.mutual


def test_a_list_as_toml_gives_it() -> None:
    """Lists are taken and kept as tuples."""
    assert Settings(versions=["aes-gmac-128"]).preference == (Version.AES_GMAC_128,)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"versions": ()}, "one name or more"),
        ({"versions": "aes-gcm-128"}, "a list"),
        ({"versions": ("aes-gcm-128", "aes-gcm-128")}, "twice"),
        ({"versions": ("rot13",)}, "use some of aes-gcm-128"),
        ({"device": "cloud"}, "use one of auto, kernel, software"),
        ({"mutual": "yes"}, "true or false"),
        ({"rotate_every": 0}, "from 1 up"),
        ({"rotate_every": True}, "from 1 up"),
    ],
)
def test_refused(change: dict[str, Any], words: str) -> None:
    """The message names the setting and says what to change."""
    with pytest.raises(ConfigurationError, match=words) as refused:
        Settings(**change)
    assert next(iter(change)).replace("_", "-") in str(refused.value)
