"""The published test vectors, byte for byte, through the code that serves handshakes and sessions."""

from __future__ import annotations

import pytest
from hsframework.interface import Secret, anybody

from hsframework_noise.exchange import Exchange
from hsframework_noise.framing import frame
from hsframework_noise.library import Machine, public_key
from hsframework_noise.patterns import PATTERNS
from hsframework_noise.session import to_parameters, to_transport
from hsframework_noise.transport import Direction, Transport
from hsframework_noise.wanted import Wanted
from vectors import Vector, read_vectors

# The library warns of ephemeral keys that are given to it, as they must be here.
pytestmark = pytest.mark.filterwarnings("ignore:One of ephemeral keypairs:UserWarning")

VECTORS = read_vectors()
WITHOUT_PAYLOADS = [item for item in VECTORS if not any(payload for payload, _ in item.messages[: item.handshake_size])]


def test_they_are_there() -> None:
    """Both patterns, with and without prologue, PSK and payloads."""
    assert len({(v.protocol_name, bool(v.prologue), bool(v.messages[0][0])) for v in VECTORS}) == 16
    assert len(WITHOUT_PAYLOADS) == 8


@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_handshake_state(vector: Vector) -> None:
    """Every message of the handshake is the vector's, is read again, and the split gives its transport messages."""
    initiator, responder = (machine(vector, initiator=is_initiator) for is_initiator in (True, False))
    for index, (payload, ciphertext) in enumerate(vector.messages[: vector.handshake_size]):
        writer, reader = (initiator, responder) if index % 2 == 0 else (responder, initiator)
        assert writer.write(payload) == ciphertext
        assert reader.read(ciphertext) == payload
    assert initiator.finished and responder.finished
    sides = []
    for side in (initiator, responder):
        send_key, receive_key, _ = side.split()
        sides.append((Direction(vector.protocol_name, send_key), Direction(vector.protocol_name, receive_key)))
    for index, (payload, ciphertext) in enumerate(vector.messages[vector.handshake_size :]):
        (sending, _), (_, receiving) = sides if index % 2 == 0 else reversed(sides)
        assert sending.encrypt(payload) == ciphertext
        assert receiving.decrypt(ciphertext) == payload


@pytest.mark.parametrize("vector", WITHOUT_PAYLOADS, ids=str)
def test_exchange(vector: Vector) -> None:
    """The same through what the agent runs and through what the consumer is given, framed as on the wire."""
    sides = [exchange(vector, initiator=True), exchange(vector, initiator=False)]
    for index, (_, ciphertext) in enumerate(vector.messages[: vector.handshake_size]):
        writer, reader = sides[index % 2], sides[1 - index % 2]
        assert writer.our_turn and not reader.our_turn
        assert writer.message() == ciphertext
        reader.receive(ciphertext)
    assert [side.established.peer.public_key for side in sides] == [
        public_key(Secret(vector.responder_static)),
        public_key(Secret(vector.initiator_static)),
    ]
    assert sides[0].established.handshake_hash == sides[1].established.handshake_hash
    transports = [transport(side) for side in sides]
    for index, (payload, ciphertext) in enumerate(vector.messages[vector.handshake_size :]):
        assert transports[index % 2].encrypt(payload) == frame(ciphertext)
        assert transports[1 - index % 2].decrypt(frame(ciphertext)) == payload


def machine(vector: Vector, *, initiator: bool) -> Machine:
    """Return one end in the library's terms."""
    known = initiator and vector.pattern == "IK"
    return Machine(
        vector.protocol_name,
        initiator=initiator,
        static=Secret(vector.initiator_static if initiator else vector.responder_static),
        remote_static=public_key(Secret(vector.responder_static)) if known else None,
        prologue=vector.prologue,
        psk=None if vector.psk is None else Secret(vector.psk),
        ephemeral=Secret(vector.initiator_ephemeral if initiator else vector.responder_ephemeral),
    )


def exchange(vector: Vector, *, initiator: bool) -> Exchange:
    """Return one end as a request asks for it."""
    wanted = Wanted(
        pattern=PATTERNS[vector.pattern],
        initiator=initiator,
        static=Secret(vector.initiator_static if initiator else vector.responder_static),
        peers=frozenset([public_key(Secret(vector.responder_static if initiator else vector.initiator_static))]),
        prologue=vector.prologue,
        psk=None if vector.psk is None else Secret(vector.psk),
    )
    assert wanted.protocol_name == vector.protocol_name
    ephemeral = Secret(vector.initiator_ephemeral if initiator else vector.responder_ephemeral)
    return Exchange(wanted, anybody, ephemeral=ephemeral)


def transport(side: Exchange) -> Transport:
    """Return the transport, by way of the parameters that a consumer gets."""
    return to_transport(to_parameters(side.established))
