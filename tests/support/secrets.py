"""Forms in which a secret would be found in a text."""

from __future__ import annotations

import base64
from collections.abc import Iterator


def written(secret: bytes) -> Iterator[str]:
    """Yield the ways in which bytes find their way into texts."""
    yield secret.hex()
    yield secret.hex(" ")
    yield secret.hex(":")
    yield base64.b64encode(secret).decode().rstrip("=")[:-1]
    yield base64.urlsafe_b64encode(secret).decode().rstrip("=")[:-1]
    yield repr(secret)[2:-1]
    yield repr(repr(secret))[3:-2]
    yield ", ".join(map(str, secret))
    yield secret.decode("latin-1")
    yield secret.decode("utf-8", "backslashreplace")
