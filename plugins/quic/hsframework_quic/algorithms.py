"""The ciphers and groups that aioquic has, by name and code point (RFC 8446 appendix B)."""

from __future__ import annotations

AES_128_GCM_SHA256, AES_256_GCM_SHA384, CHACHA20_POLY1305_SHA256 = 0x1301, 0x1302, 0x1303
CIPHER_SUITES = {
    "TLS_AES_128_GCM_SHA256": AES_128_GCM_SHA256,
    "TLS_AES_256_GCM_SHA384": AES_256_GCM_SHA384,
    "TLS_CHACHA20_POLY1305_SHA256": CHACHA20_POLY1305_SHA256,
}
"""The cipher suites that aioquic can protect packets with, by name, in order of preference."""
ALL_SUITES = tuple(CIPHER_SUITES.values())
AES_128_CCM_SHA256 = 0x1304
"""For packets that somebody else protects."""
GROUPS = {"X25519": 0x1D, "P-256": 0x17, "P-384": 0x18, "P-521": 0x19, "X448": 0x1E}
