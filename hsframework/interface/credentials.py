"""The secrets and credentials of a request: our identities and keys, and the authorities to trust."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from functools import cached_property


class Secret:
    """Bytes that must not be shown: no repr, no str, no pickle, compared in constant time.

    >>> Secret(b"hunter2")
    <secret, 7 bytes>
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes | bytearray | memoryview) -> None:
        self._value = bytes(value)

    def reveal(self) -> bytes:
        """The bytes themselves.  Call it where they are used, and keep the result nowhere."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(hashlib.sha256(self._value).digest())

    def __repr__(self) -> str:
        return f"<secret, {len(self._value)} bytes>"

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate chain and its private key.

    ``chain``: DER certificates, the leaf first, then intermediates in order; the anchor may be left out.
    ``private_key``: PKCS#8 ``PrivateKeyInfo`` DER, unencrypted.
    """

    chain: tuple[bytes, ...]
    private_key: Secret


@dataclass(frozen=True, slots=True)
class PresharedKey:
    """An external PSK (RFC 8446 section 4.2.11).

    ``identity``: as it goes on the wire, 1 to 65535 bytes.  ``hash``: ``"sha256"`` or ``"sha384"``.
    """

    identity: bytes
    key: Secret
    hash: str = "sha256"


@dataclass(frozen=True)
class Trust:
    """Whom to believe: DER trust anchors and DER certificate revocation lists.

    Two objects with the same content have the same ``digest``, so what is built from one can be kept under it.
    """

    anchors: tuple[bytes, ...]
    crls: tuple[bytes, ...] = ()

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over every item with its length, 32 bytes."""
        state = hashlib.sha256()
        for tag, items in ((b"A", self.anchors), (b"R", self.crls)):
            for item in items:
                state.update(tag + len(item).to_bytes(4, "big"))
                state.update(item)
        return state.digest()

    def __hash__(self) -> int:
        return hash(self.digest)
