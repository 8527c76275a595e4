"""Certificates and lists with bytes changed: a documented failure, or what was signed; never another exception."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from hypothesis import given, strategies as st

from hsframework.credentials.chain import ChainVerifier, Purpose
from hsframework.credentials.der import certificate_names, list_parts
from hsframework.errors import ConfigurationError
from hsframework.failures import HandshakeFailed
from hsframework.interface import Trust
from hsframework.testing.certificates import Authority

NAME = "server.example"
CONSTRAINTS = x509.NameConstraints([x509.DNSName("example")], [x509.DNSName("bad.example")])
ROOT = Authority("Mangled Root", extensions=[(CONSTRAINTS, True)])
ISSUING = ROOT.intermediate("Mangled Issuing", path_length=0)
LEAF = ISSUING.issue([NAME, "192.0.2.1", "*.a.example"])
CRL = ISSUING.crl([1, 2, 3])


def outcome(chain: tuple[bytes, ...], trust: Trust) -> bool:
    """True if the chain is accepted.  Any exception but the two documented ones fails the test."""
    try:
        verifier = ChainVerifier(trust)
        verifier.verify(chain, purpose=Purpose.SERVER_AUTH, peer_name=NAME, now=datetime.now(UTC))
    except (HandshakeFailed, ConfigurationError) as error:
        assert str(error).isprintable()
        return False
    return True


def changed(data: bytes, position: int, mask: int) -> bytes:
    position %= len(data)
    return data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :]


POSITION, MASK = st.integers(0, 1 << 16), st.integers(1, 255)


def test_the_unchanged_chain_is_believed() -> None:
    """The chain that the other tests change is a good one."""
    assert outcome(LEAF.chain, ROOT.trust(CRL))


def test_every_byte_of_the_leaf() -> None:
    """Each byte of the leaf in turn, with three masks: refused wherever it says something that was signed.

    A signature has more than one encoding (the count of unused bits, for one), so a changed one may still be right.
    """
    for position in range(len(LEAF.certificate)):
        for mask in (0x01, 0x20, 0x80):
            mangled = changed(LEAF.certificate, position, mask)
            assert not outcome((mangled, *LEAF.chain[1:]), ROOT.trust()) or says_the_same(mangled, LEAF.certificate)


def says_the_same(one: bytes, other: bytes) -> bool:
    certificates = [x509.load_der_x509_certificate(der) for der in (one, other)]
    return certificates[0].tbs_certificate_bytes == certificates[1].tbs_certificate_bytes


@given(position=POSITION, mask=MASK, cut=st.integers(0, 3))
def test_leaf_and_intermediate(position: int, mask: int, cut: int) -> None:
    """A byte changed anywhere in the chain, the end cut off or not: refused, or what was signed is unchanged."""
    for index in range(len(LEAF.chain)):
        mangled = list(LEAF.chain)
        mangled[index] = changed(mangled[index], position, mask)
        mangled[index] = mangled[index][: len(mangled[index]) - cut]
        assert not outcome(tuple(mangled), ROOT.trust()) or says_the_same(mangled[index], LEAF.chain[index])


@given(changes=st.lists(st.tuples(POSITION, MASK), min_size=1, max_size=6))
def test_pinned(changes: list[tuple[int, int]]) -> None:
    """A mangled certificate that is trusted as it is, so that no signature stops it, meets every other rule."""
    mangled = LEAF.certificate
    for position, mask in changes:
        mangled = changed(mangled, position, mask)
    outcome((mangled,), Trust((mangled,)))


@given(position=POSITION, mask=MASK)
def test_anchor(position: int, mask: int) -> None:
    """A mangled anchor is either still the anchor or nobody's."""
    outcome(LEAF.chain, Trust((changed(ROOT.certificate, position, mask),)))


@given(position=POSITION, mask=MASK)
def test_revocation_list(position: int, mask: int) -> None:
    """A mangled list is an error, or clears nothing, or is another issuer's; the verifier never breaks."""
    outcome(LEAF.chain, ROOT.trust(changed(CRL, position, mask)))


@given(data=st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """Bytes that are no certificate are refused wherever they stand."""
    assert not outcome((data,), ROOT.trust())
    assert not outcome((data, *LEAF.chain), ROOT.trust())
    assert not outcome((data,), Trust((data,)))


def test_readers_at_every_length() -> None:
    """The name readers find the names in whole structures, and raise ValueError for each one cut before their end."""
    certificate, issuer = LEAF.certificate, ISSUING.subject.public_bytes()
    subject = x509.load_der_x509_certificate(certificate).subject.public_bytes()
    assert certificate_names(certificate) == (issuer, subject)
    assert list_parts(CRL).issuer == issuer
    for reader, data in ((certificate_names, certificate), (list_parts, CRL)):
        for length in range(len(data)):
            try:
                reader(data[:length])
            except ValueError:
                continue
            raise AssertionError(f"{length} bytes of {len(data)} were taken for the whole")
