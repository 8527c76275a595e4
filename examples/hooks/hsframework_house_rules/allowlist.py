"""An allow-list for our servers: of names, authorities, organisational units, or keys.

    required-plugins = ["allowlist"]       # without it nothing is served

    [plugins.allowlist]
    names = ["host-1.example", "192.0.2.7"]        # of the subject alternative name
    authorities = ["storage-ca.pem"]               # that must be above the peer's certificate
    units = ["Storage"]                            # OU of its subject
    psk-identities = ["host-1"]

A certificate must satisfy every list that is not empty, by one of its entries.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

import hsframework
from hsframework.errors import ConfigurationError, HandshakeError
from hsframework.interface import PeerIdentity, Request, Role

hsframework_interface_version = 1


@dataclass(frozen=True)
class Settings:
    """The table ``[plugins.allowlist]``."""

    names: tuple[str, ...] = ()
    authorities: tuple[Path, ...] = ()
    units: tuple[str, ...] = ()
    psk_identities: tuple[str, ...] = ()


class AllowList:
    """The lists, with the contents of their files.  Raises ConfigurationError."""

    def __init__(self, settings: Settings) -> None:
        self._names = frozenset(name.lower() for name in settings.names)
        self._authorities = frozenset(der for path in settings.authorities for der in _certificates_in(path))
        self._units = frozenset(settings.units)
        self._psk_identities = frozenset(identity.encode() for identity in settings.psk_identities)

    def check(self, peer: PeerIdentity) -> None:
        """Refuse a peer that is not on the list.  Raises HandshakeError."""
        if peer.psk_identity is not None:
            if peer.psk_identity not in self._psk_identities:
                raise _refusal("its pre-shared key")
            return
        if not peer.certificates or not (self._names or self._authorities or self._units):
            raise _refusal("it")
        leaf = x509.load_der_x509_certificate(peer.certificates[0])
        if self._names and not self._names & names_of(leaf):
            raise _refusal("none of its names")
        if self._authorities and not self._authorities & set(peer.certificates[1:]):
            raise _refusal("no authority above it")
        if self._units and not self._units & _units_of(leaf):
            raise _refusal("its organisational unit")


def names_of(certificate: x509.Certificate) -> set[str]:
    """Return the DNS names and IP addresses of the subject alternative name."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    found = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
    return found | {str(address) for address in names.get_values_for_type(x509.IPAddress)}


def _units_of(certificate: x509.Certificate) -> set[str]:
    found = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    return {str(attribute.value) for attribute in found}


def _certificates_in(path: Path) -> list[bytes]:
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"plugins.allowlist.authorities: {path}: {error}; name a PEM file") from None
    return [certificate.public_bytes(Encoding.DER) for certificate in found]


def _refusal(what: str) -> HandshakeError:
    return HandshakeError(f"the peer may not connect: {what} is not on the list", errno=errno.EACCES)


allow_list = AllowList(Settings())


@hsframework.hookimpl
def hsframework_settings() -> type[Settings]:
    return Settings


@hsframework.hookimpl
def hsframework_configure(settings: Settings) -> None:
    global allow_list
    allow_list = AllowList(settings)


@hsframework.hookimpl
def hsframework_authorize(request: Request, peer: PeerIdentity) -> None:
    if request.role is Role.SERVER:
        allow_list.check(peer)
