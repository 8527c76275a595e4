"""Comparison of a peer's name with the names in its certificate (RFC 9525), without any look-up.

The rules:

* A reference that is an IP literal is compared with iPAddress entries only; anything else is a DNS name and is
  compared with dNSName entries only.  The subject's common name is never used.
* DNS names are compared without regard to case; one trailing dot of the reference is dropped.  Internationalised names
  are compared as A-labels (``xn--``), to which a reference with other letters is converted (RFC 5891, UTS #46).
* ``*`` matches exactly one whole left-most label, in a pattern of three labels or more, but no A-label.  A pattern that
  would be an IP address with a number for ``*`` matches no name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from cryptography import x509
from service_identity.exceptions import CertificateError
from service_identity.hazmat import DNS_ID, DNSPattern

from hsframework.credentials.certificate import printable
from hsframework.failures import Failure, HandshakeFailed
from hsframework.tls.host_names import ascii_name

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_NAMES_SHOWN = 8
"""Names of a certificate that a message lists."""
_MAX_DNS_NAME = 253
_DNS_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*", re.ASCII)
_DNS_PATTERN = re.compile(r"(\*|[A-Za-z0-9_-]{1,63})(\.[A-Za-z0-9_-]{1,63})*", re.ASCII)


def check_peer_name(names: Sequence[x509.GeneralName], peer_name: str) -> None:
    """Check that one of a certificate's subjectAltName entries is ``peer_name``, a DNS name or an IP literal.

    Raises ``HandshakeFailed(WRONG_NAME)``, which lists the names in the certificate.
    """
    address = parse_ip_literal(peer_name)
    matches = _has_dns_name(names, peer_name) if address is None else _has_address(names, address)
    if not matches:
        raise HandshakeFailed(
            Failure.WRONG_NAME, f"expected {printable(peer_name)!r}, the certificate has {describe_names(names)}"
        )


def parse_ip_literal(name: str) -> IPAddress | None:
    """Return the address of an IP literal, or None for any other name.

    Literals: ``192.0.2.1``, ``2001:db8::1``, ``[2001:db8::1]``, ``fe80::1%eth0`` (the zone is dropped).
    """
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    try:
        return ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        return None


def is_dns_pattern(name: str) -> bool:
    """Return True for labels of letters, digits, ``-`` and ``_`` in 253 characters, the first of which may be ``*``."""
    return len(name) <= _MAX_DNS_NAME and _DNS_PATTERN.fullmatch(name) is not None


def describe_names(names: Sequence[x509.GeneralName]) -> str:
    """List the DNS names and addresses in ``names`` for a message: of bounded length, without control characters."""
    known = [name for name in names if isinstance(name, (x509.DNSName, x509.IPAddress))]
    if not known:
        return "no DNS name and no IP address"
    rest = len(known) - MAX_NAMES_SHOWN
    shown = [printable(str(name.value), 64) for name in known[:MAX_NAMES_SHOWN]]
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def _has_address(names: Sequence[x509.GeneralName], address: IPAddress) -> bool:
    return any(isinstance(name, x509.IPAddress) and name.value == address for name in names)


def _has_dns_name(names: Sequence[x509.GeneralName], peer_name: str) -> bool:
    reference = ascii_name(peer_name).removesuffix(".")
    if len(reference) > _MAX_DNS_NAME or not _DNS_NAME.fullmatch(reference):
        return False
    try:
        wanted = DNS_ID(reference)
    except ValueError:  # all digits: neither a host name nor an address
        return False
    return any(isinstance(name, x509.DNSName) and _matches(wanted, name.value) for name in names)


def _matches(wanted: DNS_ID, presented: str) -> bool:
    if not _DNS_PATTERN.fullmatch(presented):
        return False
    try:
        return wanted.verify(DNSPattern.from_bytes(presented.encode("ascii")))
    except CertificateError:  # too few labels for a wildcard, or an address written as a DNS name
        return False
