"""Name constraints (RFC 5280 section 4.2.1.10): the names that an authority may certify.

dNSName, iPAddress, directoryName, rfc822Name and uniformResourceIdentifier are processed.  A constraint of another
type, critical or not, refuses every certificate below it that has a name of that type.  The rules for each type:

* dNSName ``example.com`` contains the name and all names below it, ``.example.com`` only the names below it, an empty
  one all names.  A wildcard name is excluded if one of the names that it matches is excluded.
* iPAddress: a network.  directoryName: the first relative names, compared as RFC 5280 section 7.1 says.
* rfc822Name: ``joe@example.com`` contains this mailbox, ``example.com`` the mailboxes at this host, ``.example.com``
  those at the hosts below it.  The local part is compared with regard to case.
* uniformResourceIdentifier: ``example.com`` contains the URIs at this host, ``.example.com`` those at the hosts below
  it.  A URI without a host name is in no permitted and in every excluded subtree.

The subject of a certificate counts as a directoryName, its e-mail attributes as rfc822Names.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from hsframework.credentials.certificate import Facts, ParsedCertificate, printable
from hsframework.credentials.distinguished import normal_text
from hsframework.credentials.names import is_dns_pattern
from hsframework.failures import Failure, HandshakeFailed

MAX_COMPARISONS = 1 << 14
"""Comparisons of names with constraints in one path; a chain that needs more is refused."""

_RelativeNames = list[frozenset[tuple[str, str | bytes]]]


def check_name_constraints(path: Sequence[ParsedCertificate]) -> None:
    """Check each certificate in ``path`` (leaf first, anchor last) against the constraints above it.

    A self-issued certificate is exempt unless it is the leaf (RFC 5280 section 6.1.3).  Raises
    ``HandshakeFailed(UNTRUSTED)`` for a name that an authority may not certify, for constraints of types that are not
    supported, and for too many comparisons.
    """
    budget = MAX_COMPARISONS
    for depth in range(1, len(path)):
        constraints = path[depth].facts.name_constraints
        if constraints is None:
            continue
        for below, certificate in enumerate(path[:depth]):
            if below and certificate.self_issued:
                continue
            names = names_of(certificate.facts)
            budget -= len(names) * sum(map(len, _subtrees(constraints)))
            if budget < 0:
                raise HandshakeFailed(Failure.UNTRUSTED, "too many names and name constraints to compare")
            _check(names, constraints, path[depth].facts.label)


def names_of(facts: Facts) -> list[x509.GeneralName]:
    """Return every name to which constraints apply: subjectAltName, subject unless empty, its e-mail addresses."""
    names: list[x509.GeneralName] = list(facts.names)
    if facts.subject.rdns:
        names.append(x509.DirectoryName(facts.subject))
    for attribute in facts.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
        try:
            names.append(x509.RFC822Name(str(attribute.value)))
        except ValueError:
            names.append(x509.RegisteredID(attribute.oid))  # not an address: no constraint can permit it
    return names


def _subtrees(constraints: x509.NameConstraints) -> tuple[list[x509.GeneralName], list[x509.GeneralName]]:
    """Return the permitted and the excluded subtrees."""
    return constraints.permitted_subtrees or [], constraints.excluded_subtrees or []


def _check(names: list[x509.GeneralName], constraints: x509.NameConstraints, authority: str) -> None:
    permitted, excluded = _subtrees(constraints)
    for name in names:
        of_type = [base for base in permitted if type(base) is type(name)]
        out = [base for base in excluded if type(base) is type(name)]
        if not of_type and not out:
            continue
        within = _WITHIN.get(type(name))
        if within is None:
            detail = f"{authority} constrains names of type {type(name).__name__}, which is not supported"
            raise HandshakeFailed(Failure.UNTRUSTED, detail)
        value = name.value
        if any(within(value, base.value, True) for base in out) or (
            of_type and not any(within(value, base.value, False) for base in of_type)
        ):
            shown = printable(value.rfc4514_string() if isinstance(value, x509.Name) else str(value))
            raise HandshakeFailed(Failure.UNTRUSTED, f"{authority} may not certify the name {shown}")


def _dns_within(name: str, base: str, excluded: bool) -> bool:
    """Return True if ``name`` is in the subtree ``base``; for an excluded one, if any name that it matches is.

    A malformed name is in no permitted and in every excluded subtree.
    """
    name, base = name.lower().removesuffix("."), base.lower().removesuffix(".")
    if not is_dns_pattern(name):
        return excluded
    if not base or name == base:
        return True
    if name.endswith(base if base.startswith(".") else f".{base}"):
        return True
    # *.example.com matches foo.example.com too.
    return excluded and name.startswith("*.") and base.partition(".")[2] == name[2:] and not base.startswith(".")


def _address_within(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address | ipaddress.IPv4Network | ipaddress.IPv6Network,
    network: ipaddress.IPv4Address | ipaddress.IPv6Address | ipaddress.IPv4Network | ipaddress.IPv6Network,
    excluded: bool,
) -> bool:
    if isinstance(address, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
        address = address.network_address
    if isinstance(network, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        return address == network
    return address in network


def _mailbox_within(address: str, base: str, excluded: bool) -> bool:
    local, _, host = address.rpartition("@")
    if not local or "@" in local or not is_dns_pattern(host) or host.startswith("*"):
        return excluded
    if "@" in base:
        base_local, _, base_host = base.rpartition("@")
        return local == base_local and host.lower() == base_host.lower()
    return _host_within(host, base)


def _uri_within(uri: str, base: str, excluded: bool) -> bool:
    try:
        host = urlsplit(uri).hostname
    except ValueError:
        host = None
    if not host or host.replace(".", "").isdigit() or ":" in host:
        return excluded
    return _host_within(host, base)


def _host_within(host: str, base: str) -> bool:
    """Return True if ``host`` is ``base``, or is below it where ``base`` begins with a dot; an empty one has all."""
    host, base = host.lower().removesuffix("."), base.lower().removesuffix(".")
    return not base or host == base or (base.startswith(".") and host.endswith(base))


def _directory_within(name: x509.Name, base: x509.Name, excluded: bool) -> bool:
    prefix = _relative_names(base)
    return _relative_names(name)[: len(prefix)] == prefix


_WITHIN: dict[type[x509.GeneralName], Callable[..., bool]] = {
    x509.DNSName: _dns_within,
    x509.IPAddress: _address_within,
    x509.RFC822Name: _mailbox_within,
    x509.UniformResourceIdentifier: _uri_within,
    x509.DirectoryName: _directory_within,
}
"""Functions that return True if a name is in a subtree, by type: of the name, the base, and whether it is excluded."""


def _relative_names(name: x509.Name) -> _RelativeNames:
    return [frozenset((a.oid.dotted_string, _normal(a.value)) for a in relative) for relative in name.rdns]


def _normal(value: str | bytes) -> str | bytes:
    return value if isinstance(value, bytes) else normal_text(value)
