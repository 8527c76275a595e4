"""Name constraints of authorities."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from hsframework.credentials import constraints as constraints_module
from hsframework.credentials.chain import Purpose, verify_chain
from hsframework.failures import Failure, HandshakeFailed
from hsframework.testing.certificates import Authority


def directory(**attributes: str) -> x509.Name:
    oids = {"o": NameOID.ORGANIZATION_NAME, "cn": NameOID.COMMON_NAME, "email": NameOID.EMAIL_ADDRESS}
    return x509.Name([x509.NameAttribute(oids[key], value) for key, value in attributes.items()])


def dns(*bases: str) -> list[x509.GeneralName]:
    return [x509.DNSName(base) for base in bases]


def net(*bases: str) -> list[x509.GeneralName]:
    return [x509.IPAddress(ipaddress.ip_network(base)) for base in bases]


ROOT = Authority("Constraints Root")


def allowed(
    names: list[str],
    permitted: list[x509.GeneralName] | None = None,
    excluded: list[x509.GeneralName] | None = None,
    *,
    critical: bool = True,
    **options: Any,
) -> bool:
    """True if a leaf with ``names`` is accepted below an intermediate with these constraints."""
    extension = x509.NameConstraints(permitted, excluded)
    issuing = ROOT.intermediate("Constrained", extensions=[(extension, critical)])
    options.setdefault("subject", x509.Name([]))
    leaf = issuing.issue(names, **options)
    try:
        verify_chain(leaf.chain, ROOT.trust(), purpose=Purpose.SERVER_AUTH, peer_name=None, now=datetime.now(UTC))
    except HandshakeFailed as error:
        failed = error
    else:
        return True
    assert failed.failure is Failure.UNTRUSTED, str(failed)
    assert "CN=Constrained" in failed.detail
    return False


@pytest.mark.parametrize("critical", [True, False])
def test_dns(critical: bool) -> None:
    """A permitted name holds what is below it, an excluded one takes it away; critical or not."""

    def ok(names: list[str], permitted: Any = None, excluded: Any = None) -> bool:
        return allowed(names, permitted, excluded, critical=critical)

    assert ok(["a.example"], dns("example"))
    assert ok(["EXAMPLE"], dns("example"))
    assert ok(["a.b.Example"], dns("eXample"))
    assert not ok(["aexample"], dns("example"))
    assert not ok(["a.example", "a.test"], dns("example"))
    assert ok(["a.example", "a.test"], dns("example", "test"))
    assert ok(["a.b.example"], dns(".b.example"))
    assert not ok(["b.example"], dns(".b.example"))
    assert ok(["anything.test"], dns(""))
    assert not ok(["a.example"], None, dns("example"))
    assert not ok(["a.example"], dns("example"), dns("a.example"))
    assert not ok(["a.example"], None, dns(""))
    assert ok(["192.0.2.1"], dns("example"))


def test_wildcards() -> None:
    """A wildcard is permitted as a whole, and excluded when one of the names that it stands for is."""
    assert allowed(["*.a.example"], dns("a.example"))
    assert not allowed(["*.example"], dns("a.example"))
    assert not allowed(["*.a.example"], None, dns("bad.a.example"))
    assert not allowed(["*.a.example"], None, dns("a.example"))
    assert allowed(["*.a.example"], None, dns("worse.bad.a.example"))
    assert allowed(["*.a.example"], None, dns("b.example"))


def test_addresses() -> None:
    """Networks hold addresses of their own family."""
    assert allowed(["192.0.2.1"], net("192.0.2.0/24"))
    assert not allowed(["198.51.100.1"], net("192.0.2.0/24"))
    assert not allowed(["2001:db8::1"], net("192.0.2.0/24"))
    assert allowed(["2001:db8::1"], net("192.0.2.0/24", "2001:db8::/32"))
    assert not allowed(["192.0.2.1"], None, net("0.0.0.0/0"))
    assert allowed(["a.example"], net("192.0.2.0/24"))


def test_directory_names() -> None:
    """The first relative names must agree; case, blanks and string type do not count; an empty subject is exempt."""
    base: list[x509.GeneralName] = [x509.DirectoryName(directory(o="Example Org"))]
    assert allowed([], base, subject=directory(o="Example Org", cn="x"))
    assert allowed([], base, subject=directory(o="EXAMPLE  org ", cn="x"))
    assert not allowed([], base, subject=directory(o="Other", cn="x"))
    assert not allowed([], base, subject=directory(cn="x", o="Example Org"))
    assert not allowed([], None, base, subject=directory(o="example ORG"))
    assert allowed(["a.example"], base)


def test_unsupported_types_refuse_names_of_that_type() -> None:
    """A constraint on registered identifiers refuses certificates with any, and leaves others alone."""
    name = x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))
    for permitted, excluded in (([name], None), (None, [name])):
        assert allowed(["a.example"], permitted, excluded)  # type: ignore[arg-type]
        alternative = x509.SubjectAlternativeName([name])
        assert not allowed([], permitted, excluded, extensions=[(alternative, False)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("address", "base", "within"),
    [
        ("joe@corp.example", "corp.example", True),
        ("joe@CORP.example", "corp.example", True),
        ("joe@mail.corp.example", "corp.example", False),
        ("joe@mail.corp.example", ".corp.example", True),
        ("joe@corp.example", ".corp.example", False),
        ("joe@corp.example", "joe@corp.example", True),
        ("Joe@corp.example", "joe@corp.example", False),
        ("joe@evilcorp.example", "corp.example", False),
        ("corp.example", "corp.example", None),
    ],
)
def test_mailboxes(address: str, base: str, within: bool | None) -> None:
    """A mailbox is compared with mailboxes, hosts and domains, also in the subject; None: malformed, never allowed."""
    constraint = [x509.RFC822Name(base)]
    alternative = [(x509.SubjectAlternativeName([x509.RFC822Name(address)]), False)]
    assert allowed([], constraint, None, extensions=alternative) is bool(within)  # type: ignore[arg-type]
    assert allowed([], None, constraint, extensions=alternative) is (within is False)  # type: ignore[arg-type]
    assert allowed([], constraint, None, subject=directory(email=address)) is bool(within)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("uri", "base", "within"),
    [
        ("spiffe://corp.example/web", "corp.example", True),
        ("https://user@corp.example:8443/", "corp.example", True),
        ("https://www.corp.example/", "corp.example", False),
        ("https://www.corp.example/", ".corp.example", True),
        ("https://corp.example/", ".corp.example", False),
        ("https://192.0.2.1/", "corp.example", None),
        ("https://[2001:db8::1]/", "corp.example", None),
        ("urn:uuid:1", "corp.example", None),
    ],
)
def test_uris(uri: str, base: str, within: bool | None) -> None:
    """The host of a URI is compared with hosts and domains; None: without a host name, never allowed."""
    constraint = [x509.UniformResourceIdentifier(base)]
    alternative = [(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), False)]
    assert allowed([], constraint, None, extensions=alternative) is bool(within)  # type: ignore[arg-type]
    assert allowed([], None, constraint, extensions=alternative) is (within is False)  # type: ignore[arg-type]


def test_they_bind_everything_below() -> None:
    """Constraints hold for the leaf through unconstrained intermediates, and for the intermediates' own subjects."""
    extension = x509.NameConstraints([x509.DirectoryName(directory(o="Mine"))], None)
    top = ROOT.intermediate("Top", extensions=[(extension, True)])

    def check(middle: x509.Name, leaf: x509.Name) -> None:
        chain = Authority(middle, parent=top).issue(["a.example"], subject=leaf).chain  # type: ignore[arg-type]
        verify_chain(chain, ROOT.trust(), purpose=Purpose.SERVER_AUTH, peer_name=None, now=datetime.now(UTC))

    check(directory(o="Mine", cn="M"), directory(o="Mine", cn="L"))
    with pytest.raises(HandshakeFailed, match="CN=L"):
        check(directory(o="Mine", cn="M"), directory(o="Theirs", cn="L"))
    with pytest.raises(HandshakeFailed, match="CN=M"):
        check(directory(o="Theirs", cn="M"), directory(o="Mine", cn="L"))
    self_issued = Authority("Top", parent=top)
    leaf = self_issued.issue(["a.example"], subject=directory(o="Mine"))
    assert verify_chain(leaf.chain, ROOT.trust(), purpose=Purpose.SERVER_AUTH, peer_name=None, now=datetime.now(UTC))


def test_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More names times constraints than are allowed refuse the chain."""
    monkeypatch.setattr(constraints_module, "MAX_COMPARISONS", 100)
    assert allowed([f"n{n}.example" for n in range(50)], dns("example", "test"))
    issuing = ROOT.intermediate("Many", extensions=[(x509.NameConstraints(dns("example", "test"), None), True)])
    leaf = issuing.issue([f"n{n}.example" for n in range(51)], subject=x509.Name([]))
    with pytest.raises(HandshakeFailed, match="too many names"):
        verify_chain(leaf.chain, ROOT.trust(), purpose=Purpose.SERVER_AUTH, peer_name=None, now=datetime.now(UTC))
