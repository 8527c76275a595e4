"""Signatures of certificates and revocation lists."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from hsframework.credentials.certificate import StrongKey
from hsframework.tls.parsing import PARSE_ERRORS


def signature_verifies(
    key: CertificatePublicKeyTypes,
    signed: x509.Certificate | x509.CertificateRevocationList,
    content: bytes | memoryview,
) -> bool:
    """Return True if ``key`` made the signature of ``signed``, whose signed part is ``content``."""
    try:
        parameters, signature = signed.signature_algorithm_parameters, signed.signature
        if isinstance(key, rsa.RSAPublicKey) and isinstance(parameters, padding.AsymmetricPadding):
            assert signed.signature_hash_algorithm is not None
            # Typed for bytes, and takes any buffer, as the others do.
            key.verify(signature, content, parameters, signed.signature_hash_algorithm)  # type: ignore[arg-type]
        elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(parameters, ec.EllipticCurveSignatureAlgorithm):
            key.verify(signature, content, parameters)
        elif isinstance(key, StrongKey):
            key.verify(signature, content)
        else:
            return False
    except (InvalidSignature, *PARSE_ERRORS):
        return False
    return True
