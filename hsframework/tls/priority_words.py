"""The words of priority strings: GnuTLS's names for what TLS 1.3 negotiates, as numbers on the wire.

After GnuTLS's manual, "Priority strings", and the lists of its release 3.8.  One difference: GnuTLS has the hybrid
groups with ML-KEM in no keyword.  Here they come first in every keyword but those of Suite B, and in GROUP-ALL, so that
no policy takes the protection against quantum computers away unless it says so.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Kind(enum.Enum):
    """The list that a word adds to or takes from."""

    VERSION = "version"
    CIPHER = "cipher"
    AEAD = "AEAD"
    """The MAC of all ciphers of TLS 1.3; without it none of them is left."""
    GROUP = "group"
    SIGNATURE = "signature"
    OTHER = "other"
    """Of older versions, or true in any case: without effect."""
    NOT_OFFERED = "not offered"
    """TLS 1.3 or GnuTLS has it, and no plugin here: an error where it is added."""


@dataclass(frozen=True, slots=True)
class Word:
    """The meaning of a word behind ``+``, ``-`` or ``!``: numbers on the wire, in order of preference."""

    kind: Kind
    codes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Keyword:
    """The lists that a keyword stands for, as numbers on the wire, in order of preference."""

    ciphers: tuple[int, ...]
    groups: tuple[int, ...]
    signatures: tuple[int, ...]
    version: bool = True
    """False if the keyword means TLS 1.2 alone, where it is the first word."""


TLS_1_3 = 0x0304

CIPHERS: Mapping[str, int] = {
    "AES-256-GCM": 0x1302,
    "CHACHA20-POLY1305": 0x1303,
    "AES-128-GCM": 0x1301,
    "AES-128-CCM": 0x1304,
}
"""Ciphers, by cipher suite (RFC 8446 appendix B.4)."""

GROUPS: Mapping[str, int] = {
    "X25519-MLKEM768": 0x11EC,
    "SECP256R1-MLKEM768": 0x11EB,
    "SECP384R1-MLKEM1024": 0x11ED,
    "SECP256R1": 0x0017,
    "SECP384R1": 0x0018,
    "SECP521R1": 0x0019,
    "X25519": 0x001D,
    "X448": 0x001E,
    "FFDHE2048": 0x0100,
    "FFDHE3072": 0x0101,
    "FFDHE4096": 0x0102,
}
"""Groups (RFC 8446 section 4.2.7, draft-ietf-tls-ecdhe-mlkem)."""

SIGNATURES: Mapping[str, int] = {
    "ML-DSA-44": 0x0904,
    "ML-DSA-65": 0x0905,
    "ML-DSA-87": 0x0906,
    "RSA-SHA256": 0x0401,
    "RSA-PSS-SHA256": 0x0809,
    "RSA-PSS-RSAE-SHA256": 0x0804,
    "ECDSA-SECP256R1-SHA256": 0x0403,
    "EdDSA-Ed25519": 0x0807,
    "RSA-SHA384": 0x0501,
    "RSA-PSS-SHA384": 0x080A,
    "RSA-PSS-RSAE-SHA384": 0x0805,
    "ECDSA-SECP384R1-SHA384": 0x0503,
    "EdDSA-Ed448": 0x0808,
    "RSA-SHA512": 0x0601,
    "RSA-PSS-SHA512": 0x080B,
    "RSA-PSS-RSAE-SHA512": 0x0806,
    "ECDSA-SECP521R1-SHA512": 0x0603,
}
"""Signature schemes (RFC 8446 section 4.2.3).  RSA-SHA256 and its like sign certificates, and no handshakes."""

CERTIFICATE_ONLY = frozenset((0x0401, 0x0501, 0x0601))

_EC = ("SECP256R1", "SECP384R1", "SECP521R1", "X25519", "X448")
_DH = ("FFDHE2048", "FFDHE3072", "FFDHE4096")


def _groups(*names: str) -> tuple[int, ...]:
    return tuple(GROUPS[name] for name in names)


def _ciphers(*names: str) -> tuple[int, ...]:
    return tuple(CIPHERS[name] for name in names)


def _signatures(*ends: str) -> tuple[int, ...]:
    """Return the schemes whose names end so, without ML-DSA."""
    return tuple(code for name, code in SIGNATURES.items() if name.endswith(ends))


_ALL_CIPHERS, _ALL_GROUPS, _ALL_SIGNATURES = (tuple(table.values()) for table in (CIPHERS, GROUPS, SIGNATURES))
_NORMAL = Keyword(_ALL_CIPHERS, _ALL_GROUPS, _ALL_SIGNATURES)
_SECURE_128 = Keyword(_ALL_CIPHERS, _ALL_GROUPS, _signatures("SHA256", "SHA384", "SHA512", "19", "448"))
_SECURE_192 = Keyword(
    _ciphers("AES-256-GCM", "CHACHA20-POLY1305"),
    _groups("SECP384R1-MLKEM1024", "SECP384R1", "SECP521R1"),
    _signatures("SHA384", "448", "SHA512"),
)

KEYWORDS: Mapping[str, Keyword] = {
    "NORMAL": _NORMAL,
    "PERFORMANCE": Keyword(
        _ciphers("AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305", "AES-128-CCM"), _ALL_GROUPS, _ALL_SIGNATURES
    ),
    "PFS": _NORMAL,
    "LEGACY": _NORMAL,
    "SECURE": _SECURE_128,
    "SECURE128": _SECURE_128,
    "SECURE192": _SECURE_192,
    "SECURE256": _SECURE_192,
    "SUITEB128": Keyword(
        _ciphers("AES-256-GCM", "AES-128-GCM"),
        _groups("SECP256R1", "SECP384R1"),
        _signatures("R1-SHA256", "R1-SHA384"),
        version=False,
    ),
    "SUITEB192": Keyword(_ciphers("AES-256-GCM"), _groups("SECP384R1"), _signatures("R1-SHA384"), version=False),
}
"""The words without a sign in front; ``NONE`` is the empty one."""

INITIAL = Keyword((), _ALL_GROUPS, _ALL_SIGNATURES)
"""The lists at the beginning of a string whose first word is no keyword."""


def _items(kind: Kind, prefix: str, table: Mapping[str, int]) -> dict[str, Word]:
    return {f"{prefix}{name}": Word(kind, (code,)) for name, code in table.items()}


def _words(kind: Kind, text: str, prefix: str = "") -> dict[str, Word]:
    return {f"{prefix}{name}": Word(kind) for name in text.split()}


_OTHER = _words(
    Kind.OTHER,
    # Versions.
    "VERS-SSL3.0 VERS-TLS1.0 VERS-TLS1.1 VERS-TLS1.2 VERS-DTLS-ALL VERS-DTLS0.9 VERS-DTLS1.0 VERS-DTLS1.2 "
    # Ciphers and MACs.
    "AES-256-CBC AES-192-CBC AES-128-CBC AES-192-GCM AES-256-CCM AES-256-CCM-8 ARCFOUR-128 ARCFOUR-40 3DES-CBC DES-CBC "
    "RC2-40 CAMELLIA-256-CBC CAMELLIA-192-CBC CAMELLIA-128-CBC CAMELLIA-128-GCM CAMELLIA-256-GCM ESTREAM-SALSA20-256 "
    "SALSA20-256 SHA1 SHA224 SHA256 SHA384 SHA512 MD5 UMAC-96 UMAC-128 "
    # Key exchanges: TLS 1.3 has the groups, and the request's mode of authentication.
    "KX-ALL RSA ECDHE-RSA ECDHE-ECDSA DHE-RSA DHE-DSS PSK DHE-PSK ECDHE-PSK ANON-DH ANON-ECDH RSA-EXPORT VKO-GOST-12 "
    # Groups and signatures.
    "GROUP-SECP192R1 GROUP-SECP224R1 CURVE-SECP192R1 CURVE-SECP224R1 SIGN-RSA-SHA1 "
    "SIGN-RSA-SHA224 SIGN-RSA-MD5 SIGN-ECDSA-SHA1 SIGN-ECDSA-SHA224 SIGN-ECDSA-SHA256 SIGN-ECDSA-SHA384 "
    "SIGN-ECDSA-SHA512 SIGN-DSA-SHA1 SIGN-DSA-SHA224 SIGN-DSA-SHA256 SIGN-DSA-SHA384 SIGN-DSA-SHA512 "
    # Compression, and the certificates that there are.
    "COMP-ALL COMP-NULL COMP-DEFLATE CTYPE-ALL CTYPE-CLI-ALL CTYPE-SRV-ALL CTYPE-X509 CTYPE-CLI-X509 CTYPE-SRV-X509 "
    "CTYPE-X.509 CTYPE-CLI-X.509 CTYPE-SRV-X.509 CTYPE-OPENPGP",
)
_NOT_OFFERED = _words(
    Kind.NOT_OFFERED,
    "AES-128-CCM-8 GROUP-FFDHE6144 GROUP-FFDHE8192 GROUP-MLKEM768 GROUP-MLKEM1024 "
    "CTYPE-RAWPK CTYPE-CLI-RAWPK CTYPE-SRV-RAWPK "
    # With one of these, GnuTLS does without TLS 1.3.
    "NULL MAC-NULL SRP SRP-RSA SRP-DSS RSA-PSK",
)
_BULK = {
    "VERS-ALL": Word(Kind.VERSION, (TLS_1_3,)),
    "VERS-TLS-ALL": Word(Kind.VERSION, (TLS_1_3,)),
    "VERS-TLS1.3": Word(Kind.VERSION, (TLS_1_3,)),
    "CIPHER-ALL": Word(Kind.CIPHER, _ALL_CIPHERS),
    "MAC-ALL": Word(Kind.AEAD, (1,)),
    "AEAD": Word(Kind.AEAD, (1,)),
    "GROUP-ALL": Word(Kind.GROUP, _ALL_GROUPS),
    "CURVE-ALL": Word(Kind.GROUP, _ALL_GROUPS),
    "GROUP-EC-ALL": Word(Kind.GROUP, _groups(*_EC)),
    "GROUP-DH-ALL": Word(Kind.GROUP, _groups(*_DH)),
    "SIGN-ALL": Word(Kind.SIGNATURE, _ALL_SIGNATURES),
}
SPELLINGS: tuple[str, ...] = (
    *_BULK,
    *CIPHERS,
    *(f"GROUP-{name}" for name in GROUPS),
    *(f"SIGN-{name}" for name in SIGNATURES),
)
"""The words with an effect, as GnuTLS spells them."""

WORDS: Mapping[str, Word] = {
    name.upper(): word
    for name, word in (
        _OTHER
        | _NOT_OFFERED
        | _BULK
        | _items(Kind.CIPHER, "", CIPHERS)
        | _items(Kind.GROUP, "GROUP-", GROUPS)
        | _items(Kind.GROUP, "CURVE-", {name: GROUPS[name] for name in _EC})
        | _items(Kind.SIGNATURE, "SIGN-", SIGNATURES)
    ).items()
}
"""The words behind ``+``, ``-`` or ``!``, in capitals."""

SERVER_PRECEDENCE, NO_TICKETS = "SERVER_PRECEDENCE", "NO_TICKETS"

OPTIONS: Mapping[str, bool] = dict.fromkeys(
    (
        f"{SERVER_PRECEDENCE} {NO_TICKETS} "
        # Of older versions.
        "COMPAT DUMBFW NO_TICKETS_TLS12 NO_ETM FORCE_ETM NO_SESSION_HASH FORCE_SESSION_HASH STATELESS_COMPRESSION "
        "SSL3_RECORD_VERSION LATEST_RECORD_VERSION UNSAFE_RENEGOTIATION SAFE_RENEGOTIATION PARTIAL_RENEGOTIATION "
        "DISABLE_SAFE_RENEGOTIATION FALLBACK_SCSV NEW_PADDING "
        # True in any case: RSA keys have 2048 bits or more, elliptic curves 256.
        "PROFILE_VERY_WEAK PROFILE_LOW PROFILE_LEGACY PROFILE_MEDIUM NO_STATUS_REQUEST NO_SHUFFLE_EXTENSIONS "
        "ALLOW_SMALL_RECORDS"
    ).split(),
    True,
) | dict.fromkeys(
    (
        "NO_EXTENSIONS VERIFY_ALLOW_BROKEN VERIFY_ALLOW_SIGN_RSA_MD5 VERIFY_ALLOW_SIGN_WITH_SHA1 "
        "VERIFY_ALLOW_X509_V1_CA_CRT VERIFY_DISABLE_CRL_CHECKS DEBUG_ALLOW_KEY_USAGE_VIOLATIONS DISABLE_WILDCARDS "
        "PROFILE_HIGH PROFILE_ULTRA PROFILE_FUTURE PROFILE_SUITEB128 PROFILE_SUITEB192 DISABLE_TLS13_COMPAT_MODE"
    ).split(),
    False,
)
"""The words behind ``%``: True if it can be kept."""
