"""Handshake signatures: TLS 1.3 signature schemes and their keys, signing and verification.

RFC 8446 sections 4.2.3 and 4.4.3; ML-DSA as in OpenSSL.  A scheme is known by its number on the wire and fits one kind
of key: an ECDSA scheme one curve, an RSA-PSS scheme one of the two object identifiers that an RSA key may have in its
certificate.  Handshakes are not signed with PKCS#1 v1.5 or SHA-1; certificates may be signed with the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.x509.oid import PublicKeyAlgorithmOID

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Identity, Secret
from hsframework.tls.parsing import PARSE_ERRORS, load_certificate, no_warnings, unreadable

CLIENT_CONTEXT = b"TLS 1.3, client CertificateVerify"
SERVER_CONTEXT = b"TLS 1.3, server CertificateVerify"
"""Context strings of CertificateVerify (RFC 8446 section 4.4.3)."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """A signature scheme (RFC 8446 section 4.2.3)."""

    code: int
    """Number on the wire."""
    name: str
    kind: str
    """Kind of key, as :func:`key_kind` returns it."""
    parameters: Callable[[], tuple[Any, ...]] = tuple
    """Makes the arguments of ``cryptography``'s ``sign`` and ``verify`` that follow the data."""


def _pss(algorithm: type[hashes.HashAlgorithm]) -> Callable[[], tuple[Any, ...]]:
    """Return the parameters of RSA-PSS; the salt is as long as the hash (RFC 8446 section 4.2.3)."""
    return lambda: (padding.PSS(padding.MGF1(algorithm()), padding.PSS.DIGEST_LENGTH), algorithm())


def _ecdsa(algorithm: type[hashes.HashAlgorithm]) -> Callable[[], tuple[Any, ...]]:
    return lambda: (ec.ECDSA(algorithm()),)


_RSA = PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5.dotted_string
_RSA_PSS = PublicKeyAlgorithmOID.RSASSA_PSS.dotted_string
_ED25519 = PublicKeyAlgorithmOID.ED25519.dotted_string
_ED448 = PublicKeyAlgorithmOID.ED448.dotted_string
_ML_DSA = "2.16.840.1.101.3.4.3."

SCHEMES: Mapping[int, Scheme] = {
    scheme.code: scheme
    for scheme in (
        Scheme(0x0403, "ecdsa_secp256r1_sha256", "secp256r1", _ecdsa(hashes.SHA256)),
        Scheme(0x0807, "ed25519", _ED25519),
        Scheme(0x0503, "ecdsa_secp384r1_sha384", "secp384r1", _ecdsa(hashes.SHA384)),
        Scheme(0x0603, "ecdsa_secp521r1_sha512", "secp521r1", _ecdsa(hashes.SHA512)),
        Scheme(0x0808, "ed448", _ED448),
        Scheme(0x0804, "rsa_pss_rsae_sha256", _RSA, _pss(hashes.SHA256)),
        Scheme(0x0805, "rsa_pss_rsae_sha384", _RSA, _pss(hashes.SHA384)),
        Scheme(0x0806, "rsa_pss_rsae_sha512", _RSA, _pss(hashes.SHA512)),
        Scheme(0x0809, "rsa_pss_pss_sha256", _RSA_PSS, _pss(hashes.SHA256)),
        Scheme(0x080A, "rsa_pss_pss_sha384", _RSA_PSS, _pss(hashes.SHA384)),
        Scheme(0x080B, "rsa_pss_pss_sha512", _RSA_PSS, _pss(hashes.SHA512)),
        Scheme(0x0904, "mldsa44", _ML_DSA + "17"),
        Scheme(0x0905, "mldsa65", _ML_DSA + "18"),
        Scheme(0x0906, "mldsa87", _ML_DSA + "19"),
    )
}
"""Schemes for handshake signatures by number, in order of preference."""

CERTIFICATE_ONLY = (0x0401, 0x0501, 0x0601)
"""rsa_pkcs1_sha256, _sha384, _sha512: offered for signatures in certificates only."""


def key_kind(certificate: x509.Certificate) -> str:
    """Return the kind of a certificate's key: the curve's name for an elliptic curve, else its object identifier."""
    algorithm = certificate.public_key_algorithm_oid
    if algorithm == PublicKeyAlgorithmOID.EC_PUBLIC_KEY:
        key = certificate.public_key()
        if isinstance(key, ec.EllipticCurvePublicKey):
            return key.curve.name
    return algorithm.dotted_string


def schemes_for(certificate: x509.Certificate) -> tuple[int, ...]:
    """Return the numbers of the schemes that fit a certificate's key, in order of preference; often none or one."""
    kind = key_kind(certificate)
    return tuple(scheme.code for scheme in SCHEMES.values() if scheme.kind == kind)


def sign(identity: Identity, code: int, content: bytes) -> bytes:
    """Sign ``content`` with the key of ``identity`` and scheme ``code``.

    Raises ``HandshakeFailed(NO_KEY)`` if the key cannot be read, or cannot sign with this scheme.
    """
    try:
        key: Any = _private_key(identity.private_key)
        signature: bytes = key.sign(content, *SCHEMES[code].parameters())
    except (KeyError, AttributeError, *PARSE_ERRORS) as error:
        raise HandshakeFailed(Failure.NO_KEY, f"our private key does not sign ({type(error).__name__})") from None
    return signature


def verify(leaf: bytes, code: int, signature: bytes, content: bytes) -> None:
    """Verify a handshake signature with the key in the certificate ``leaf`` (DER).

    Raises HandshakeFailed: ``BAD_CERTIFICATE`` if the certificate cannot be read, ``ILLEGAL_PARAMETER`` if the scheme
    does not fit its key, ``BAD_SIGNATURE`` if the signature is wrong.
    """
    scheme = SCHEMES.get(code)
    try:
        with no_warnings():
            certificate = load_certificate(leaf)
            kind = key_kind(certificate)
            key: Any = certificate.public_key()
    except PARSE_ERRORS as error:
        raise HandshakeFailed(Failure.BAD_CERTIFICATE, unreadable(error)) from None
    if scheme is None or scheme.kind != kind:
        raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"signature scheme {code:#06x} does not fit the key")
    try:
        key.verify(signature, content, *scheme.parameters())
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        raise HandshakeFailed(Failure.BAD_SIGNATURE, f"{scheme.name}: CertificateVerify does not verify") from None


@lru_cache(maxsize=64)
def _private_key(secret: Secret) -> object:
    # Validating an RSA key costs as much as signing with it, and the dispatcher has validated this one.
    return serialization.load_der_private_key(secret.reveal(), password=None, unsafe_skip_rsa_key_validation=True)
