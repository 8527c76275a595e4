"""The secrets and credentials of a request: our identities and keys, and the authorities to trust."""

from __future__ import annotations

import enum
import hashlib
import hmac
from dataclasses import dataclass, replace
from functools import cached_property


class Secret:
    """Bytes that must not be shown: no repr, no str, no pickle.  Comparison takes constant time.

    >>> Secret(b"hunter2")
    <secret, 7 bytes>
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes | bytearray | memoryview) -> None:
        self._value = bytes(value)

    def reveal(self) -> bytes:
        """Return the bytes.  Call it where they are used, and keep the result nowhere."""
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
    """A certificate chain and its private key."""

    chain: tuple[bytes, ...]
    """DER certificates: the leaf, then the intermediates in order; the trust anchor may be left out."""
    private_key: Secret
    """PKCS#8 ``PrivateKeyInfo`` DER, unencrypted."""


@dataclass(frozen=True, slots=True)
class PresharedKey:
    """An external PSK (RFC 8446 section 4.2.11)."""

    identity: bytes
    """The identity as it goes on the wire, 1 to 65535 bytes."""
    key: Secret
    """The key itself."""
    hash: str = "sha256"
    """The hash of the key schedule: ``"sha256"`` or ``"sha384"``."""


class CrlCheck(enum.StrEnum):
    """Treatment of a certificate whose authority has no revocation list in the trust."""

    IF_PRESENT = "if-present"
    """The certificate is accepted.  Lists that are there have to be usable, and to cover it."""
    REQUIRE = "require"
    """Refuse it."""


class ClientUsage(enum.StrEnum):
    """Extended key usage that a client's certificate must have, if it has any."""

    CLIENT_AUTH = "client-auth"
    """clientAuth."""
    TLS = "tls"
    """clientAuth or serverAuth.  Public authorities issue certificates for servers alone, which their holders use for
    both roles."""


@dataclass(frozen=True)
class Trust:
    """The authorities to trust, and their revocations.

    Two objects with the same content have the same ``digest``: a cache of what is built from one can use it as the key.
    """

    anchors: tuple[bytes, ...]
    """DER certificates of the trusted authorities."""
    crls: tuple[bytes, ...] = ()
    """DER certificate revocation lists (RFC 5280 section 5)."""
    crl_check: CrlCheck = CrlCheck.IF_PRESENT
    """Treatment of a certificate whose authority has no list here."""
    client_usage: ClientUsage = ClientUsage.CLIENT_AUTH
    """Usage that the certificates of clients must have."""
    admit: tuple[str, ...] | None = None
    """Admission list: entries ``KIND:PATTERN``, of which one must be for the peer (dns, ip, uri, email, subject,
    issuer, sha256, issuer-sha256, psk).  None: every peer that proves its identity is admitted.  The judge enforces it,
    and the agent once more for every protocol."""

    @cached_property
    def of_anybody(self) -> Trust:
        """Return the same authorities and lists without the admission list."""
        return self if self.admit is None else replace(self, admit=None)

    @cached_property
    def digest(self) -> bytes:
        """Return SHA-256 over every item with its length, 32 bytes."""
        state = hashlib.sha256(f"{self.crl_check} {self.client_usage}".encode())
        admit = None if self.admit is None else [entry.encode() for entry in ("", *self.admit)]
        for tag, items in ((b"A", self.anchors), (b"R", self.crls), (b"L", admit or ())):
            for item in items:
                state.update(tag + len(item).to_bytes(4, "big"))
                state.update(item)
        return state.digest()

    def __hash__(self) -> int:
        return hash(self.digest)
