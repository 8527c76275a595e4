"""The peer's name against the names in its certificate."""

from __future__ import annotations

import ipaddress

import pytest
from cryptography import x509
from hypothesis import given, strategies as st

from hsframework.credentials.names import MAX_NAMES_SHOWN, check_peer_name, describe_names, parse_ip_literal
from hsframework.failures import Failure, HandshakeFailed


def dns(*names: str) -> list[x509.GeneralName]:
    return [x509.DNSName(name) for name in names]


def ip(*addresses: str) -> list[x509.GeneralName]:
    return [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]


@pytest.mark.parametrize(
    ("names", "peer"),
    [
        (dns("host.example"), "host.example"),
        (dns("HOST.Example"), "host.eXAMPLE"),
        (dns("host.example"), "host.example."),
        (dns("other.example", "host.example"), "host.example"),
        (dns("localhost"), "localhost"),
        (dns("under_score.example"), "under_score.example"),
        (dns("*.host.example"), "a.host.example"),
        (dns("*.HOST.example"), "A.host.EXAMPLE."),
        (dns("xn--bcher-kva.example"), "XN--bcher-kva.example"),
        (dns("xn--bcher-kva.example"), "b\u00fccher.example"),
        (dns("k.example"), "\u212a.example"),  # UTS #46 maps KELVIN SIGN to k
        (ip("192.0.2.1"), "192.0.2.1"),
        (ip("2001:db8::1"), "2001:DB8:0:0::1"),
        (ip("2001:db8::1"), "[2001:db8::1]"),
        (ip("fe80::1"), "fe80::1%eth0"),
    ],
)
def test_match(names: list[x509.GeneralName], peer: str) -> None:
    """These name the peer."""
    check_peer_name(names, peer)


@pytest.mark.parametrize(
    ("names", "peer"),
    [
        ([], "host.example"),
        (dns("host.example"), "example"),
        (dns("example"), "host.example"),
        (dns("host.example"), "xhost.example"),
        (dns("host.example."), "host.example"),  # presented names have no trailing dot
        (dns("*.host.example"), "host.example"),
        (dns("*.host.example"), "a.b.host.example"),
        (dns("*.host.example"), ".host.example"),
        (dns("*.host.example"), "*.host.example"),
        (dns("*.host.example"), "xn--bcher-kva.host.example"),
        (dns("*"), "localhost"),
        (dns("*.example"), "host.example"),
        (dns("*.0.10.0"), "a.0.10.0"),  # with a number for the asterisk, the pattern is an address
        (dns("a*.host.example"), "ab.host.example"),
        (dns("*a.host.example"), "ba.host.example"),
        (dns("a.*.example"), "a.host.example"),
        (dns("*.*.example"), "a.host.example"),
        (dns("host.example\0.evil.example"), "host.example"),
        (dns(" host.example"), "host.example"),
        (dns("192.0.2.1"), "192.0.2.1"),  # an address as a DNS name is no address
        (dns("*.0.2.1"), "192.0.2.1"),
        (ip("192.0.2.1"), "192.0.2.2"),
        (ip("192.0.2.1"), "::ffff:192.0.2.1"),
        (ip("2001:db8::1"), "2001:db8::2"),
        (ip("192.0.2.1"), "host.example"),
        (dns("host.example"), ""),
        (dns("host.example"), "."),
        (dns("host.example"), "host..example"),
        (dns("host.example"), "host.example\n"),
        (dns("12345"), "12345"),
        (dns("xn--bcher-kva.example"), "b\u00fc cher.example"),
        ([x509.RFC822Name("host.example")], "host.example"),
        ([x509.UniformResourceIdentifier("https://host.example")], "host.example"),
    ],
)
def test_mismatch(names: list[x509.GeneralName], peer: str) -> None:
    """These do not."""
    with pytest.raises(HandshakeFailed) as caught:
        check_peer_name(names, peer)
    assert caught.value.failure is Failure.WRONG_NAME


def test_the_names_that_there_are_are_shown_safely() -> None:
    """The detail lists a bounded number of bounded names and no control character."""
    assert describe_names([x509.RFC822Name("a@b.example")]) == "no DNS name and no IP address"
    hostile = [*dns("a\r\nb", "\x1b[2J", "x" * 500), *ip("192.0.2.1"), *dns(*(f"n{i}.example" for i in range(50)))]
    shown = describe_names(hostile)
    assert shown.isprintable()
    assert shown.startswith("a\\r\\nb, \\x1b[2J, " + "x" * 64 + "..., 192.0.2.1, n0.example")
    assert shown.endswith(f"and {len(hostile) - MAX_NAMES_SHOWN} more")
    with pytest.raises(HandshakeFailed) as caught:
        check_peer_name([], "a\nb" + "x" * 500)
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 250


def test_ip_literals() -> None:
    """Literals with brackets and zones are addresses, everything else is not."""
    assert parse_ip_literal("[::1]") == ipaddress.ip_address("::1")
    assert parse_ip_literal("fe80::1%2") == ipaddress.ip_address("fe80::1")
    assert parse_ip_literal("localhost") is None
    assert parse_ip_literal("1.2.3") is None
    assert parse_ip_literal("[]") is None


LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True).filter(lambda s: not s.startswith("xn--"))
NAME = st.lists(LABEL, min_size=2, max_size=5).map(".".join).filter(lambda n: parse_ip_literal(n) is None)


def matches(names: list[x509.GeneralName], peer: str) -> bool:
    try:
        check_peer_name(names, peer)
    except HandshakeFailed:
        return False
    return True


def by_the_book(pattern: str, name: str) -> bool:
    """Match by RFC 9525 section 6.3 written the plain way; patterns that read as addresses match nothing."""
    if parse_ip_literal(pattern.replace("*", "1")) is not None:
        return False
    pattern_labels, labels = pattern.lower().split("."), name.lower().split(".")
    if pattern_labels[0] == "*" and len(pattern_labels) > 2:
        return len(labels) == len(pattern_labels) and labels[1:] == pattern_labels[1:]
    return "*" not in pattern and labels == pattern_labels


@given(name=NAME, pattern=NAME, wildcard=st.booleans(), related=st.booleans())
def test_against_the_rule_written_plainly(name: str, pattern: str, wildcard: bool, related: bool) -> None:
    """For any name and pattern, related ones among them, the answer is that of the rule."""
    presented = pattern
    if related:
        presented = name.upper()
    if wildcard:
        presented = "*." + presented.partition(".")[2]
    assert matches(dns(presented), name) == by_the_book(presented, name)


@given(presented=st.text(st.characters(max_codepoint=127), min_size=1, max_size=40), peer=st.text(max_size=40))
def test_any_text(presented: str, peer: str) -> None:
    """The answer to any certificate and any request is a match, or WRONG_NAME with a printable detail."""
    failed: HandshakeFailed | None = None
    try:
        check_peer_name(dns(presented), peer)
    except HandshakeFailed as error:
        failed = error
    if failed is not None:
        assert failed.failure is Failure.WRONG_NAME
        assert failed.detail.isprintable()
    else:
        assert presented.lower() == peer.lower().removesuffix(".") or presented.startswith("*.")
