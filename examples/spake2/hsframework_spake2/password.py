"""The scalar of a password, by scrypt: whoever steals what a server stores has to pay for each guess."""

from __future__ import annotations

import hashlib

from hsframework.interface import Secret

from hsframework_spake2.curve import ORDER

_SIZE = 48
"""Bytes: 16 more than a scalar has, so that the remainder is even (RFC 9382, section 3.2)."""
_BLOCK = 8


def scalar_of(password: Secret, identity: bytes, cost: int) -> int:
    """Return the scalar, from 1 to ORDER - 2.

    ``cost``: log2 of scrypt's N; the memory that it takes is 2**(cost + 10) bytes.
    """
    size = 1 << cost
    hardened = hashlib.scrypt(
        password.reveal(),
        salt=b"hsframework-spake2 " + identity,
        n=size,
        r=_BLOCK,
        p=1,
        maxmem=256 * _BLOCK * size + (1 << 20),
        dklen=_SIZE,
    )
    return 1 + int.from_bytes(hardened, "big") % (ORDER - 2)
