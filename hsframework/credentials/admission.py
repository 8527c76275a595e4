"""Admission lists: the peers that a profile admits, of those that have proved their identity.

A list has entries ``kind:pattern``.  A peer is admitted if one entry matches what it has proved: its own certificate,
an authority of the accepted path (``issuer-sha256``), or the identity of its pre-shared key.  The rules:

* A peer that has shown nothing, and one whose certificate has nothing of the kind, matches no entry.
* Names are those of the subjectAltName extension.  A wildcard in a certificate is a text, and stands for no host.
* The attributes of ``subject`` and ``issuer`` must all be there, whatever their order; case and blanks do not count.
* An empty list admits nobody.

Nothing here verifies a certificate: the judge has, before.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from cryptography import x509

from hsframework.credentials.certificate import ParsedCertificate, printable
from hsframework.credentials.distinguished import normal_text
from hsframework.credentials.patterns import Patterns, check_pattern
from hsframework.errors import ConfigurationError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import PeerIdentity
from hsframework.tls.host_names import ascii_name

Attributes = frozenset[tuple[str, str]]
"""Attributes of a name: dotted object identifier and normalised value."""

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_AFTER_COMMA = re.compile(r"(?<!\\),[ \t]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class AdmissionList:
    """An admission list, parsed.  Raises ConfigurationError for an entry that cannot be understood."""

    def __init__(self, entries: Iterable[str]) -> None:
        found: dict[str, list[str]] = {kind: [] for kind in KINDS}
        for entry in entries:
            kind, colon, pattern = entry.partition(":")
            if not colon or kind not in KINDS:
                raise ConfigurationError(f"{entry!r}: write KIND:PATTERN, the kind being one of {', '.join(KINDS)}")
            if not pattern.strip() or _CONTROL.search(pattern):
                raise ConfigurationError(f"{entry!r}: a pattern follows the colon, without control characters")
            try:
                found[kind].append(_NORMAL[kind](pattern.strip()))
            except ValueError:
                raise ConfigurationError(f"{entry!r}: {KINDS[kind]}") from None
        self._patterns = {kind: Patterns(found[kind], separator) for kind, separator in _SEPARATORS.items()}
        self._networks = [ipaddress.ip_network(text) for text in found["ip"]]
        self._names = {
            kind: [(_attributes(x509.Name.from_rfc4514_string(text)), text) for text in found[kind]]
            for kind in ("subject", "issuer")
        }
        self._fingerprints = {kind: frozenset(found[kind]) for kind in ("sha256", "issuer-sha256")}

    def entry_for(self, peer: PeerIdentity) -> str | None:
        """Return an entry that admits the peer, or None.  Raises HandshakeFailed(BAD_CERTIFICATE)."""
        if peer.psk_identity is not None:
            found = self._matching("psk", peer.psk_identity.decode("utf-8", "surrogateescape"))
            if found is not None:
                return found
        return self._entry_for_certificates(peer.certificates) if peer.certificates else None

    def _entry_for_certificates(self, path: Sequence[bytes]) -> str | None:
        for kind, given in (("sha256", path[:1]), ("issuer-sha256", path[1:])):
            for der in given:
                digest = hashlib.sha256(der).hexdigest()
                if digest in self._fingerprints[kind]:
                    return f"{kind}:{digest}"
        leaf = _parsed(path[0]).facts
        for name in leaf.names:
            found = self._entry_for_name(name)
            if found is not None:
                return found
        for kind, held in (("subject", leaf.subject), ("issuer", leaf.certificate.issuer)):
            has = _attributes(held) if self._names[kind] else frozenset()
            for wanted, text in self._names[kind]:
                if wanted <= has:
                    return f"{kind}:{text}"
        return None

    def _entry_for_name(self, name: x509.GeneralName) -> str | None:
        match name:
            case x509.DNSName():
                return self._matching("dns", _dns(name.value))
            case x509.UniformResourceIdentifier():
                return self._matching("uri", name.value)
            case x509.RFC822Name():
                return self._matching("email", _email(name.value))
            case x509.IPAddress():
                networks = (n for n in self._networks if n.version == name.value.version and name.value in n)
                return next((f"ip:{network}" for network in networks), None)
        return None

    def _matching(self, kind: str, value: str) -> str | None:
        found = self._patterns[kind].match(value)
        return None if found is None else f"{kind}:{found}"


def check_admitted(admit: tuple[str, ...] | None, peer: PeerIdentity) -> None:
    """Check that an admission list admits a peer; None: there is no list, and everybody is admitted.

    Raises ``HandshakeFailed``: NOT_AUTHORIZED; BAD_CERTIFICATE for a certificate that cannot be read; INTERNAL for a
    list that cannot be.
    """
    if admit is None:
        return
    try:
        entry = admission_list(admit).entry_for(peer)
    except ConfigurationError as error:
        raise HandshakeFailed(Failure.INTERNAL, f"the admission list cannot be read: {error}") from None
    if entry is None:
        raise HandshakeFailed(Failure.NOT_AUTHORIZED, f"no entry of the admission list is for {_shown(peer)}")


admission_list = lru_cache(maxsize=64)(AdmissionList)


def _shown(peer: PeerIdentity) -> str:
    if peer.certificates:
        return _parsed(peer.certificates[0]).facts.label
    if peer.psk_identity is not None:
        return f"the pre-shared key {printable(peer.psk_identity.decode('utf-8', 'backslashreplace'))}"
    return "a peer that has shown no certificate"


def _parsed(der: bytes) -> ParsedCertificate:
    try:
        return ParsedCertificate(der)
    except ValueError as error:
        raise HandshakeFailed(Failure.BAD_CERTIFICATE, str(error)) from None


def _attributes(name: x509.Name) -> Attributes:
    values = ((item.oid.dotted_string, item.value) for item in name)
    return frozenset((oid, normal_text(value)) for oid, value in values if isinstance(value, str))


def _pattern(text: str) -> str:
    check_pattern(text)
    return text


def _dns(text: str) -> str:
    return ascii_name(text).lower().removesuffix(".")


def _email(text: str) -> str:
    local, at, host = text.rpartition("@")
    return f"{local}{at}{host.lower()}"


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text))


def _uri(text: str) -> str:
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text):
        raise ValueError
    return _pattern(text)


def _name(text: str) -> str:
    joined = _AFTER_COMMA.sub(",", text)
    if not list(x509.Name.from_rfc4514_string(joined)):
        raise ValueError
    return joined


def _fingerprint(text: str) -> str:
    plain = text.replace(":", "").lower()
    if not _FINGERPRINT.fullmatch(plain):
        raise ValueError
    return plain


KINDS = {
    "dns": "write a host name, in which * stands for one label",
    "ip": "write an address or a network whose host bits are 0, such as 192.0.2.0/24",
    "uri": "write a whole URI, such as spiffe://fleet.example/storage/*",
    "email": "write an address, such as *@example.org",
    "subject": "write attributes as RFC 4514 has them, such as O=Example,OU=Storage",
    "issuer": "write attributes as RFC 4514 has them, such as CN=Issuing CA,O=Example",
    "sha256": "write the SHA-256 of the peer's certificate, 64 hexadecimal digits",
    "issuer-sha256": "write the SHA-256 of an authority's certificate, 64 hexadecimal digits",
    "psk": "write the identity of a pre-shared key",
}
"""Kinds of entries, and advice for one that cannot be understood."""
_SEPARATORS = {"dns": ".", "uri": "/", "email": "@", "psk": ":"}
_NORMAL: dict[str, Callable[[str], str]] = {
    "dns": lambda text: _dns(_pattern(text)),
    "ip": _network,
    "uri": _uri,
    "email": lambda text: _email(_pattern(text)),
    "subject": _name,
    "issuer": _name,
    "sha256": _fingerprint,
    "issuer-sha256": _fingerprint,
    "psk": _pattern,
}
