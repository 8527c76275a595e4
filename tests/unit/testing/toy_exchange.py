"""The toy protocol itself, without I/O: both ends prove that they know one key, in three messages.

    client → 16 random bytes;  server → 16 random bytes, proof;  client → proof

A message is two bytes of length and a body; a proof is an HMAC over who says it and both random values.
"""

from __future__ import annotations

import hashlib
import hmac

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Role, Secret

NONCE = 16
LARGEST = 64


def body_size(header: bytes) -> int:
    """Return the number of bytes that follow a header.  Raises HandshakeFailed."""
    size = int.from_bytes(header, "big")
    if not 1 <= size <= LARGEST:
        raise HandshakeFailed(Failure.GARBAGE, f"a message of {size} bytes")
    return size


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(2, "big") + body


class Exchange:
    """One end.  ``finished`` once the other end has proved itself and ours has nothing more to receive."""

    def __init__(self, role: Role, key: Secret, nonce: bytes) -> None:
        self._role = role
        self._key = key
        self._ours = nonce
        self._theirs = b""
        self.finished = False

    @property
    def met(self) -> bool:
        """Return True once the other end has said anything."""
        return bool(self._theirs)

    def begin(self) -> bytes:
        """Return what goes out first."""
        return frame(self._ours) if self._role is Role.CLIENT else b""

    def feed(self, message: bytes) -> bytes:
        """Take a whole message; what goes out then.  Raises HandshakeFailed."""
        body = message[2:]
        if self._role is Role.CLIENT:
            self._set_nonce(body[:NONCE])
            self.check(Role.SERVER, body[NONCE:])
            self.finished = True
            return frame(self.proof(Role.CLIENT))
        if not self._theirs:
            self._set_nonce(body)
            return frame(self._ours + self.proof(Role.SERVER))
        self.check(Role.CLIENT, body)
        self.finished = True
        return b""

    def _set_nonce(self, nonce: bytes) -> None:
        if len(nonce) != NONCE:
            raise HandshakeFailed(Failure.GARBAGE, f"a random value of {len(nonce)} bytes")
        self._theirs = nonce

    def proof(self, role: Role) -> bytes:
        client, server = (self._ours, self._theirs) if self._role is Role.CLIENT else (self._theirs, self._ours)
        return hmac.digest(self._key.reveal(), bytes([role]) + client + server, hashlib.sha256)

    def check(self, role: Role, proof: bytes) -> None:
        if not hmac.compare_digest(self.proof(role), proof):
            raise HandshakeFailed(Failure.BAD_BINDER)

    def session_key(self) -> Secret:
        return Secret(hmac.digest(self._key.reveal(), b"session" + min(self._ours, self._theirs), hashlib.sha256))


def keystream(key: Secret, role: Role, number: int, size: int) -> bytes:
    """Make the keystream for record ``number`` of what ``role`` sends.  A toy: nothing is authenticated."""
    seed = bytes([role]) + number.to_bytes(8, "big")
    return hashlib.shake_256(key.reveal() + seed).digest(size)
