"""The two patterns: the order of messages, and their least sizes (Noise, sections 7.5 and 9)."""

from __future__ import annotations

from dataclasses import dataclass

from hsframework_noise.library import KEY_SIZE, TAG_SIZE

_E = KEY_SIZE
_S = KEY_SIZE + TAG_SIZE
_PAYLOAD = TAG_SIZE

MAX_OVERHEAD = _E + _S + _PAYLOAD
"""Bytes of the longest message beside its payload."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A handshake pattern.  ``sizes``: of each message with an empty payload, the initiator's first."""

    name: str
    psk_modifier: str
    knows_responder: bool
    sizes: tuple[int, ...]

    def protocol_name(self, psk: bool) -> str:
        """Return the full name, for example ``Noise_XX_25519_ChaChaPoly_BLAKE2s``."""
        return f"Noise_{self.name}{self.psk_modifier if psk else ''}_25519_ChaChaPoly_BLAKE2s"

    def size(self, index: int, psk: bool) -> int:
        """Return the bytes of message ``index`` with an empty payload.

        With a PSK even the first payload is encrypted.
        """
        in_clear = index == 0 and not self.knows_responder
        return self.sizes[index] + (_PAYLOAD if in_clear and psk else 0)


PATTERNS = {
    "XX": Pattern("XX", "psk3", False, (_E, _E + _S + _PAYLOAD, _S + _PAYLOAD)),
    "IK": Pattern("IK", "psk2", True, (_E + _S + _PAYLOAD, _E + _PAYLOAD)),
}
