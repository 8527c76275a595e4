"""Encoded submits are kept for options that are used again, and never with a secret in them."""

from __future__ import annotations

import pytest

from hsframework.client import HandshakeOptions
from hsframework.client.submits import Submits, encode_submit
from hsframework.interface import Identity, PresharedKey, Role, Secret
from tests.unit.client.fake_dispatcher import CODEC

SECRET = b"a secret of sixteen+"
PLAIN = HandshakeOptions(peer_name="server.example", profile="client")


def test_the_same_options_have_the_same_submit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cached message equals one that is encoded anew, for each of several options, under a number of its own."""
    submits = Submits(None)
    several = [HandshakeOptions(peer_name=f"server{number}.example") for number in range(3 * Submits.MOST)]
    for _ in range(2):
        for options in (PLAIN, *several):
            assert submits.encode(options, 0) == encode_submit(options, None)
    assert len(submits._encoded) == Submits.MOST
    monkeypatch.setattr("hsframework.client.submits.encode_submit", encoded_anew)
    first, second = (CODEC.decode(submits.encode(several[-1], number)) for number in (7, 0xFFFFFFFF))
    assert (first.sequence, second.sequence) == (7, 0xFFFFFFFF)
    assert first.values == second.values == {**second.values, "peername": several[-1].peer_name}


def encoded_anew(options: HandshakeOptions, registry: object) -> bytes:
    """Fail: for options that are kept."""
    raise AssertionError


@pytest.mark.parametrize(
    "options",
    [
        HandshakeOptions(psks=(PresharedKey(b"id", Secret(SECRET)),)),
        HandshakeOptions(role=Role.SERVER, identities=(Identity((b"leaf",), Secret(SECRET)),)),
        HandshakeOptions(attributes=SECRET),
    ],
)
def test_secrets_are_not_kept(options: HandshakeOptions) -> None:
    """Keys, and what a protocol's own attributes may hold, go out and are forgotten."""
    submits = Submits(None)
    assert SECRET in submits.encode(options, 1)
    assert not submits._encoded
