"""Long revocation lists, made in seconds."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from hsframework.testing.certificates import Authority, to_pem

_SEQUENCE, _INTEGER, _BIT_STRING = 0x30, 0x02, 0x03


def list_of(authority: Authority, serial_numbers: Iterable[int]) -> bytes:
    """Return a revocation list of an ECDSA P-256 authority with these numbers, PEM.

    ``cryptography`` makes an empty one; the entries are put in here, as bytes, and it is signed anew.
    """
    assert isinstance(authority.key, ec.EllipticCurvePrivateKey)
    empty = x509.load_der_x509_crl(authority.crl())
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    date = b"\x17\x0d" + empty.last_update_utc.strftime("%y%m%d%H%M%SZ").encode()
    due = b"\x17\x0d" + empty.next_update_utc.strftime("%y%m%d%H%M%SZ").encode()  # type: ignore[union-attr]
    entries = []
    for number in serial_numbers:
        contents = number.to_bytes(number.bit_length() // 8 + 1, "big")
        entries.append(_element(_SEQUENCE, _element(_INTEGER, contents) + date))
    body = b"\x02\x01\x01" + algorithm + authority.subject.public_bytes() + date + due
    signed = _element(_SEQUENCE, body + (_element(_SEQUENCE, b"".join(entries)) if entries else b""))
    signature = authority.key.sign(signed, ec.ECDSA(hashes.SHA256()))
    return to_pem(_element(_SEQUENCE, signed + algorithm + _element(_BIT_STRING, b"\0" + signature)), "X509 CRL")


def _element(tag: int, contents: bytes) -> bytes:
    size = len(contents)
    if size < 0x80:
        return bytes((tag, size)) + contents
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + contents
