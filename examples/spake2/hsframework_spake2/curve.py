"""Points of P-256: the additions that SPAKE2 needs, beside the multiplications of ``cryptography``.

* Points that arrive are checked by OpenSSL (:func:`decode`).
* A secret scalar is multiplied by OpenSSL alone, in constant time.  ECDH gives the first coordinate of a product; the
  second follows from the coordinates of ``k·P`` and ``(k+1)·P`` (Okeya and Sakurai, CHES 2001).
* The rest is arithmetic of Python's integers without a branch on a secret, whose time depends a little on the values:
  it is not constant-time.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

SIZE = 65
"""Bytes of an encoded point: 4, and both coordinates (SEC 1, section 2.3.3, uncompressed)."""
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

_P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_A = _P - 3
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_CURVE = ec.SECP256R1()


class NotAPoint(ValueError):
    """Bytes that encode no point, or a sum that is none but the neutral element."""


@dataclass(frozen=True, slots=True, repr=False)
class Point:
    """A point that is not the neutral element."""

    x: int
    y: int

    @property
    def encoded(self) -> bytes:
        return b"\x04" + self.x.to_bytes(32, "big") + self.y.to_bytes(32, "big")


def decode(data: bytes) -> Point:
    """Return the point of ``data``, also where it is compressed.  Raises NotAPoint."""
    try:
        numbers = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, data).public_numbers()
    except ValueError:
        raise NotAPoint("no point of P-256") from None
    return Point(numbers.x, numbers.y)


def generated(scalar: int) -> Point:
    """Return the product of the generator and a scalar from 1 to ORDER - 1."""
    numbers = ec.derive_private_key(scalar, _CURVE).public_key().public_numbers()
    return Point(numbers.x, numbers.y)


def product(scalar: int, point: Point) -> Point:
    """Return the product of a point and a scalar from 1 to ORDER - 2."""
    public = ec.EllipticCurvePublicNumbers(point.x, point.y, _CURVE).public_key()
    x, after = (
        int.from_bytes(ec.derive_private_key(factor, _CURVE).exchange(ec.ECDH(), public), "big")
        for factor in (scalar, scalar + 1)
    )
    doubled = (point.x + x) * (point.x * x + _A) + 2 * _B - after * (point.x - x) ** 2
    return Point(x, doubled * pow(2 * point.y, -1, _P) % _P)


def negative(point: Point) -> Point:
    """Return the point whose sum with this one is the neutral element."""
    return Point(point.x, _P - point.y)


def total(one: Point, other: Point) -> Point:
    """Return the sum of two points.

    Raises NotAPoint for a point and itself, or its negative: no honest peer has those.
    """
    if one.x == other.x:
        raise NotAPoint("a point and itself, or its negative")
    slope = (other.y - one.y) * pow(other.x - one.x, -1, _P) % _P
    x = (slope * slope - one.x - other.x) % _P
    return Point(x, (slope * (one.x - x) - one.y) % _P)
