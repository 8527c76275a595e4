"""The key schedule against published vectors."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from hsframework_tls13.ciphers import AES_128_GCM
from hsframework_tls13.keyschedule import (
    TrafficKeys,
    derive_secret,
    hkdf_expand,
    hkdf_expand_label,
    hkdf_extract,
    next_traffic_secret,
    traffic_keys,
)
from tests.unit.tls13.support import rfc8448


@pytest.mark.parametrize("side", ["client", "server"])
def test_traffic_keys_are_those_of_rfc_8448(side: str) -> None:
    """Section 7.3: key and IV from a traffic secret."""
    keys = traffic_keys(AES_128_GCM, rfc8448(f"{side}_application_traffic_secret_0"))
    assert keys == TrafficKeys(rfc8448(f"{side}_key"), rfc8448(f"{side}_iv"))


@pytest.mark.parametrize(("side", "label"), [("client", b"c ap traffic"), ("server", b"s ap traffic")])
def test_application_secrets_are_those_of_rfc_8448(side: str, label: bytes) -> None:
    """Section 7.1: the application traffic secrets from the master secret and the transcript."""
    transcript = rfc8448("transcript_hash_server_finished")
    secret = hkdf_expand_label("sha256", rfc8448("master_secret"), label, transcript, 32)
    assert secret == rfc8448(f"{side}_application_traffic_secret_0")


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 64, 100, 255 * 32])
def test_hkdf_agrees_with_another_implementation(length: int) -> None:
    """RFC 5869 at every interesting length."""
    key = bytes(range(32))
    expected = HKDFExpand(hashes.SHA256(), length, b"info").derive(key) if length else b""
    assert hkdf_expand("sha256", key, b"info", length) == expected


@pytest.mark.parametrize("salt", [b"", b"salt"])
def test_extract_then_expand_is_hkdf(salt: bytes) -> None:
    """Both halves together, with and without salt."""
    ours = hkdf_expand("sha384", hkdf_extract("sha384", salt, b"input"), b"info", 60)
    assert ours == HKDF(hashes.SHA384(), 60, salt or None, b"info").derive(b"input")


def test_too_much_is_refused() -> None:
    """HKDF-Expand ends at 255 blocks."""
    with pytest.raises(ValueError, match="0 to 8160"):
        hkdf_expand("sha256", bytes(32), b"", 255 * 32 + 1)


def test_derive_secret_hashes_the_messages() -> None:
    """Derive-Secret of nothing is what RFC 8448 prints for the 'derived' steps (early secret of zeros)."""
    early = hkdf_extract("sha256", b"", bytes(32))
    assert derive_secret("sha256", early, b"derived", b"").hex() == (
        "6f2615a108c702c5678f54fc9dbab69716c076189c48250cebeac3576c3611ba"
    )


def test_the_next_secret_differs_and_keeps_its_size() -> None:
    """Section 7.2."""
    secret = rfc8448("client_application_traffic_secret_0")
    following = next_traffic_secret(AES_128_GCM, secret)
    assert following == hkdf_expand_label("sha256", secret, b"traffic upd", b"", 32)
    assert following != secret


def test_keys_are_not_in_the_repr() -> None:
    """Keys do not get into logs by way of a repr."""
    assert repr(TrafficKeys(b"k" * 16, b"i" * 12)) == "TrafficKeys()"
