"""Tokens of Retry packets (RFC 9000 sections 8.1.2 to 8.1.4): a client proves its address, and nothing is kept of it.

A token is sealed under a key that this process made up, and that it replaces from time to time; bound to the address
and the connection ids, and good for :data:`LIFETIME`.  A key that was replaced still opens tokens, so that one that is
merely too old can be told from one that is not ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

LIFETIME = 15.0
"""Seconds: a client answers a Retry at once."""
ROTATION = 300.0
"""Seconds after which a new key is made up."""

_MARK = b"\x00hsfR1"
"""Tells our tokens from those of NEW_TOKEN frames, and of others (RFC 9000 section 8.1.3)."""
_NONCE = 12


@dataclass(frozen=True, slots=True)
class Validated:
    """The content of a good token.

    ``original``: destination of the client's first Initial; ``retry``: source of the Retry.
    """

    original: bytes
    retry: bytes


class BadToken(Exception):
    """A Retry token that is not good: forged, expired, or of another address or connection."""


class RetryTokens:
    """The tokens of one listener.  ``random``: returns so many unpredictable bytes."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._keys: list[AESGCM] = []
        self._made_at = -ROTATION

    def make(self, address: str, original: bytes, retry: bytes, now: float) -> bytes:
        """Return a token for the client at ``address:port``; ``now`` in seconds on a monotonic clock."""
        if not self._keys or now - self._made_at >= ROTATION:
            self._keys = [AESGCM(self._random(32)), *self._keys[:1]]
            self._made_at = now
        nonce = self._random(_NONCE)
        content = int(now * 1000).to_bytes(8, "big") + bytes([len(original)]) + original + retry
        return _MARK + nonce + self._keys[0].encrypt(nonce, content, address.encode())

    def check(self, token: bytes, address: str, destination: bytes, now: float) -> Validated | None:
        """Return the token's content; None: it is no Retry token and proves nothing (RFC 9000 section 8.1.3).

        Raises BadToken.
        """
        if not token.startswith(_MARK):
            return None
        content = self._open(token[len(_MARK) :], address)
        size = content[8]
        original, retry = content[9 : 9 + size], content[9 + size :]
        if retry != destination:
            raise BadToken("of another connection")
        if not 0 <= now - int.from_bytes(content[:8], "big") / 1000 <= LIFETIME:
            raise BadToken("expired")
        return Validated(original, retry)

    def _open(self, sealed: bytes, address: str) -> bytes:
        for key in self._keys:
            try:
                return key.decrypt(sealed[:_NONCE], sealed[_NONCE:], address.encode())
            except (InvalidTag, ValueError):
                continue
        raise BadToken("forged, or of another address")
