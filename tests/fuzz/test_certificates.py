"""Any damage to real certificates and revocation lists: the judge gives a path or HandshakeFailed, and no warning.

Warnings are errors in these tests, so that one which is not caught fails the target.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path

import cryptography_vectors
import pytest
from hypothesis import given, strategies as st

from hsframework.credentials.chain import ChainVerifier, Purpose
from hsframework.credentials.findings import TrustExamination
from hsframework.credentials.trust import certificates_in, crls_in
from hsframework.errors import ConfigurationError
from hsframework.failures import HandshakeFailed
from hsframework.interface import Trust
from hsframework.testing.certificates import Authority
from tests.fuzz.conftest import Fuzz
from tests.fuzz.mutation import Damage, damages

VECTORS = Path(next(iter(cryptography_vectors.__path__))) / "x509"
NOW = datetime.now(UTC)
MOST_BYTES = 8192


def _vectors(pattern: str, kind: str) -> list[bytes]:
    """Return the files of that kind in DER and PEM, those of moderate size."""
    found = []
    for path in sorted(VECTORS.rglob(pattern)):
        data = path.read_bytes()
        if len(data) > MOST_BYTES:
            continue
        if data.startswith(b"\x30"):
            found.append(data)
        else:
            with contextlib.suppress(ConfigurationError):
                found += (certificates_in if kind == "certificate" else crls_in)(data, path.name)
    return found


ROOT = Authority("Fuzz Root")
ISSUING = ROOT.intermediate("Fuzz Issuing")
LEAF = ISSUING.issue(["server.example"])
CRL = ISSUING.crl([77])


def _judge(chain: tuple[bytes, ...], trust: Trust) -> None:
    with contextlib.suppress(ConfigurationError):
        verifier = ChainVerifier(trust)
        for purpose in Purpose:
            with contextlib.suppress(HandshakeFailed):
                assert verifier.verify(chain, purpose=purpose, peer_name="server.example", now=NOW)
        list(TrustExamination("trust.t", trust).findings(NOW))


@pytest.mark.fuzz
def test_a_damaged_chain(fuzz: Fuzz) -> None:
    """A certificate of our own chain, damaged, as the leaf, as an intermediate, and as the anchor."""

    @given(st.integers(0, 2), damages(900))
    def target(position: int, damage: Damage) -> None:
        path = [LEAF.certificate, ISSUING.certificate, ROOT.certificate]
        path[position] = damage(path[position])
        _judge(tuple(path[:2]), Trust((path[2],), (CRL,)))

    fuzz(target)


@pytest.mark.fuzz
def test_a_damaged_list(fuzz: Fuzz) -> None:
    """A revocation list, damaged: what it says may be lost with an error at load, and in no other way."""

    @given(damages(400))
    def target(damage: Damage) -> None:
        _judge(LEAF.chain, Trust((ROOT.certificate,), (damage(CRL),)))

    fuzz(target)


@pytest.mark.fuzz
def test_odd_certificates_of_others(fuzz: Fuzz) -> None:
    """Certificates and lists of the vectors of cryptography, odd by themselves, damaged or not, pinned or as a leaf."""
    certificates = [
        *_vectors("*.pem", "certificate"),
        *_vectors("*.der", "certificate"),
        *_vectors("*.crt", "certificate"),
    ]
    lists = [*_vectors("*crl*.pem", "list"), *_vectors("*.crl", "list")]

    @given(st.sampled_from(certificates), st.sampled_from(lists), damages(1200), st.booleans(), st.booleans())
    def target(certificate: bytes, crl: bytes, damage: Damage, pinned: bool, changed: bool) -> None:
        shown = damage(certificate) if changed else certificate
        anchors = (shown, certificate) if pinned else (ROOT.certificate,)
        _judge((shown, ISSUING.certificate), Trust(anchors, (crl,)))

    fuzz(target)
