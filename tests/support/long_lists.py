"""Long revocation lists, made in the time that their bytes take: a builder with a million entries takes a minute."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from hsframework.credentials.der import list_parts
from hsframework.testing.certificates import Authority
from tests.support.der import element, integer

_ALGORITHM = bytes.fromhex("300a06082a8648ce3d040302")
"""ecdsa-with-SHA256."""
_DATE = bytes.fromhex("170d") + b"250101000000Z"


def entry(serial_number: int, extensions: bytes = b"") -> bytes:
    """Return an entry of a list; ``extensions``: the contents of its extensions, DER."""
    further = element(0x30, extensions) if extensions else b""
    return element(0x30, integer(serial_number), _DATE, further)


def list_of(authority: Authority, entries: Iterable[bytes]) -> bytes:
    """Return a list with these entries, DER, that ``authority`` has signed with ECDSA and SHA-256."""
    model = authority.crl([1])
    parts = list_parts(model)
    start, end = parts.entries
    begin = parts.signed[0]
    head = 2 if model[begin + 1] < 0x80 else 2 + (model[begin + 1] & 0x7F)
    before, after = model[begin + head : start - 2], model[end : parts.signed[1]]
    signed = element(0x30, before + element(0x30, b"".join(entries)) + after)
    assert isinstance(authority.key, ec.EllipticCurvePrivateKey)
    signature = authority.key.sign(signed, ec.ECDSA(hashes.SHA256()))
    return element(0x30, signed + _ALGORITHM + element(0x03, b"\0" + signature))
