"""Facts about a session, under the names that Python's ssl has for them.

Sources: the documentation of ``ssl.SSLSocket``; RFC 8446 section 7.5 (exporters); RFC 9266 (``tls-exporter``).
"""

from __future__ import annotations

import errno
import hashlib
import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hsframework.client import BaseSession
from hsframework.errors import StreamError
from hsframework.interface import Role, Secret

if TYPE_CHECKING:
    from cryptography import x509

_OIDS = {
    "2.5.4.3": "commonName", "2.5.4.4": "surname", "2.5.4.5": "serialNumber", "2.5.4.6": "countryName",
    "2.5.4.7": "localityName", "2.5.4.8": "stateOrProvinceName", "2.5.4.9": "streetAddress",
    "2.5.4.10": "organizationName", "2.5.4.11": "organizationalUnitName", "2.5.4.12": "title",
    "2.5.4.42": "givenName", "0.9.2342.19200300.100.1.25": "domainComponent",
    "0.9.2342.19200300.100.1.1": "userId", "1.2.840.113549.1.9.1": "emailAddress",
}  # fmt: skip
_TLS = {"tls13", "quic", "psp"}


class SessionFacts:
    """Facts about a session, as methods with the names of ``ssl.SSLObject``.

    ``server_hostname``: the name that a client asked for.
    """

    def __init__(self, session: BaseSession, server_hostname: str | None = None) -> None:
        self.session = session
        self.server_hostname = server_hostname

    @property
    def server_side(self) -> bool:
        """True if our side is the server."""
        return self.session.role is Role.SERVER

    def version(self) -> str:
        """Return ``"TLSv1.3"``, or the name of a protocol that is not built on it."""
        return "TLSv1.3" if self.session.protocol in _TLS else self.session.protocol

    def cipher(self) -> tuple[str, str, int] | None:
        """Return name, version and key bits of the cipher; None: the session does not say."""
        name = self.session.tags.get("cipher")
        return None if name is None else (name, self.version(), 128 if "128" in name else 256)

    def selected_alpn_protocol(self) -> str | None:
        """Return the application protocol that both sides agreed on; None: none."""
        return self.session.alpn

    def getpeercert(self, binary_form: bool = False) -> dict[str, Any] | bytes | None:
        """Return the peer's certificate: its DER, or its fields as ``ssl`` names them; None: it has shown none."""
        chain = self.session.peer.certificates
        if not chain:
            return None
        return chain[0] if binary_form else certificate_fields(chain[0])

    def get_channel_binding(self, cb_type: str = "tls-exporter") -> bytes:
        """Return channel binding data (RFC 9266), 32 bytes.

        Raises ValueError for another type: TLS 1.3 has no ``tls-unique``.
        """
        if cb_type != "tls-exporter":
            raise ValueError(f"{cb_type!r} channel binding is not defined for this session: use 'tls-exporter'")
        return self.export_keying_material("EXPORTER-Channel-Binding", 32)

    def export_keying_material(self, label: str, size: int, context: bytes = b"") -> bytes:
        """Return ``size`` bytes that only the two sides of the session can compute.

        Raises StreamError (EOPNOTSUPP) for a session without an exporter.
        """
        secret = self.session.parameters.get("exporter-secret")
        if not isinstance(secret, Secret):
            raise StreamError(f"a session of {self.session.protocol!r} has no exporter", errno=errno.EOPNOTSUPP)
        name = "sha384" if len(secret) == 48 else "sha256"
        empty = hashlib.new(name)
        derived = _expand(name, secret.reveal(), label.encode(), empty.digest(), empty.digest_size)
        return _expand(name, derived, b"exporter", hashlib.new(name, context).digest(), size)


def certificate_fields(der: bytes) -> dict[str, Any]:
    """Return the fields of a certificate, as ``ssl.SSLSocket.getpeercert`` names them."""
    from hsframework.tls.parsing import load_certificate, no_warnings

    with no_warnings():
        return _fields(load_certificate(der))


def _fields(certificate: x509.Certificate) -> dict[str, Any]:
    from cryptography import x509

    fields: dict[str, Any] = {
        "subject": _name(certificate.subject),
        "issuer": _name(certificate.issuer),
        "version": certificate.version.value + 1,
        "serialNumber": _even_hex(certificate.serial_number),
        "notBefore": certificate.not_valid_before_utc.strftime("%b %e %H:%M:%S %Y GMT"),
        "notAfter": certificate.not_valid_after_utc.strftime("%b %e %H:%M:%S %Y GMT"),
    }
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return fields
    fields["subjectAltName"] = tuple(item for name in names if (item := _alternative(name)) is not None)
    return fields


def _name(name: Any) -> tuple[tuple[tuple[str, str], ...], ...]:
    return tuple(
        tuple((_OIDS.get(item.oid.dotted_string, item.oid.dotted_string), str(item.value)) for item in rdn)
        for rdn in name.rdns
    )


def _even_hex(number: int) -> str:
    text = f"{number:X}"
    return text if len(text) % 2 == 0 else f"0{text}"


def _alternative(name: Any) -> tuple[str, Any] | None:
    from cryptography import x509

    kinds: Mapping[Any, str] = {
        x509.DNSName: "DNS",
        x509.RFC822Name: "email",
        x509.UniformResourceIdentifier: "URI",
        x509.IPAddress: "IP Address",
    }
    kind = kinds.get(type(name))
    return None if kind is None else (kind, str(name.value))


def _expand(name: str, secret: bytes, label: bytes, context: bytes, size: int) -> bytes:
    """Compute HKDF-Expand-Label (RFC 8446 section 7.1, RFC 5869)."""
    full = b"tls13 " + label
    info = size.to_bytes(2, "big") + bytes((len(full),)) + full + bytes((len(context),)) + context
    output, block = b"", b""
    while len(output) < size:
        block = hmac.digest(secret, block + info + bytes((len(output) // hashlib.new(name).digest_size + 1,)), name)
        output += block
    return output[:size]
