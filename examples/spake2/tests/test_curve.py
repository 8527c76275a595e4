"""Points of P-256, against OpenSSL's own multiplication."""

from __future__ import annotations

import secrets

import pytest

from hsframework_spake2.curve import ORDER, NotAPoint, Point, decode, generated, negative, product, total

GENERATOR = generated(1)
SCALARS = [1, 2, 3, ORDER - 2, *(1 + secrets.randbelow(ORDER - 2) for _ in range(8))]


@pytest.mark.parametrize("scalar", SCALARS)
def test_products(scalar: int) -> None:
    """Both coordinates of a product of the generator are those of OpenSSL's."""
    assert product(scalar, GENERATOR) == generated(scalar)


def test_sums() -> None:
    """A sum of products is the product of the sum; what is added can be taken away."""
    one, other = 1 + secrets.randbelow(1 << 200), 2 + secrets.randbelow(1 << 200)
    both = total(generated(one), generated(other + (1 << 201)))
    assert both == generated(one + other + (1 << 201))
    assert total(both, negative(generated(one))) == generated(other + (1 << 201))


@pytest.mark.parametrize("other", [GENERATOR, negative(GENERATOR)])
def test_a_sum_that_no_honest_peer_has(other: Point) -> None:
    """A point is not added to itself, nor to its negative, which has no coordinates as a sum."""
    with pytest.raises(NotAPoint):
        total(GENERATOR, other)


def test_encodings() -> None:
    """A point is decoded from its own encoding and from a compressed one."""
    assert decode(GENERATOR.encoded) == GENERATOR
    assert decode(bytes([2 + GENERATOR.y % 2]) + GENERATOR.x.to_bytes(32, "big")) == GENERATOR


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\4" + bytes(64),
        b"\4" + b"\xff" * 64,
        GENERATOR.encoded[:-1] + b"\0",
        b"\6" + GENERATOR.encoded[1:],
    ],
)
def test_what_is_no_point(data: bytes) -> None:
    """The neutral element, points off the curve, coordinates out of range and other encodings are refused."""
    with pytest.raises(NotAPoint):
        decode(data)
