"""The table ``[plugins.noise]`` of the configuration.  It is checked when it is made."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hsframework.errors import ConfigurationError
from hsframework.interface import Secret

from hsframework_noise.library import KEY_SIZE
from hsframework_noise.patterns import PATTERNS


@dataclass(frozen=True)
class Settings:
    """The settings of Noise.

    ``pattern``: XX or IK, for requests that do not say.  ``keys``: files with private X25519 keys, by the profile whose
    requests have them; each holds 32 bytes in base64, as ``wg genkey`` writes them.
    """

    pattern: str = "XX"
    keys: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pattern not in PATTERNS:
            raise ConfigurationError(f"pattern is {self.pattern!r}; use {' or '.join(PATTERNS)}")


def load_keys(settings: Settings) -> dict[str, Secret]:
    """Return the keys by name.  Raises ConfigurationError; no part of a key is in it."""
    return {name: _load(path, f"plugins.noise.keys.{name}") for name, path in settings.keys.items()}


def _load(path: Path, where: str) -> Secret:
    try:
        if path.stat().st_mode & 0o007:
            raise ConfigurationError(f"{where}: {path} can be read by everybody; chmod 600 it")
        key = base64.b64decode(path.read_bytes().strip(), validate=True)
    except OSError as error:
        raise ConfigurationError(f"{where}: cannot read {path}: {error.strerror}") from None
    except binascii.Error:
        key = b""
    if len(key) != KEY_SIZE:
        raise ConfigurationError(f"{where}: {path} holds no key: {KEY_SIZE} bytes in base64 are wanted (wg genkey)")
    return Secret(key)
