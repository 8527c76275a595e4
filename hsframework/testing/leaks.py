"""Search for secrets in texts: whole, or half of one, in any of the forms in which people write bytes."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator

LEAST_SECRET = 6
"""Bytes; a shorter secret would be found in any text by chance."""
_LEAST_HALF = 6
_EVERYWHERE = 8
"""Bytes from which a secret is looked for without regard to case and spaces."""


def too_short(secrets: Iterable[bytes]) -> list[bytes]:
    """Return the secrets that are too short to be looked for; an empty one is none."""
    return [secret for secret in secrets if 0 < len(secret) < LEAST_SECRET]


def shown_secrets(secrets: Iterable[bytes], texts: Iterable[str]) -> list[str]:
    """Return the texts that contain a secret, or the first or the second half of one.

    Forms: as it is, as Python's bytes literal, in hexadecimal, as a list of numbers, and in base64.
    """
    exact: set[str] = set()
    anywhere: set[str] = set()
    for secret in secrets:
        for part in _parts(secret):
            (anywhere if len(part) >= _EVERYWHERE else exact).update(_as_text(part))
            anywhere.update(_encoded(part))
    lowered = {form.lower() for form in anywhere}
    found = []
    for text in texts:
        plain = "".join(text.split())
        if (
            any(form in text for form in exact | anywhere)
            or any(form in plain for form in anywhere)
            or any(form in plain.lower() for form in lowered)
        ):
            found.append(text)
    return found


def _parts(secret: bytes) -> Iterator[bytes]:
    """Yield the secret and its halves, as far as they are long enough."""
    if len(secret) >= LEAST_SECRET:
        yield secret
    half = len(secret) // 2
    if half >= _LEAST_HALF:
        yield from (secret[:half], secret[-half:])


def _as_text(part: bytes) -> Iterator[str]:
    yield part.decode("latin-1")
    yield repr(part)[2:-1]


def _encoded(part: bytes) -> Iterator[str]:
    yield part.hex()
    yield part.hex(":")
    yield ",".join(map(str, part))
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        # Only whole groups of three bytes are the same in front of what follows.
        yield encode(part[: len(part) // 3 * 3]).decode()


def forms_of(secret: bytes) -> list[str]:
    """Return the forms of a secret that are looked for, which are taken out of a message about it."""
    return [form for part in _parts(secret) for form in (*_as_text(part), *_encoded(part))]
