"""The parts of the TLS 1.3 key schedule that a session needs after its handshake (RFC 8446 section 7).

Sans-IO and stateless.  Arguments and results are plain bytes: callers reveal a ``Secret`` for the call alone.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from hsframework_tls13.ciphers import NONCE_SIZE, CipherSuite

_DIGEST_SIZES = {"sha256": 32, "sha384": 48}


def hkdf_extract(hash_name: str, salt: bytes, key_material: bytes) -> bytes:
    """Return HKDF-Extract (RFC 5869 section 2.2): a pseudo-random key of the hash's size."""
    return hmac.digest(salt or bytes(hashlib.new(hash_name).digest_size), key_material, hash_name)


def hkdf_expand(hash_name: str, key: bytes, info: bytes, length: int) -> bytes:
    """Return HKDF-Expand (RFC 5869 section 2.3): ``length`` bytes, at most 255 times the hash's size."""
    size = _DIGEST_SIZES.get(hash_name) or hashlib.new(hash_name).digest_size
    if 0 <= length <= size:
        return hmac.digest(key, info + b"\1", hash_name)[:length]
    blocks: list[bytes] = []
    block = b""
    if not 0 <= length <= 255 * size:
        raise ValueError(f"HKDF-Expand gives 0 to {255 * size} bytes, not {length}")
    for counter in range(1, -(-length // size) + 1):
        block = hmac.digest(key, block + info + bytes((counter,)), hash_name)
        blocks.append(block)
    return b"".join(blocks)[:length]


def hkdf_expand_label(hash_name: str, secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """Return HKDF-Expand-Label (RFC 8446 section 7.1); ``label`` without its ``"tls13 "``."""
    info = _label(label, length) + bytes((len(context),)) + context
    return hkdf_expand(hash_name, secret, info, length)


def _label(label: bytes, length: int) -> bytes:
    full = b"tls13 " + label
    return length.to_bytes(2, "big") + bytes((len(full),)) + full


def derive_secret(hash_name: str, secret: bytes, label: bytes, messages: bytes) -> bytes:
    """Return Derive-Secret (section 7.1) over the handshake messages themselves."""
    transcript = hashlib.new(hash_name, messages).digest()
    return hkdf_expand_label(hash_name, secret, label, transcript, len(transcript))


@dataclass(frozen=True, slots=True)
class TrafficKeys:
    """The key and the IV that protect the records of one direction (section 7.3)."""

    key: bytes = field(repr=False)
    iv: bytes = field(repr=False)


def traffic_keys(suite: CipherSuite, secret: bytes) -> TrafficKeys:
    """Return the record keys of one traffic secret."""
    return TrafficKeys(
        key=hkdf_expand_label(suite.hash, secret, b"key", b"", suite.key_size),
        iv=hkdf_expand_label(suite.hash, secret, b"iv", b"", NONCE_SIZE),
    )


def next_traffic_secret(suite: CipherSuite, secret: bytes) -> bytes:
    """Return the traffic secret after a KeyUpdate (section 7.2)."""
    return hkdf_expand_label(suite.hash, secret, b"traffic upd", b"", len(secret))


def export_keying_material(
    suite: CipherSuite, exporter_secret: bytes, label: bytes, context: bytes, size: int
) -> bytes:
    """Return ``size`` bytes of the exporter (section 7.5), which only the two sides of the session can compute."""
    derived = derive_secret(suite.hash, exporter_secret, label, b"")
    digest = hashlib.new(suite.hash, context).digest()
    return hkdf_expand_label(suite.hash, derived, b"exporter", digest, size)
