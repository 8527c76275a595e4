"""The attributes of a request."""

from __future__ import annotations

import errno

import pytest
from hsframework.errors import HandshakeError
from hsframework.interface import AuthMode, Request, Role, Secret, anybody

from hsframework_noise.exchange import Exchange
from hsframework_noise.patterns import PATTERNS
from hsframework_noise.wanted import MAX_PAYLOAD, Wanted, read_request
from keys import OURS, THEIRS


def read(role: Role, pattern: str, payload: bytes) -> Wanted:
    """Return what is read of the request of one end, with a PSK."""
    ours, theirs = (OURS, THEIRS) if role is Role.CLIENT else (THEIRS, OURS)
    attributes = {
        "pattern": pattern,
        "static-key": ours.secret,
        "remote-static-key": [theirs.public],
        "psk": Secret(bytes(32)),
        "payload": Secret(payload),
    }
    request = Request(
        id=1, group="noise", role=role, auth_mode=AuthMode.UNAUTHENTICATED, deadline=0.0, attributes=attributes
    )
    return read_request(request, default_pattern="XX", keys={})


@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_the_largest_payload(pattern: str) -> None:
    """A payload of MAX_PAYLOAD bytes fits into the message that carries it, and one that is longer is refused."""
    sides = [Exchange(read(role, pattern, bytes(MAX_PAYLOAD)), anybody) for role in (Role.CLIENT, Role.SERVER)]
    for index in range(len(PATTERNS[pattern].sizes)):
        sides[1 - index % 2].receive(sides[index % 2].message())
    assert [side.established.payloads[-1] for side in sides] == [Secret(bytes(MAX_PAYLOAD))] * 2
    with pytest.raises(HandshakeError) as caught:
        read(Role.CLIENT, pattern, bytes(MAX_PAYLOAD + 1))
    assert caught.value.errno == errno.EINVAL
