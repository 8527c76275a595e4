"""Input of a network peer: QUIC datagrams in every state, 1-RTT payloads, and a session's parameters."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, strategies as st

from hsframework.errors import HandshakeError, MessageError, StreamError
from hsframework.interface import Role
from hsframework.netlink.attributes import attribute_codec
from hsframework_quic.aioquic_adapter.restore import restore
from hsframework_quic.handshake.frames import glimpse
from hsframework_quic.handshake.packets import short_packet
from hsframework_quic.session import QuicSession, specification
from tests.fuzz.conftest import Fuzz
from tests.fuzz.mutation import Damage, damaged, damages
from tests.support.quic_network import START, Network, Ours, our_client, our_server

pytestmark = pytest.mark.fuzz


def whole() -> tuple[Ours, Ours]:
    """Make a client and a server that have their sessions."""
    client, server = our_client(), our_server(issue=lambda session: b"ticket")
    assert Network(client, server).run(lambda: client.session is not None and server.session is not None)
    return client, server


SESSIONS = [side.session for side in whole() if side.session is not None]
CODEC = attribute_codec(specification(), "session")


def test_damaged_datagrams(fuzz: Fuzz) -> None:
    """Any datagram of a handshake damaged, and junk between them: it completes or fails with an errno, never more sent
    than three times what came before the address is validated."""

    @given(
        st.dictionaries(st.integers(0, 8), damages(1300), max_size=3), st.lists(st.binary(max_size=1300), max_size=3)
    )
    def target(changes: dict[int, Damage], junk: list[bytes]) -> None:
        client, server = our_client(), our_server()
        count = received = sent = 0

        def tap(source: object, datagram: bytes) -> bytes:
            nonlocal count, received, sent
            if count in changes:
                datagram = changes[count](datagram)
            count += 1
            connection = server.handshake._connection
            if source is client:
                received += len(datagram) + sum(map(len, junk))
            elif connection is not None and not connection._network_paths[0].is_validated:
                sent += len(datagram)
                assert sent <= 3 * received
            return datagram

        for item in junk:
            server.receive(item, START)
            client.receive(item, START)
        network = Network(client, server, tap=tap)
        network.run(lambda: _over(client) and _over(server), 20.0)
        for side in (client, server):
            error = side.handshake.error
            assert error is None or (isinstance(error, HandshakeError) and error.errno)

    fuzz(target)


def _over(side: Ours) -> bool:
    return side.session is not None or side.handshake.error is not None


def test_payloads(fuzz: Fuzz) -> None:
    """A decrypted 1-RTT payload of any content is looked into without harm."""
    good = (
        b"\x1e\x06\x00\x04abcd\x02\x05\x00\x01\x00\x00\x00\x18\x01\x00\x08abcdefgh" + bytes(16) + b"\x1c\x00\x00\x01x"
    )

    @given(st.one_of(damaged(good), st.binary(max_size=60)))
    def target(payload: bytes) -> None:
        seen = glimpse(payload)
        assert sum(len(data) for _, data in seen.crypto) <= len(payload)
        assert payload.endswith(short_packet(payload))

    fuzz(target)


def test_sessions(fuzz: Fuzz) -> None:
    """Damaged parameters are refused, or make a connection that stands datagrams and timers."""
    good = [CODEC.encode(session.to_parameters()) for session in SESSIONS]

    @given(st.sampled_from(range(len(good))), st.data(), st.sampled_from(Role))
    def target(index: int, data: st.DataObject, role: Role) -> None:
        with contextlib.suppress(StreamError, MessageError):
            session = QuicSession.from_parameters(role, "test", CODEC.decode(data.draw(damaged(good[index]))))
            quic = restore(session, now=START)
            for packet in session.packets:
                quic.receive_datagram(packet, quic.get_peer_address(), START)
            quic.send_stream_data(quic.get_next_available_stream_id(), b"hello")
            quic.datagrams_to_send(START)
            quic.get_timer()

    fuzz(target)
