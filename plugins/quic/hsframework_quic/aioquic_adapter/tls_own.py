"""Our own certificate and key, in the shape that aioquic takes."""

from __future__ import annotations

from aioquic import tls
from cryptography.hazmat.primitives import hashes

from hsframework.credentials.selection import select_identity
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Identity
from hsframework.tls import signatures

for _code in signatures.SCHEMES:
    # aioquic looks a scheme's parameters up before it calls ``sign``.  Ours ignores them, so any will do.
    tls.SIGNATURE_ALGORITHMS.setdefault(_code, (None, hashes.SHA256))


class Der:
    """A certificate of ours in place of one of ``cryptography``'s."""

    def __init__(self, der: bytes) -> None:
        self._der = der

    def public_bytes(self, encoding: object) -> bytes:
        return self._der


class Signer:
    """A private key of ours with the scheme that it signs with."""

    def __init__(self, identity: Identity, scheme: int) -> None:
        self._identity = identity
        self.scheme = scheme

    def sign(self, content: bytes, *parameters: object) -> bytes:
        return signatures.sign(self._identity, self.scheme, content)


def chosen(identities: tuple[Identity, ...], schemes: tuple[int, ...], name: str | None) -> Identity | None:
    try:
        return select_identity(identities, schemes, name)
    except (ValueError, IndexError) as error:
        raise HandshakeFailed(Failure.NO_KEY, f"our own certificate cannot be read: {error}") from None
