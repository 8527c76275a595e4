"""The work that a hostile chain costs: bounded before anything is known of the peer."""

from __future__ import annotations

from datetime import timedelta
from typing import NoReturn

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from hsframework.credentials import openssl_judge, paths
from hsframework.credentials.chain import ChainVerifier, Purpose
from hsframework.credentials.judgement import check_key
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Trust
from tests.support.chains import NAME, NOW, authority, straight


def refusal(chain: tuple[bytes, ...], trust: Trust) -> HandshakeFailed:
    with pytest.raises(HandshakeFailed) as caught:
        ChainVerifier(trust).verify(chain, purpose=Purpose.SERVER_AUTH, peer_name=NAME, now=NOW)
    return caught.value


def with_a_huge_exponent(issuer: str, number: int) -> bytes:
    """Return an authority "A" whose RSA key has a public exponent of 3,071 bits; its signature is somebody's."""
    key = rsa.RSAPublicNumbers((1 << 3070) + 1, (1 << 3071) + 1).public_key()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "A")])
    above = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(above)
        .public_key(key)
        .serial_number(number)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.fixture
def no_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if a signature is verified, by either judge."""

    def fail(*_: object, **__: object) -> NoReturn:
        pytest.fail("a signature was verified")

    monkeypatch.setattr(paths, "signature_verifies", fail)
    monkeypatch.setattr(openssl_judge, "ask", fail)


@pytest.mark.parametrize("of_ours", [False, True], ids=["nobody's", "an anchor's name"])
def test_a_huge_exponent(no_signatures: None, of_ours: bool) -> None:
    """A key whose public exponent has 3,071 bits, 19 times: no signature is verified with it, trusted or not."""
    root = authority("Root", "p256-0")
    strange = authority("A", "p256-1", root)
    leaf = straight().path[0]
    leaf.issuer, leaf.signer = strange.subject, strange.key
    leaf.extensions.pop("2.5.29.35")
    above = "Root" if of_ours else "A"
    sent = tuple(with_a_huge_exponent(above, number) for number in range(10, 29))
    failed = refusal((leaf.der(), *sent), Trust((root.der(),)))
    assert failed.failure is Failure.BAD_CERTIFICATE
    assert "public exponent" in failed.detail


def test_a_key_that_no_signature_is_to_be_verified_with() -> None:
    """It is refused before a protocol's library uses it, as a certificate that cannot be read; a good one is not."""
    check_key(straight().path[0].der())
    for bad, said in ((with_a_huge_exponent("A", 1), "public exponent"), (b"0\x00", "read")):
        for _ in range(2):
            with pytest.raises(HandshakeFailed, match=said) as caught:
                check_key(bad)
            assert caught.value.failure is Failure.BAD_CERTIFICATE


def test_the_signatures_of_one_chain_have_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths whose signatures are wrong are tried until the budget is spent, and not longer."""
    monkeypatch.setattr(paths, "_cost_of_verifying_with", lambda issuer: paths.MAX_COST / 3)
    plan = straight("Issuing")
    issuing = plan.path[1]
    fakes = []
    for number in range(12):
        fake = authority("Issuing", f"p256-{number % 4 + 2}", plan.path[2])
        fake.extensions.pop("2.5.29.14")
        fakes.append(fake.der())
    plan.path[0].extensions.pop("2.5.29.35")
    asked: list[int] = []
    ask = openssl_judge.ask

    def counted(path: paths.Path, **values: object) -> openssl_judge.Refusal | None:
        asked.append(len(path))
        return ask(path, **values)  # type: ignore[arg-type]

    monkeypatch.setattr(openssl_judge, "ask", counted)
    failed = refusal((plan.path[0].der(), *fakes, issuing.der()), Trust((plan.path[2].der(),)))
    assert len(asked) <= 3
    assert failed.failure in (Failure.BAD_CERTIFICATE, Failure.UNTRUSTED)


def test_a_tangle_of_authorities_without_an_anchor(no_signatures: None) -> None:
    """Twenty authorities of one name, none of them ours: their paths end after a bounded number of steps."""
    sent = tuple(authority("A", f"p256-{number % 5}").der() for number in range(19))
    leaf = straight().path[0]
    leaf.issuer = authority("A", "p256-0").subject
    leaf.extensions.pop("2.5.29.35")
    assert refusal((leaf.der(), *sent), Trust((authority("Root", "p256-5").der(),))).failure is Failure.UNTRUSTED
