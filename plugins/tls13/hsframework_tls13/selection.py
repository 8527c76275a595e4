"""Which of a server's identities answers a ClientHello.

The first whose key can make a signature that the client accepts *and* whose certificate has the name that it asks for;
failing that, the first with such a key; failing that the first (OpenSSL then says that there is nothing in common).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import PublicKeyAlgorithmOID

from hsframework.interface import Identity
from hsframework_tls13.client_hello import ClientHello

_SCHEMES = {
    PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5.dotted_string: frozenset((0x0804, 0x0805, 0x0806)),
    PublicKeyAlgorithmOID.RSASSA_PSS.dotted_string: frozenset((0x0809, 0x080A, 0x080B)),
    PublicKeyAlgorithmOID.ED25519.dotted_string: frozenset((0x0807,)),
    PublicKeyAlgorithmOID.ED448.dotted_string: frozenset((0x0808,)),
    "2.16.840.1.101.3.4.3.17": frozenset((0x0904,)),  # ML-DSA-44, -65, -87
    "2.16.840.1.101.3.4.3.18": frozenset((0x0905,)),
    "2.16.840.1.101.3.4.3.19": frozenset((0x0906,)),
}
_CURVE_SCHEMES = {
    "secp256r1": frozenset((0x0403,)),
    "secp384r1": frozenset((0x0503,)),
    "secp521r1": frozenset((0x0603,)),
}


@dataclass(frozen=True, slots=True)
class _Leaf:
    """``schemes``: TLS 1.3 signature schemes of its key (RFC 8446 section 4.2.3); None: not known here."""

    key_type: str
    schemes: frozenset[int] | None
    names: frozenset[str]


def key_type(identity: Identity) -> str:
    """The algorithm of an identity's key, as a dotted object identifier."""
    return _read(identity.chain[0]).key_type


def select_identity(identities: Sequence[Identity], hello: ClientHello) -> Identity:
    """The identity for this client; ``identities`` has at least one.  A certificate that cannot be read: ValueError."""
    offered = frozenset(hello.signature_algorithms)
    fitting = [identity for identity in identities if _fits(identity, offered)]
    named = [identity for identity in fitting if _has_name(identity, hello.server_name)]
    return (named or fitting or list(identities))[0]


def _fits(identity: Identity, offered: frozenset[int]) -> bool:
    schemes = _read(identity.chain[0]).schemes
    return schemes is None or bool(schemes & offered)


def _has_name(identity: Identity, name: str | None) -> bool:
    if name is None:
        return False
    wanted = name.lower().rstrip(".")
    _, _, parent = wanted.partition(".")
    names = _read(identity.chain[0]).names
    return wanted in names or f"*.{parent}" in names


@lru_cache(maxsize=256)
def _read(der: bytes) -> _Leaf:
    certificate = x509.load_der_x509_certificate(der)
    algorithm = certificate.public_key_algorithm_oid.dotted_string
    schemes = _SCHEMES.get(algorithm)
    if schemes is None:
        key = certificate.public_key()
        if isinstance(key, ec.EllipticCurvePublicKey):
            schemes = _CURVE_SCHEMES.get(key.curve.name)
    return _Leaf(algorithm, schemes, _dns_names(certificate))


def _dns_names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    return frozenset(name.lower() for name in names.get_values_for_type(x509.DNSName))
