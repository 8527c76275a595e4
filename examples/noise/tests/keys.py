"""Key pairs for tests."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hsframework.interface import Secret


@dataclass(frozen=True)
class KeyPair:
    """An X25519 key pair."""

    private: bytes
    public: bytes

    @property
    def secret(self) -> Secret:
        return Secret(self.private)


def make_key() -> KeyPair:
    """Return a new key pair."""
    key = X25519PrivateKey.generate()
    return KeyPair(key.private_bytes_raw(), key.public_key().public_bytes_raw())


OURS = make_key()
THEIRS = make_key()
STRANGER = make_key()


def write_key(path: Path, key: KeyPair) -> None:
    """Write the key as ``wg genkey`` does, readable by its owner alone."""
    path.touch(mode=0o600)
    path.write_bytes(base64.b64encode(key.private) + b"\n")
