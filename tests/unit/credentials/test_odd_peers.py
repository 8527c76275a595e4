"""Odd certificates of peers: accepted, or refused with words that name the field; never a failure of our own.

The judge's own exceptions would be told as an internal error, which these tests would show.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from cryptography import x509

from hsframework.credentials.chain import ChainVerifier, Purpose
from hsframework.errors import ConfigurationError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Trust
from tests.support.chains import NAME, NOW, Plan, RevocationList, name_of, straight
from tests.support.der import SEQUENCE, SET, TRUE, element, extension, identifier, integer

POLICY = element(0x06, bytes.fromhex("2b06010401913e01"))
USER_NOTICE = element(0x06, bytes.fromhex("2b06010505070202"))


def dns(text: bytes) -> bytes:
    return element(0x82, text)


OURS = dns(NAME.encode())
PRINCIPAL = element(0xA0, identifier("1.3.6.1.4.1.2238.1.1.1"), element(0xA0, element(0x0C, b"alice@dom.example")))


@dataclass(frozen=True)
class Odd:
    """One case: its name, the change of a plan, and the words of the refusal; None: accepted."""

    label: str
    change: Callable[[Plan], None]
    refused: str | None = None
    failure: Failure = Failure.BAD_CERTIFICATE

    def __str__(self) -> str:
        return self.label


def alternative_names(label: str, contents: bytes, refused: str | None = None, failure: Failure | None = None) -> Odd:
    """Return a case whose leaf has these names."""

    def change(plan: Plan) -> None:
        plan.path[0].extensions["2.5.29.17"] = extension("2.5.29.17", element(SEQUENCE, contents))

    return Odd(f"names: {label}", change, refused, failure or Failure.BAD_CERTIFICATE)


def of_names() -> Iterator[Odd]:
    yield alternative_names("otherName", OURS + PRINCIPAL)
    yield alternative_names("otherName of a wrong form", OURS + element(0xA0, POLICY, element(0x0C, b"x")), "OtherName")
    yield alternative_names("x400Address", OURS + element(0xA3, element(SEQUENCE)), "x400Address")
    yield alternative_names("ediPartyName", OURS + element(0xA5, element(0xA1, element(0x0C, b"x"))), "EDIPartyName")
    yield alternative_names("registeredID", OURS + element(0x88, bytes.fromhex("2b0601")))
    yield alternative_names("UTF-8", OURS + dns("b\u00fccher.example".encode()))
    yield alternative_names("latin-1", OURS + dns(b"b\xfccher.example"), "DNSName")
    yield alternative_names("e-mail in UTF-8", OURS + element(0x81, "j\u00f6rg@dom.example".encode()))
    yield alternative_names("URI in UTF-8", OURS + element(0x86, "https://b\u00fccher/".encode()))
    yield alternative_names("blank and empty", dns(b" ") + dns(b"") + OURS)
    yield alternative_names("a URL as a DNS name", dns(b"https://server.example/") + OURS)
    yield alternative_names("an address as a DNS name", dns(b"127.0.0.1") + OURS)
    yield alternative_names("a network as an address", OURS + element(0x87, bytes.fromhex("7f000001ffffff00")), "")
    yield alternative_names("an address of three octets", OURS + element(0x87, b"\x7f\0\0"), "address")
    yield alternative_names("a trailing dot", dns(b"server.example."), "server.example.", Failure.WRONG_NAME)
    yield alternative_names("a NUL behind", dns(b"server.example\0.evil"), r"\x00", Failure.WRONG_NAME)
    yield alternative_names("a NUL before", dns(b"evil\0server.example"), r"\x00", Failure.WRONG_NAME)
    yield alternative_names("none", b"", "no DNS name", Failure.WRONG_NAME)


def subject(label: str, name: bytes, *refused: str | None) -> Iterator[Odd]:
    """Yield cases in which the leaf, an intermediate authority and the anchor have this name."""

    def rename(plan: Plan, at: int) -> None:
        plan.path[at].subject = name
        if at:
            plan.path[at - 1].issuer = name
        if at == 2:
            plan.path[at].issuer = name

    for at, level in enumerate(("leaf", "authority", "anchor")):
        words = refused[min(at, len(refused) - 1)] if refused else None
        failure = Failure.UNTRUSTED if words and "OpenSSL" in words else Failure.BAD_CERTIFICATE
        yield Odd(f"{level}'s subject: {label}", lambda plan, at=at: rename(plan, at), words, failure)  # type: ignore[misc]


def _raw(tag: int, contents: bytes) -> bytes:
    return element(SEQUENCE, element(SET, element(SEQUENCE, identifier("2.5.4.3"), element(tag, contents))))


def of_subjects() -> Iterator[Odd]:
    yield from subject("BMPString", name_of("M\u00fcller", 0x1E))
    yield from subject("UniversalString", name_of("M\u00fcller", 0x1C))
    yield from subject("80 characters", name_of("n" * 80))
    yield from subject("a country of three letters", name_of("USA", 0x13, "2.5.4.6"))
    yield from subject("an empty organisation", name_of("", 0x0C, "2.5.4.10"))
    yield from subject("a TeletexString in latin-1", name_of("M\u00fcller", 0x14), "subject")
    yield from subject("latin-1 as UTF8String", _raw(0x0C, b"Qu\xe9bec"), "subject")
    yield from subject("a BMPString of three octets", _raw(0x1E, b"abc"), "BmpString")
    yield from subject("half a surrogate pair", _raw(0x1E, b"\xd8\0\xd8\0"), "BmpString")
    yield from subject("an @ in a PrintableString", _raw(0x13, b"a@b_c*"), "PrintableString")
    yield from subject("an integer", _raw(0x02, b"\5"), "subject")
    yield from subject("nothing", element(SEQUENCE), None, "OpenSSL: Issuer name empty")
    yield from subject("100 relative names", element(SEQUENCE, *(name_of(f"{n:x}")[2:] for n in range(100))))
    yield from subject(
        "129 relative names", element(SEQUENCE, *(name_of("a")[2:] for _ in range(129))), "128 attributes"
    )


def puts(label: str, dotted: str, value: bytes, refused: str | None = None, critical: bytes = b"") -> Odd:
    """Return a case whose leaf has this extension."""

    def change(plan: Plan) -> None:
        plan.path[0].extensions[dotted] = extension(dotted, value, critical)

    return Odd(label, change, refused)


def policy(text: bytes) -> bytes:
    return element(
        SEQUENCE, element(SEQUENCE, POLICY, element(SEQUENCE, element(SEQUENCE, USER_NOTICE, element(SEQUENCE, text))))
    )


def of_extensions() -> Iterator[Odd]:
    yield puts("a policy's text: BMPString", "2.5.29.32", policy(element(0x1E, "\u00fc".encode("utf-16-be"))))
    yield puts("a policy's text: UTF8String", "2.5.29.32", policy(element(0x0C, "\u00fc".encode())))
    yield puts("a policy's text: two lines", "2.5.29.32", policy(element(0x1A, b"one\ntwo")))
    yield puts("a policy's text: latin-1", "2.5.29.32", policy(element(0x1A, b"Pol\xedtica")), "UserNotice")
    yield puts("must-staple", "1.3.6.1.5.5.7.1.24", bytes.fromhex("3003020105"))
    point = x509.DistributionPoint([x509.UniformResourceIdentifier("http://c/x.crl")], None, None, None)
    yield puts(
        "critical distribution points", "2.5.29.31", x509.CRLDistributionPoints([point]).public_bytes(), None, TRUE
    )
    yield puts("critical nsCertType", "2.16.840.1.113730.1.1", bytes.fromhex("03020640"), "2.16.840.1.113730.1.1", TRUE)
    yield puts("a key usage that is none", "2.5.29.15", b"\x30\x00", "extension")


def many_names(number: int) -> Callable[[Plan], None]:
    names = [x509.DNSName(f"{n:x}.example") for n in range(number)]
    return lambda plan: plan.path[0].put(x509.SubjectAlternativeName([*names, x509.DNSName(NAME)]))


def many_constraints(plan: Plan) -> None:
    many_names(900)(plan)
    bases = [x509.DNSName(f"{n:x}.e") for n in range(3000)]
    plan.path[1].put(x509.NameConstraints([*bases, x509.DNSName("example")], None), critical=True)


def dates(plan: Plan) -> None:
    plan.path[0].begin = datetime(1960, 5, 1, tzinfo=UTC)
    plan.path[0].end = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def has_key(name: str) -> Callable[[Plan], None]:
    def change(plan: Plan) -> None:
        plan.path[0].key = name
        plan.path[0].drop(x509.SubjectKeyIdentifier)

    return change


def number(serial: bytes) -> Callable[[Plan], None]:
    def change(plan: Plan) -> None:
        plan.path[0].serial = serial

    return change


def others() -> Iterator[Odd]:
    yield Odd("dates from 1960 to 9999", dates)
    yield Odd("900 names", many_names(900))
    yield Odd("1,300 names", many_names(1300), "more than 1000 names")
    yield Odd("7,000 names", many_names(7000), "more than 65536 bytes")
    yield Odd("900 names under 3,000 constraints", many_constraints, "too many names", Failure.UNTRUSTED)
    for key in ("k1", "p521", "ed25519", "rsa"):
        yield Odd(f"a key of {key}", has_key(key))
    yield Odd("a key of 1,024 bits", has_key("rsa1024"), "1024 bits")
    for label, serial in {
        "negative": integer(-0x7AEDCC),
        "zero": integer(0),
        "of 21 octets": integer(0x7F << 160),
    }.items():
        yield Odd(f"a serial number that is {label}", number(serial), "serial number")
    yield Odd("a serial number with an octet too many", number(bytes.fromhex("020400123456")), "serial")


CASES = [*of_names(), *of_subjects(), *of_extensions(), *others()]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_odd_certificates(case: Odd) -> None:
    """Each has its outcome, with words that name the field where it is refused, and none that a terminal obeys."""
    plan = straight("Issuing")
    case.change(plan)
    chain = [certificate.der() for certificate in plan.path]
    verifier = ChainVerifier(Trust((chain[-1],)))

    def judge() -> None:
        verifier.verify(tuple(chain[:-1]), purpose=Purpose.SERVER_AUTH, peer_name=NAME, now=NOW)

    if case.refused is None:
        judge()
        return
    with pytest.raises(HandshakeFailed) as caught:
        judge()
    assert caught.value.failure is case.failure
    assert case.refused in caught.value.detail
    assert caught.value.detail.isascii()
    assert caught.value.detail.isprintable()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_odd_certificates_beside_a_list(case: Odd) -> None:
    """A revocation list of the authority changes nothing: the look-up of an odd number or name fails for nobody."""
    plan = straight("Issuing")
    case.change(plan)
    listed = RevocationList(plan.path[1].subject, plan.path[1].key, (integer(5),)).der()
    chain = [certificate.der() for certificate in plan.path]
    if case.refused and case.label.startswith("authority's subject"):
        # A list with a name that cannot be read is refused when the trust is; others are read.
        with contextlib.suppress(ConfigurationError):
            ChainVerifier(Trust((chain[-1],), (listed,)))
        return
    verifier = ChainVerifier(Trust((chain[-1],), (listed,)))
    try:
        verifier.verify(tuple(chain[:-1]), purpose=Purpose.SERVER_AUTH, peer_name=NAME, now=NOW)
    except HandshakeFailed as failed:
        assert case.refused is not None, failed
    else:
        assert case.refused is None
