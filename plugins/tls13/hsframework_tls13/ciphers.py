"""The cipher suites of TLS 1.3 that this plugin speaks (RFC 8446 appendix B.4; CCM_8 is left out, its tag is short).

``record_limit`` is how many records one key may protect before it is replaced (section 5.5): 2^24.5 for AES-GCM,
2^23 for AES-CCM (RFC 9147 appendix B.3), and for ChaCha20-Poly1305 all that a sequence number can count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

TAG_SIZE = 16
NONCE_SIZE = 12
MAX_SEQUENCE = 2**64 - 1


class Aead(Protocol):
    """An AEAD with its key in it; ``decrypt`` raises ``cryptography.exceptions.InvalidTag``."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...


@dataclass(frozen=True, slots=True)
class CipherSuite:
    """A cipher suite.  ``code``: as on the wire.  ``hash``: a name for hashlib.  ``key_size``: bytes."""

    code: int
    name: str
    hash: str
    key_size: int
    record_limit: int
    aead: Callable[[bytes], Aead]


_GCM_LIMIT = int(2**24.5)
_CCM_LIMIT = 2**23

AES_128_GCM = CipherSuite(0x1301, "TLS_AES_128_GCM_SHA256", "sha256", 16, _GCM_LIMIT, AESGCM)
AES_256_GCM = CipherSuite(0x1302, "TLS_AES_256_GCM_SHA384", "sha384", 32, _GCM_LIMIT, AESGCM)
CHACHA20_POLY1305 = CipherSuite(
    0x1303, "TLS_CHACHA20_POLY1305_SHA256", "sha256", 32, MAX_SEQUENCE - 1, ChaCha20Poly1305
)
AES_128_CCM = CipherSuite(0x1304, "TLS_AES_128_CCM_SHA256", "sha256", 16, _CCM_LIMIT, AESCCM)

SUITES: tuple[CipherSuite, ...] = (AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, AES_128_CCM)
BY_CODE: Mapping[int, CipherSuite] = {suite.code: suite for suite in SUITES}
BY_NAME: Mapping[str, CipherSuite] = {suite.name: suite for suite in SUITES}
