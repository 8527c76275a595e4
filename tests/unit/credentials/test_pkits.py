"""NIST's PKITS, from the package cryptography-vectors: our answers, and each difference with its decision.

A test's name says whether its chain is good.  The chain is the test's certificate and every certificate that can be
reached by issuer name; the lists are those of the issuers reached.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography import x509

from hsframework.credentials.certificate import ParsedCertificate
from hsframework.credentials.chain import Purpose, verify_chain
from hsframework.credentials.der import list_parts
from hsframework.credentials.distinguished import comparable
from hsframework.credentials.paths import MAX_SENT
from hsframework.errors import HsframeworkError
from hsframework.interface import Trust
from hsframework.tls.parsing import PARSE_ERRORS, no_warnings

DATA = Path(next(iter(cryptography_vectors.__path__))) / "x509" / "PKITS_data"
NOW = datetime(2020, 6, 1, tzinfo=UTC)
ROOT = "TrustAnchorRootCertificate"

MISSING_LISTS = {
    "InvalidMissingCRLTest1EE", "InvalidBadCRLIssuerNameTest5EE", "InvalidWrongCRLTest6EE",
    "InvalidIDPwithindirectCRLTest26EE", "InvalidcRLIssuerTest27EE", "InvalidcRLIssuerTest31EE",
    "InvalidcRLIssuerTest32EE",
}  # fmt: skip
"""Accepted: the authority has no list of its own, which ``if-present`` allows and ``require`` does not."""
REFUSED_LISTS = {
    "ValidIDPwithindirectCRLTest22EE", "ValidcRLIssuerTest28EE", "ValidcRLIssuerTest29EE", "ValiddeltaCRLTest2EE",
    "ValiddeltaCRLTest5EE", "ValiddeltaCRLTest7EE", "ValiddeltaCRLTest8EE",
}  # fmt: skip
"""Refused: delta lists and indirect lists are refused when the trust is read."""
OBSOLETE_KEYS = {"ValidDSASignaturesTest4EE"}
"""Refused: TLS 1.3 has no DSA."""
UNREADABLE = {"ValidDSAParameterInheritanceTest5EE"}
"""Left out: cryptography cannot read a DSA certificate that inherits its parameters."""


@cache
def certificates() -> dict[str, ParsedCertificate]:
    found = {}
    for path in sorted((DATA / "certs").glob("*.crt")):
        try:
            with no_warnings():
                x509.load_der_x509_certificate(path.read_bytes()).subject.rfc4514_string()
            found[path.stem] = ParsedCertificate(path.read_bytes())
        except PARSE_ERRORS:
            continue
    return found


@cache
def lists() -> tuple[tuple[bytes, bytes], ...]:
    """Return issuer and content of each list."""
    contents = [path.read_bytes() for path in sorted((DATA / "crls").glob("*.crl"))]
    return tuple((comparable(list_parts(der).issuer), der) for der in contents)


def names() -> list[str]:
    return sorted(
        path.stem for path in (DATA / "certs").glob("*.crt") if re.match(r"(In)?[Vv]alid.*Test\d+EE$", path.stem)
    )


def case(name: str) -> tuple[tuple[bytes, ...], Trust]:
    """Return the chain and the trust of one test."""
    known = certificates()
    reached, todo = [name], [name]
    while todo:
        issuer = known[todo.pop(0)].issuer
        for other, certificate in known.items():
            if certificate.subject == issuer and other not in reached and other != ROOT and not other.endswith("EE"):
                reached.append(other)
                todo.append(other)
    issuers = {known[ROOT].subject, *(known[each].subject for each in reached), *(known[e].issuer for e in reached)}
    crls = tuple(der for issuer, der in lists() if issuer in issuers)
    return tuple(known[each].der for each in reached[:MAX_SENT]), Trust((known[ROOT].der,), crls)


@pytest.mark.parametrize("name", [name for name in names() if name not in UNREADABLE])
def test_one(name: str) -> None:
    """A good chain is accepted, a bad one refused, unless the difference is decided above."""
    good = name.startswith("Valid")
    expected = (good and name not in REFUSED_LISTS | OBSOLETE_KEYS) or name in MISSING_LISTS
    chain, trust = case(name)
    try:
        verify_chain(chain, trust, purpose=Purpose.SERVER_AUTH, peer_name=None, now=NOW)
    except HsframeworkError as error:
        assert not expected, error
    else:
        assert expected


def test_the_score() -> None:
    """Of the tests that can be read at least 163 come out as NIST expects, as many as with OpenSSL 3.5."""
    read = [name for name in names() if name not in UNREADABLE]
    decided = MISSING_LISTS | REFUSED_LISTS | OBSOLETE_KEYS
    assert decided <= set(read)
    assert len(read) - len(decided) >= 163
