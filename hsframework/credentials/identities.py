"""Identities from files: a certificate chain and the private key that belongs to its leaf.

The chain is a PEM file, leaf first (the others are put in order), or one DER certificate.  The key is PEM or DER, in
PKCS#8 or the traditional RSA and EC forms, not encrypted, in the same file or in its own: RSA, ECDSA, Ed25519,
Ed448 or ML-DSA.  The file with the key must be private to its owner.

Trust and pre-shared keys have modules of their own, and can be imported from here too.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa

from hsframework.credentials.der import (
    RSA_ENCRYPTION,
    RSASSA_PSS,
    certificate_names,
    key_algorithm,
    private_key_info,
)
from hsframework.credentials.files import KEY_LABELS, pem_blocks, read_public, read_secret
from hsframework.credentials.psk import load_psk_file
from hsframework.credentials.trust import certificates_in, load_trust, system_trust
from hsframework.errors import ConfigurationError
from hsframework.interface import Identity, Secret
from hsframework.tls.parsing import PARSE_ERRORS, load_certificate, no_warnings

__all__ = ["identity_from_bytes", "load_identity", "load_psk_file", "load_trust", "system_trust"]

PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)
"""Types of private keys that an identity may have."""


def load_identity(
    certificate: str | os.PathLike[str],
    private_key: str | os.PathLike[str] | None = None,
    *,
    key_groups: Collection[int] = (),
) -> Identity:
    """Load an identity; without ``private_key`` the file has both.  Raises ``ConfigurationError``.

    ``key_groups``: numbers of the groups that may read the file with the key, beside its owner.
    """
    if private_key is None:
        both = read_secret(certificate, key_groups)
        return identity_from_bytes(both, both, names=(os.fspath(certificate),) * 2)
    names = (os.fspath(certificate), os.fspath(private_key))
    return identity_from_bytes(read_public(certificate), read_secret(private_key, key_groups), names=names)


def identity_from_bytes(
    certificate: bytes, private_key: bytes, *, names: tuple[str, str] = ("the certificate", "the private key")
) -> Identity:
    """Make an identity from the contents of files, PEM or DER.

    ``names``: names of certificate and key, for messages.  Raises ``ConfigurationError``.
    """
    chain = certificates_in(certificate, names[0])
    if not chain:
        raise ConfigurationError(f"{names[0]} holds no certificate in PEM or DER form")
    key = _read_key(private_key, names[1])
    if not _belongs(key, chain[0]):
        raise ConfigurationError(
            f"the private key in {names[1]} does not belong to the first certificate in {names[0]}: "
            "name the key that the certificate was requested with, and put its certificate first in the file"
        )
    return Identity(_in_order(chain), Secret(_pkcs8(key, key_algorithm(chain[0]), names[0])))


def _pkcs8(key: PrivateKey, algorithm: bytes, name: str) -> bytes:
    """Return the key as PKCS#8 DER, with the certificate's ``algorithm`` where an RSA key may have one of two."""
    plain = serialization.NoEncryption()
    if not isinstance(key, rsa.RSAPrivateKey) or algorithm == RSA_ENCRYPTION:
        return key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, plain)
    if algorithm != RSASSA_PSS:
        raise ConfigurationError(
            f"{name}: the RSA-PSS key of the certificate is bound to one hash and salt (RFC 4055 section 3.1): "
            "request a certificate for a key without such parameters"
        )
    # cryptography reads both forms, and writes rsaEncryption alone, with which OpenSSL finds another key.
    inner = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    return private_key_info(algorithm, inner)


def _read_key(data: bytes, name: str) -> PrivateKey:
    blocks = [block for block in pem_blocks(data, name) if block.label in KEY_LABELS]
    if len(blocks) > 1:
        raise ConfigurationError(f"{blocks[1].where}: a second private key: leave one in the file")
    if not blocks and data[:1] != b"\x30":
        raise ConfigurationError(f"{name} holds no private key in PEM or DER form")
    der, where = (blocks[0].der, blocks[0].where) if blocks else (data, name)
    encrypted = bool(blocks) and blocks[0].encrypted
    try:
        key = None if encrypted else serialization.load_der_private_key(der, password=None)
    except TypeError:  # the key needs a password
        encrypted, key = True, None
    except PARSE_ERRORS:
        raise ConfigurationError(f"{where}: the private key is damaged, or of a type that is not supported") from None
    if encrypted:
        raise ConfigurationError(
            f"{where}: the private key is encrypted, and nobody is there to type its password: "
            "decrypt it with 'openssl pkey' into a file that only root can read"
        )
    if not isinstance(key, PrivateKey):
        raise ConfigurationError(f"{where}: use an RSA, ECDSA, Ed25519, Ed448 or ML-DSA key")
    return key


def _belongs(key: PrivateKey, leaf: bytes) -> bool:
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        with no_warnings():
            certified = load_certificate(leaf).public_key().public_bytes(*form)
        return certified == key.public_key().public_bytes(*form)
    except PARSE_ERRORS:
        return False


def _in_order(chain: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return the leaf, its issuer, the issuer's issuer and so on, then the rest, which a peer may be able to use."""
    ordered, rest = [chain[0]], list(dict.fromkeys(chain[1:]))
    while True:
        wanted = certificate_names(ordered[-1]).issuer
        following = next((der for der in rest if certificate_names(der).subject == wanted), None)
        if following is None:
            return (*ordered, *rest)
        ordered.append(following)
        rest.remove(following)
