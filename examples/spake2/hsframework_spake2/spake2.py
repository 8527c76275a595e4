"""SPAKE2-P256-SHA256-HKDF-HMAC (RFC 9382), without I/O: two shares, a key and two confirmations."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hsframework.interface import Role, Secret

from hsframework_spake2.curve import ORDER, decode, generated, negative, product, total

CONFIRMATION_SIZE = 32
"""Bytes of a confirmation."""
_SCALAR_SIZE = 32
_KEY_SIZE = 16
_BLINDS = {  # M, with which a client hides its share, and N, a server's (section 4)
    Role.CLIENT: decode(bytes.fromhex("02886e2f97ace46e55ba9dd7242579f2993b64e16ef3dcab95afd497333d8fa12f")),
    Role.SERVER: decode(bytes.fromhex("03d8bbd6c639c62937b04d997f38c3770719c629d7014d49a24b4f98baa1292b49")),
}
_OTHER = {Role.CLIENT: Role.SERVER, Role.SERVER: Role.CLIENT}


@dataclass(frozen=True, slots=True)
class Agreed:
    """The outcome of both shares.  It proves nothing before the peer's confirmation is compared."""

    key: Secret
    """Ke, 16 bytes."""
    ours: bytes
    theirs: Secret
    """The confirmation that the peer must send."""


class Side:
    """One side of one exchange; the client is A, the server is B."""

    def __init__(self, role: Role, password: int, *, client: bytes, server: bytes, scalar: int | None = None) -> None:
        """Choose a scalar, and make our share.

        ``password``: w, from 1 to ORDER - 2.  ``client``, ``server``: the identities.  ``scalar``: for vectors alone.
        """
        self._role = role
        self._password = password
        self._identities = (client, server)
        self._scalar = 1 + secrets.randbelow(ORDER - 2) if scalar is None else scalar
        self.share = total(generated(self._scalar), product(password, _BLINDS[role])).encoded

    def agree(self, share: bytes, context: bytes = b"") -> Agreed:
        """Return the outcome, with the peer's share.  ``context``: AAD of the RFC.  Raises NotAPoint."""
        other = _OTHER[self._role]
        unblinded = total(decode(share), negative(product(self._password, _BLINDS[other])))
        shared = product(self._scalar, unblinded).encoded
        shares = (self.share, share) if self._role is Role.CLIENT else (share, self.share)
        transcript = b"".join(
            len(part).to_bytes(8, "little") + part
            for part in (*self._identities, *shares, shared, self._password.to_bytes(_SCALAR_SIZE, "big"))
        )
        digest = hashlib.sha256(transcript).digest()
        keys = HKDF(SHA256(), 2 * _KEY_SIZE, None, b"ConfirmationKeys" + context).derive(digest[_KEY_SIZE:])
        confirmations = {
            Role.CLIENT: hmac.digest(keys[:_KEY_SIZE], transcript, "sha256"),
            Role.SERVER: hmac.digest(keys[_KEY_SIZE:], transcript, "sha256"),
        }
        return Agreed(Secret(digest[:_KEY_SIZE]), confirmations[self._role], Secret(confirmations[other]))
