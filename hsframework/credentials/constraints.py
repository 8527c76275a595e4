"""Name constraints (RFC 5280 section 4.2.1.10): the names that an authority may certify.

dNSName, iPAddress, directoryName, rfc822Name and uniformResourceIdentifier are processed.  A constraint of another
type, critical or not, refuses every certificate below it that has a name of that type.  The rules for each type:

* dNSName ``example.com`` contains the name and all names below it, ``.example.com`` only the names below it, an empty
  one all names.  A wildcard name is excluded if one of the names that it matches is excluded.
* iPAddress: a network.  directoryName: the first relative names, compared as RFC 5280 section 7.1 says.
* rfc822Name: ``joe@example.com`` contains this mailbox, ``example.com`` the mailboxes at this host, ``.example.com``
  those at the hosts below it.  The local part is compared with regard to case.
* uniformResourceIdentifier: ``example.com`` contains the URIs at this host, ``.example.com`` those at the hosts below
  it.  A URI without a host name is malformed.

The subject of a certificate counts as a directoryName, its e-mail attributes as rfc822Names.  A malformed name is
refused where its type is constrained.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from hsframework.credentials.certificate import Facts, ParsedCertificate, comparable_name, printable
from hsframework.credentials.names import is_dns_pattern
from hsframework.failures import Failure, HandshakeFailed

MAX_COMPARISONS = 1 << 14
"""Comparisons of names with constraints in one path; a chain that needs more is refused."""

_NameType = type[x509.GeneralName]
_Name = tuple[_NameType, Any]
_Subtrees = dict[_NameType, list[Any]]
"""The subtrees of each type, read; of a type that is not processed, as they are."""


class _Kind(NamedTuple):
    """One type of names.  For each authority a name and a subtree are read once, and what was read is compared."""

    read_name: Callable[[Any], Any]
    """Returns None for a malformed name."""
    read_base: Callable[[Any], Any]
    within: Callable[[Any, Any, bool], bool]
    """Returns True if a name is in a subtree; for an excluded one (True), if any name that it matches is."""


def check_name_constraints(path: Sequence[ParsedCertificate]) -> None:
    """Check each certificate in ``path`` (leaf first, anchor last) against the constraints above it.

    A self-issued certificate is exempt unless it is the leaf (RFC 5280 section 6.1.3).  Raises
    ``HandshakeFailed(UNTRUSTED)`` for a name that an authority may not certify, for constraints of types that are not
    supported, and for too many comparisons.
    """
    bound: list[_Name] = []
    budget = MAX_COMPARISONS
    constrained = max((depth for depth, each in enumerate(path) if each.facts.name_constraints is not None), default=0)
    for depth, authority in enumerate(path[: constrained + 1]):
        constraints = authority.facts.name_constraints
        if depth and constraints is not None:
            permitted, excluded = constraints.permitted_subtrees or [], constraints.excluded_subtrees or []
            budget -= len(bound) * (len(permitted) + len(excluded))
            if budget < 0:
                raise HandshakeFailed(Failure.UNTRUSTED, "too many names and name constraints to compare")
            _check(bound, _by_type(permitted), _by_type(excluded), authority.facts.label)
        if not depth or not authority.self_issued:
            bound += _names_of(authority.facts)


def _names_of(facts: Facts) -> list[_Name]:
    """Return every name to which constraints apply: subjectAltName, subject unless empty, its e-mail addresses."""
    found: list[_Name] = [(type(name), name.value) for name in facts.names]
    if facts.subject.rdns:
        found.append((x509.DirectoryName, facts.subject))
    addresses = facts.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
    return found + [(x509.RFC822Name, str(attribute.value)) for attribute in addresses]


def _by_type(subtrees: Sequence[x509.GeneralName]) -> _Subtrees:
    found: _Subtrees = {}
    for base in subtrees:
        kind = _KINDS.get(type(base))
        found.setdefault(type(base), []).append(base.value if kind is None else kind.read_base(base.value))
    return found


def _check(names: Sequence[_Name], permitted: _Subtrees, excluded: _Subtrees, authority: str) -> None:
    for name_type, value in names:
        inside, outside = permitted.get(name_type, ()), excluded.get(name_type, ())
        if not inside and not outside:
            continue
        kind = _KINDS.get(name_type)
        if kind is None:
            detail = f"{authority} constrains names of type {name_type.__name__}, which is not supported"
            raise HandshakeFailed(Failure.UNTRUSTED, detail)
        name = kind.read_name(value)
        if (
            name is None
            or any(kind.within(name, base, True) for base in outside)
            or (inside and not any(kind.within(name, base, False) for base in inside))
        ):
            shown = printable(value.rfc4514_string() if isinstance(value, x509.Name) else str(value))
            raise HandshakeFailed(Failure.UNTRUSTED, f"{authority} may not certify the name {shown}")


def _host(name: str) -> str:
    return name.lower().removesuffix(".")


def _dns_name(name: str) -> str | None:
    host = _host(name)
    return host if is_dns_pattern(host) else None


def _dns_within(name: str, base: str, excluded: bool) -> bool:
    if not base or name == base:
        return True
    if name.endswith(base if base.startswith(".") else f".{base}"):
        return True
    # *.example.com matches foo.example.com too.
    return excluded and name.startswith("*.") and base.partition(".")[2] == name[2:] and not base.startswith(".")


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address | ipaddress.IPv4Network | ipaddress.IPv6Network


def _address(value: _Address) -> _Address:
    return value.network_address if isinstance(value, (ipaddress.IPv4Network, ipaddress.IPv6Network)) else value


def _address_within(address: Any, base: _Address, excluded: bool) -> bool:
    if isinstance(base, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        return bool(address == base)
    return address in base


def _mailbox(address: str) -> tuple[str, str] | None:
    """Return local part and host."""
    local, _, host = address.rpartition("@")
    if not local or "@" in local or not is_dns_pattern(host) or host.startswith("*"):
        return None
    return local, host.lower()


def _mailbox_base(base: str) -> tuple[str, str] | str:
    """Return local part and host of a mailbox, or a subtree of hosts."""
    local, at, host = base.rpartition("@")
    return (local, host.lower()) if at else _host(base)


def _mailbox_within(address: tuple[str, str], base: tuple[str, str] | str, excluded: bool) -> bool:
    return _host_within(address[1], base, excluded) if isinstance(base, str) else address == base


def _uri_host(uri: str) -> str | None:
    try:
        host = urlsplit(uri).hostname
    except ValueError:
        return None
    if not host or host.replace(".", "").isdigit() or ":" in host:
        return None
    return _host(host)


def _host_within(host: str, base: str, excluded: bool) -> bool:
    """Return True if ``host`` is ``base``, or is below it where ``base`` begins with a dot; an empty one has all."""
    return not base or host == base or (base.startswith(".") and host.endswith(base))


def _directory_within(name: bytes, base: bytes, excluded: bool) -> bool:
    return name.startswith(base)


_KINDS: dict[_NameType, _Kind] = {
    x509.DNSName: _Kind(_dns_name, _host, _dns_within),
    x509.IPAddress: _Kind(_address, lambda network: network, _address_within),
    x509.DirectoryName: _Kind(comparable_name, comparable_name, _directory_within),
    x509.RFC822Name: _Kind(_mailbox, _mailbox_base, _mailbox_within),
    x509.UniformResourceIdentifier: _Kind(_uri_host, _host, _host_within),
}
"""Types of names that are processed."""
