"""Selection of the identity that is presented to a peer.

It is the first whose key can make a signature that the peer accepts *and* whose certificate has the name that the peer
asks for (SNI); if there is none, the first with such a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509

from hsframework.caches import SizedCache
from hsframework.interface import Identity
from hsframework.tls.parsing import PARSE_ERRORS, load_certificate, no_warnings
from hsframework.tls.signatures import schemes_for


@dataclass(frozen=True, slots=True)
class _Leaf:
    key_type: str
    schemes: tuple[int, ...]
    names: frozenset[str]


def key_type(identity: Identity) -> str:
    """Return the algorithm of an identity's key, as a dotted object identifier.

    Raises ValueError for a certificate that cannot be read.
    """
    return _read(identity.chain[0]).key_type


def read_chain(identity: Identity) -> tuple[x509.Certificate, ...]:
    """Return an identity's certificates, read without a warning, the leaf first.

    Raises ValueError for one that cannot be read.
    """
    try:
        return tuple(map(load_certificate, identity.chain))
    except PARSE_ERRORS as error:
        raise ValueError(f"a certificate cannot be read ({type(error).__name__})") from error


def scheme_for(identity: Identity, offered: Iterable[int]) -> int | None:
    """Return the signature scheme (RFC 8446 section 4.2.3) with which the identity signs for a peer, or None.

    ``offered``: the schemes that the peer accepts.  Raises ValueError for a certificate that cannot be read.
    """
    taken = frozenset(offered)
    return next((scheme for scheme in _read(identity.chain[0]).schemes if scheme in taken), None)


def select_identity(identities: Sequence[Identity], offered: Iterable[int], name: str | None) -> Identity | None:
    """Return the identity for a peer that accepts the ``offered`` signature schemes and asks for ``name``, or None.

    Raises ValueError for a certificate that cannot be read.
    """
    taken = frozenset(offered)
    fitting = [identity for identity in identities if scheme_for(identity, taken) is not None]
    named = [identity for identity in fitting if _has_name(identity, name)]
    return next(iter(named or fitting), None)


def _has_name(identity: Identity, name: str | None) -> bool:
    if name is None:
        return False
    wanted = name.lower().rstrip(".")
    _, _, parent = wanted.partition(".")
    names = _read(identity.chain[0]).names
    return wanted in names or f"*.{parent}" in names


_leaves: SizedCache[bytes, _Leaf] = SizedCache("own certificates", share=1 / 32)


def _read(der: bytes) -> _Leaf:
    found = _leaves.get(der)
    if found is None:
        try:
            with no_warnings():
                certificate = load_certificate(der)
                algorithm = certificate.public_key_algorithm_oid.dotted_string
                found = _Leaf(algorithm, schemes_for(certificate), _dns_names(certificate))
        except PARSE_ERRORS as error:
            raise ValueError(f"the certificate cannot be read ({type(error).__name__})") from error
        _leaves.put(der, found, 2 * len(der))
    return found


def _dns_names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *PARSE_ERRORS):
        return frozenset()
    return frozenset(name.lower() for name in names.get_values_for_type(x509.DNSName))
