"""Handshakes in memory, ours against ours and against aioquic's own, and the connections that go on from them."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings, strategies as st

from hsframework.errors import StreamError
from hsframework.failures import Failure
from hsframework_quic.session import VERSION_1, VERSION_2
from hsframework_quic.settings import Settings
from tests.support.quic_network import (
    START,
    Badness,
    Bare,
    Network,
    Ours,
    bare_client,
    bare_server,
    errno_of,
    exchange,
    our_client,
    our_server,
)


def bare_server_for(client: Ours) -> Bare:
    """Make aioquic's server for one client of ours."""
    connection = client.handshake._connection
    assert connection is not None
    return bare_server(connection.original_destination_connection_id)


def sides(ours: str, settings: Settings | None = None) -> tuple[Ours | Bare, Ours | Bare]:
    """Make client and server; ``ours``: the one that is ours."""
    client = our_client(settings=settings) if ours != "server" else bare_client(START)
    if ours == "client":
        assert isinstance(client, Ours)
        return client, bare_server_for(client)
    return client, our_server(settings)


@pytest.mark.parametrize("ours", ["both", "client", "server"])
@pytest.mark.parametrize("versions", [("v1", "v2"), ("v2", "v1"), ("v2",), ("v1",)])
@pytest.mark.parametrize("cipher", ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"])
def test_what_is_handed_over_goes_on(ours: str, versions: tuple[str, ...], cipher: str) -> None:
    """Both roles, both versions, every cipher: streams, datagrams, key updates both ways and a close."""
    client, server = sides(ours, Settings(versions=versions, ciphers=(cipher,)))
    network = Network(client, server)
    assert network.run(lambda: _ready(client) and _ready(server), 5.0)
    for side in (client, server):
        if isinstance(side, Ours):
            assert side.session is not None
            assert side.session.version in {"v1": {VERSION_1}, "v2": {VERSION_2}}.get(
                versions[0] if len(versions) == 1 else "", {VERSION_1, VERSION_2}
            )
            assert side.session.alpn == "test"
    exchange(network, client, server)


def test_a_client_moves_to_the_version_that_both_prefer() -> None:
    """Compatible version negotiation (RFC 9368 section 2.3): it begins with v1, and both would rather have v2."""
    client, server = our_client(settings=Settings(versions=("v1", "v2"))), our_server(Settings(versions=("v1", "v2")))
    network = Network(client, server)
    assert network.run(lambda: _ready(client) and _ready(server), 5.0)
    client, server = our_client(settings=Settings(versions=("v2", "v1"))), our_server(Settings(versions=("v1",)))
    network = Network(client, server)
    assert network.run(lambda: _ready(client) and _ready(server), 5.0)
    assert client.session is not None
    assert client.session.version == VERSION_1
    exchange(network, client, server)


@pytest.mark.parametrize("versions", [("v1",), ("v2", "v1")])
@pytest.mark.parametrize("probes", [1, 2])
def test_a_probe_before_the_client_hello_is_no_violation(versions: tuple[str, ...], probes: int) -> None:
    """The client's first flight is lost, and its first datagrams that arrive have PING alone, as OpenSSL 3.5's."""
    client, server = our_client(settings=Settings(versions=versions)), our_server(Settings(versions=versions))
    connection = client.handshake._connection
    assert connection is not None
    assert client.handshake.output(START)
    for _ in range(probes):
        connection._probe_pending = True
        for probe in client.handshake.output(START):
            assert len(probe) >= 1200
            server.receive(probe, START)
    network = Network(client, server)
    assert network.run(lambda: _ready(client) and _ready(server), 10.0)
    exchange(network, client, server)


@pytest.mark.parametrize("ours", ["both", "client", "server"])
@pytest.mark.parametrize("datagrams", range(12))
def test_nothing_is_lost_wherever_the_hand_over_falls(ours: str, datagrams: int) -> None:
    """Each single datagram of handshake and hand-over lost in turn: data still arrives whole, both ways."""
    client, server = sides(ours)
    count = 0

    def lose_one(source: object, datagram: bytes) -> bytes | None:
        nonlocal count
        count += 1
        return None if count == datagrams + 1 else datagram

    network = Network(client, server, tap=lose_one)
    assert network.run(lambda: _ready(client) and _ready(server), 10.0)
    exchange(network, client, server)


@pytest.mark.parametrize("ours", ["client", "server"])
@pytest.mark.parametrize("seed", range(10))
def test_data_right_behind_the_handshake(ours: str, seed: int) -> None:
    """A peer that speaks as soon as it can, on a network that reorders: its 1-RTT packets reach the consumer."""
    client, server = sides(ours)
    network = Network(client, server, Badness(drop=0.1, duplicate=0.1, reorder=0.5, delay=0.02), seed=seed)
    sent: set[int] = set()

    def speak() -> bool:
        for side in (client, server):
            if isinstance(side, Bare) and side.complete and id(side) not in sent:
                sent.add(id(side))
                side.quic.send_stream_data(side.quic.get_next_available_stream_id(), b"early" * 200)
        return _ready(client) and _ready(server)

    assert network.run(speak, 20.0)
    assert network.run(
        lambda: all(
            len(other.received) == 1000 for side, other in ((client, server), (server, client)) if id(side) in sent
        ),
        20.0,
    )


LATE = st.lists(st.sampled_from([0.001, 0.005, 0.03, 0.3, 1.2]), max_size=2)
MAX_LOST = 5
"""Each loss in a row doubles the PTO (RFC 9002 section 6.2.1): with eight the idle timeout is sooner."""


@settings(max_examples=150, deadline=None)
@given(
    ours=st.sampled_from(["both", "client", "server"]),
    fates=st.lists(LATE, max_size=14).filter(lambda fates: fates.count([]) <= MAX_LOST),
    gaps=st.tuples(*[st.sampled_from([0.0, 0.002, 0.02, 0.5, 3.0])] * 2),
)
def test_any_order_of_delivery(ours: str, fates: list[list[float]], gaps: tuple[float, float]) -> None:
    """The first datagrams lost, doubled and in any order, and consumers that take their time: nothing is missing.

    So hand-over falls on every point of delivery, with what is under way before, within the session, in the socket.
    """
    client = our_client(gap=gaps[0]) if ours != "server" else bare_client(START)
    if ours == "client":
        assert isinstance(client, Ours)
        server: Ours | Bare = bare_server_for(client)
    else:
        server = our_server(gap=gaps[1])
    network = Network(client, server, fates=fates)
    early = {id(side): False for side in (client, server)}

    def speak() -> bool:
        for side in (client, server):
            if isinstance(side, Bare) and side.complete and not early[id(side)]:
                early[id(side)] = True
                side.quic.send_stream_data(side.quic.get_next_available_stream_id(), b"early" * 600)
        return all(side.quic is not None and _ready(side) for side in (client, server))

    assert network.run(speak, 40.0)
    for side, other in ((client, server), (server, client)):
        if early[id(side)]:
            assert network.run(lambda: len(other.received) >= 3000, 20.0)  # noqa: B023
            assert bytes(other.received) == b"early" * 600
            other.received.clear()
            assert side.quic is not None
            side.quic.send_stream_data(side.quic.get_next_available_stream_id() - 4, b"", end_stream=True)
    exchange(network, client, server, size=3000)


def test_two_hundred_handshakes_on_a_bad_network() -> None:
    """Up to 30 % lost, doubled, reordered and delayed, by seed: each completes on both sides, or has failed by its
    deadline; a deadline of ten seconds is enough for nearly all."""
    completed = 0
    for seed in range(200):
        client, server = our_client(), our_server()
        bad = 0.3 * (seed % 10 + 1) / 10
        network = Network(client, server, Badness(drop=bad, duplicate=bad, reorder=bad, delay=0.1), seed=seed)
        if network.run(lambda: _over(client) and _over(server), 10.0):  # noqa: B023
            assert errno_of(client) in (None, errno.ETIMEDOUT, errno.ECONNRESET)
            assert errno_of(server) in (None, errno.ETIMEDOUT, errno.ECONNRESET)
        else:
            for side in (client, server):
                side.handshake.abort(Failure.SILENCE)
        if _ready(client) and _ready(server):
            completed += 1
            if seed % 20 == 9:
                exchange(network, client, server, size=2000)
    assert completed >= 195


def test_a_session_says_what_was_sent() -> None:
    """A server hands over its HANDSHAKE_DONE as unacknowledged; its consumer repeats it when it is lost."""
    client, server = our_client(), our_server()
    network = Network(client, server, tap=lambda source, datagram: datagram)
    assert network.run(lambda: _ready(server), 5.0)
    assert server.session is not None
    assert [frame.type for packet in server.session.sent for frame in packet.frames] == [0x1E]
    assert server.session.sent[0].number < server.session.next_packet_number
    assert server.session.round_trip_time is not None


def test_parameters_that_are_no_session_are_refused() -> None:
    """StreamError, whatever is missing or wrong."""
    client, server = our_client(), our_server()
    Network(client, server).run(lambda: _ready(client), 5.0)
    assert client.session is not None
    whole = client.session.to_parameters()
    read = type(client.session).from_parameters
    for name in ("version", "cipher", "client-secret", "local-connection-id", "peer-transport-parameters"):
        with pytest.raises(StreamError):
            read(client.session.role, "test", {key: value for key, value in whole.items() if key != name})
    for changes in (
        {"version": 7},
        {"cipher": 0x1304},
        {"key-phase": 2},
        {"max-datagram-size": 10},
        {"next-packet-number": 1 << 62},
        {"local-connection-id": [{"sequence": 1 << 63, "id": b"12345678"}]},
        {"acknowledged": [{"first": 0, "last": 1 << 63}]},
        {"pending-frame": [{"type": 6, "offset": 1 << 62}]},
    ):
        with pytest.raises(StreamError):
            read(client.session.role, "test", whole | changes)


def _ready(side: Ours | Bare) -> bool:
    return side.complete if isinstance(side, Bare) else side.session is not None


def _over(side: Ours) -> bool:
    return side.session is not None or side.handshake.error is not None
