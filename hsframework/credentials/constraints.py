"""Name constraints (RFC 5280 section 4.2.1.10): the names that an authority may certify.

dNSName, iPAddress and directoryName are processed.  A constraint of another type, critical or not, refuses every
certificate below it that has a name of that type.  The rules for each type:

* dNSName ``example.com`` contains the name and all names below it, ``.example.com`` only the names below it, an empty
  one all names.  A wildcard name is excluded if one of the names that it matches is excluded.
* iPAddress: a network.  directoryName: the first relative names, compared without regard to case, string type and
  runs of blanks.  The subject of a certificate counts as a directoryName, its e-mail attributes as rfc822Names.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.x509.oid import NameOID

from hsframework.credentials.certificate import Facts, ParsedCertificate, printable
from hsframework.failures import Failure, HandshakeFailed

MAX_COMPARISONS = 1 << 15
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
    # Only the type of an e-mail address matters: a constraint on addresses refuses all of them.
    names.extend(x509.RFC822Name("subject") for _ in facts.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS))
    return names


def _subtrees(constraints: x509.NameConstraints) -> tuple[list[x509.GeneralName], list[x509.GeneralName]]:
    """Return the permitted and the excluded subtrees."""
    return constraints.permitted_subtrees or [], constraints.excluded_subtrees or []


def _check(names: list[x509.GeneralName], constraints: x509.NameConstraints, authority: str) -> None:
    permitted, excluded = _subtrees(constraints)
    for name in names:
        of_type = [base for base in permitted if type(base) is type(name)]
        out = [base for base in excluded if type(base) is type(name)]
        if (of_type or out) and not isinstance(name, (x509.DNSName, x509.IPAddress, x509.DirectoryName)):
            detail = f"{authority} constrains names of type {type(name).__name__}, which is not supported"
            raise HandshakeFailed(Failure.UNTRUSTED, detail)
        if any(_within(name, base, widest=True) for base in out) or (
            of_type and not any(_within(name, base, widest=False) for base in of_type)
        ):
            shown = printable(name.value.rfc4514_string() if isinstance(name, x509.DirectoryName) else str(name.value))
            raise HandshakeFailed(Failure.UNTRUSTED, f"{authority} may not certify the name {shown}")


def _within(name: x509.GeneralName, base: x509.GeneralName, *, widest: bool) -> bool:
    """Return True if ``name`` is in the subtree ``base``; with ``widest``, if any name that it matches is."""
    if isinstance(name, x509.DNSName) and isinstance(base, x509.DNSName):
        return _dns_within(name.value.lower().removesuffix("."), base.value.lower().removesuffix("."), widest=widest)
    if isinstance(name, x509.IPAddress) and isinstance(base, x509.IPAddress):
        return _address_within(name, base)
    if isinstance(name, x509.DirectoryName) and isinstance(base, x509.DirectoryName):
        prefix = _relative_names(base.value)
        return _relative_names(name.value)[: len(prefix)] == prefix
    return False


def _dns_within(name: str, base: str, *, widest: bool) -> bool:
    if not base or name == base:
        return True
    if name.endswith(base if base.startswith(".") else f".{base}"):
        return True
    # *.example.com matches foo.example.com too.
    return widest and name.startswith("*.") and base.partition(".")[2] == name[2:] and not base.startswith(".")


def _address_within(name: x509.IPAddress, base: x509.IPAddress) -> bool:
    network, address = base.value, name.value
    if isinstance(address, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
        address = address.network_address
    if isinstance(network, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        return address == network
    return address in network


def _relative_names(name: x509.Name) -> _RelativeNames:
    return [frozenset((a.oid.dotted_string, _normal(a.value)) for a in relative) for relative in name.rdns]


def _normal(value: str | bytes) -> str | bytes:
    return value if isinstance(value, bytes) else " ".join(value.split()).casefold()
