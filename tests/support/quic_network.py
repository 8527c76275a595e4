"""Handshakes over a network in memory, in virtual time: it loses, doubles, delays and reorders by a seed.

``Side`` is one end: a handshake of ours with the connection restored from its session, or a bare aioquic connection.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from typing import Protocol

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key

from hsframework.credentials.chain import Purpose, verifier_for
from hsframework.errors import HandshakeError
from hsframework.interface import Identity, Role
from hsframework.netlink.attributes import attribute_codec
from hsframework.testing.certificates import Authority
from hsframework_quic.aioquic_adapter.handshaking import PEER
from hsframework_quic.aioquic_adapter.restore import restore
from hsframework_quic.aioquic_adapter.tls_options import TlsOptions
from hsframework_quic.handshake.client import ClientHandshake
from hsframework_quic.handshake.handshake import Handshake
from hsframework_quic.handshake.server import ServerHandshake
from hsframework_quic.session import QuicSession, specification
from hsframework_quic.settings import Settings

NAME = "server.example"
START = 1000.0
"""Beginning of virtual time, in seconds."""


@cache
def authority() -> Authority:
    return Authority("QUIC Root")


@cache
def identity(name: str = NAME) -> Identity:
    return authority().issue([name]).identity


def client_options(**changes: object) -> TlsOptions:
    """Return options of a client that trusts the authority and wants ``server.example``."""
    verifier = verifier_for(authority().trust())

    def verify(chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return verifier.verify(chain, purpose=Purpose.SERVER_AUTH, peer_name=NAME, now=datetime.now(UTC))

    values: dict[str, object] = {"role": Role.CLIENT, "server_name": NAME, "alpn": ("test",), "verify": verify}
    return TlsOptions(**(values | changes))  # type: ignore[arg-type]


def server_options(**changes: object) -> TlsOptions:
    """Return options of a server that asks its client for nothing, or verifies what it asked for."""
    verifier = verifier_for(authority().trust())

    def verify(chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return verifier.verify(chain, purpose=Purpose.CLIENT_AUTH, peer_name=None, now=datetime.now(UTC))

    values: dict[str, object] = {"role": Role.SERVER, "identities": (identity(),), "alpn": ("test",), "verify": verify}
    return TlsOptions(**(values | changes))  # type: ignore[arg-type]


class Side(Protocol):
    """One end of the network."""

    def receive(self, datagram: bytes, now: float) -> None: ...

    def output(self, now: float) -> list[bytes]: ...

    def timer(self) -> float | None: ...

    def on_timer(self, now: float) -> None: ...


class Ours:
    """A handshake of ours; once it is over, the connection that its consumer goes on with.

    ``gap``: seconds from the hand-over to the consumer's first look; what arrives meanwhile waits in the socket.
    """

    def __init__(self, handshake: Handshake, gap: float = 0.0) -> None:
        self.handshake = handshake
        self._gap = gap
        self._goes_on_at: float | None = None
        self._in_the_socket: list[bytes] = []
        self.session: QuicSession | None = None
        self.quic: QuicConnection | None = None
        self.received = bytearray()
        self.events: list[events.QuicEvent] = []

    def receive(self, datagram: bytes, now: float) -> None:
        if self.session is not None and self.quic is None:
            self._in_the_socket.append(datagram)
        elif self.quic is None:
            self.handshake.receive(datagram, now)
            self._hand_over(now)
        else:
            self.quic.receive_datagram(datagram, PEER, now)
            self._take()

    def output(self, now: float) -> list[bytes]:
        datagrams = []
        if self.session is None:
            datagrams = self.handshake.output(now)
            self._hand_over(now)
        if self.quic is not None:
            datagrams += [data for data, _ in self.quic.datagrams_to_send(now)]
        return datagrams

    def timer(self) -> float | None:
        if self.session is not None and self.quic is None:
            return self._goes_on_at
        return self.handshake.timer() if self.quic is None else self.quic.get_timer()

    def on_timer(self, now: float) -> None:
        if self.session is not None and self.quic is None:
            self._go_on(now)
        elif self.quic is None:
            self.handshake.on_timer(now)
        else:
            self.quic.handle_timer(now)
            self._take()

    def _hand_over(self, now: float) -> None:
        if self.session is not None or not self.handshake.finished:
            return
        session = self.handshake.session()
        # The whole way: as bytes, by the specification.
        codec = attribute_codec(specification(), "session")
        values = codec.decode(codec.encode(session.to_parameters()))
        self.session = QuicSession.from_parameters(session.role, session.alpn, values)
        assert self.session == session
        self._goes_on_at = now + self._gap
        if not self._gap:
            self._go_on(now)

    def _go_on(self, now: float) -> None:
        assert self.session is not None
        self.quic = restore(self.session, now=now)
        for packet in (*self.session.packets, *self._in_the_socket):
            self.quic.receive_datagram(packet, PEER, now)
        self._take()

    def _take(self) -> None:
        assert self.quic is not None
        take_events(self.quic, self.received, self.events)


class Bare:
    """aioquic alone."""

    def __init__(self, quic: QuicConnection) -> None:
        self.quic = quic
        self.received = bytearray()
        self.events: list[events.QuicEvent] = []
        self.begun = quic.configuration.is_client

    def receive(self, datagram: bytes, now: float) -> None:
        self.begun = True
        self.quic.receive_datagram(datagram, PEER, now)
        take_events(self.quic, self.received, self.events)

    def output(self, now: float) -> list[bytes]:
        return [data for data, _ in self.quic.datagrams_to_send(now)] if self.begun else []

    def timer(self) -> float | None:
        return self.quic.get_timer() if self.begun else None

    def on_timer(self, now: float) -> None:
        self.quic.handle_timer(now)
        take_events(self.quic, self.received, self.events)

    @property
    def complete(self) -> bool:
        """True if its handshake has completed."""
        return any(isinstance(event, events.HandshakeCompleted) for event in self.events)


def take_events(quic: QuicConnection, received: bytearray, seen: list[events.QuicEvent]) -> None:
    """Sort out what happened."""
    while (event := quic.next_event()) is not None:
        seen.append(event)
        if isinstance(event, events.StreamDataReceived):
            received += event.data


def bare_client(now: float, **changes: object) -> Bare:
    """Make aioquic a client that trusts the authority."""
    values: dict[str, object] = {"is_client": True, "alpn_protocols": ["test"], "server_name": NAME}
    values["cadata"] = authority().certificate_pem
    values["max_datagram_frame_size"] = 65535
    quic = QuicConnection(configuration=QuicConfiguration(**(values | changes)))  # type: ignore[arg-type]
    quic.connect(PEER, now)
    return Bare(quic)


def bare_server(original_destination: bytes, **changes: object) -> Bare:
    """Make aioquic a server with a certificate of the authority."""
    shown = identity()
    values: dict[str, object] = {"is_client": False, "alpn_protocols": ["test"], "max_datagram_frame_size": 65535}
    values["certificate"] = x509.load_der_x509_certificate(shown.chain[0])
    values["certificate_chain"] = [x509.load_der_x509_certificate(der) for der in shown.chain[1:]]
    values["private_key"] = load_der_private_key(shown.private_key.reveal(), None)
    configuration = QuicConfiguration(**(values | changes))  # type: ignore[arg-type]
    return Bare(QuicConnection(configuration=configuration, original_destination_connection_id=original_destination))


def our_client(now: float = START, settings: Settings | None = None, gap: float = 0.0, **changes: object) -> Ours:
    return Ours(ClientHandshake(settings or Settings(), client_options(**changes), now), gap)


def our_server(settings: Settings | None = None, gap: float = 0.0, **changes: object) -> Ours:
    return Ours(ServerHandshake(settings or Settings(), server_options(**changes)), gap)


@dataclass
class Badness:
    """Probabilities of what happens to a datagram, and the longest delay in seconds."""

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    delay: float = 0.0

    def fates(self, chance: random.Random) -> list[float]:
        """Return the delays in seconds with which copies of a datagram arrive."""
        if chance.random() < self.drop:
            return []
        copies = 2 if chance.random() < self.duplicate else 1
        return [0.005 + self._late(chance) for _ in range(copies)]

    def _late(self, chance: random.Random) -> float:
        late = chance.random() * self.delay
        return late + (0.05 * chance.random() if chance.random() < self.reorder else 0.0)


@dataclass
class Network:
    """Two sides and what is under way.  ``tap`` sees each datagram, and what it returns goes on; None: nothing."""

    client: Side
    server: Side
    badness: Badness = field(default_factory=Badness)
    seed: int = 0
    now: float = START
    tap: Callable[[Side, bytes], bytes | None] = lambda source, datagram: datagram
    fates: list[list[float]] = field(default_factory=list)
    """Fates of the first datagrams, one after the other: the delay of each copy."""

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._order = itertools.count()
        self._under_way: list[tuple[float, int, Side, bytes]] = []
        self.carried = 0

    def run(self, until: Callable[[], bool], seconds: float = 30.0) -> bool:
        """Let time pass until it is so.  False: it was not within ``seconds``, or nothing will ever happen again."""
        end = self.now + seconds
        self._flush()
        while not until():
            if not self._step(end):
                return until()
        return True

    def _step(self, end: float) -> bool:
        """Go on to the next thing that happens."""
        timers = [(at, side) for side in (self.client, self.server) if (at := side.timer()) is not None]
        arrival = self._under_way[0][0] if self._under_way else None
        times = [at for at, _ in timers] + ([] if arrival is None else [arrival])
        if not times or min(times) > end:
            self.now = end
            return False
        # Real time never stands still, and aioquic relies on that where an ACK and its pacer are due at once.
        self.now = max(self.now + 1e-6, min(times))
        if arrival is not None and arrival <= self.now:
            _, _, target, datagram = heapq.heappop(self._under_way)
            target.receive(datagram, self.now)
            self.carried += 1
        for at, side in timers:
            if at <= self.now:
                side.on_timer(self.now)
        self._flush()
        return True

    def _flush(self) -> None:
        for source, target in ((self.client, self.server), (self.server, self.client)):
            for datagram in source.output(self.now):
                passed = self.tap(source, datagram)
                for late in self._fates() if passed is not None else ():
                    assert passed is not None
                    heapq.heappush(self._under_way, (self.now + late, next(self._order), target, passed))

    def _fates(self) -> list[float]:
        return self.fates.pop(0) if self.fates else self.badness.fates(self._chance)


def errno_of(side: Ours) -> int | None:
    """Return the errno of a failed handshake."""
    error: HandshakeError | None = side.handshake.error
    return None if error is None else error.errno


def _have(size: int, *sides: Ours | Bare) -> bool:
    return all(len(side.received) >= size for side in sides)


def exchange(network: Network, client: Ours | Bare, server: Ours | Bare, size: int = 20_000) -> None:
    """Exchange a stream and a datagram each way, a key update by each, more data, and the client's close."""
    assert client.quic is not None
    assert server.quic is not None
    upload, download = random.Random(1).randbytes(size), random.Random(2).randbytes(size)
    mine, theirs = client.quic.get_next_available_stream_id(), server.quic.get_next_available_stream_id()
    client.quic.send_stream_data(mine, upload)
    server.quic.send_stream_data(theirs, download)
    assert network.run(lambda: len(client.received) >= size and len(server.received) >= size), "the streams stall"
    client.quic.send_datagram_frame(b"from the client")
    server.quic.send_datagram_frame(b"from the server")
    for updater, key in ((client, b"1"), (server, b"2")):
        assert updater.quic is not None
        updater.quic.request_key_update()
        client.quic.send_stream_data(mine, key)
        server.quic.send_stream_data(theirs, key)
        size += 1
        assert network.run(partial(_have, size, client, server)), "after a key update"
    assert bytes(server.received) == upload + b"12"
    assert bytes(client.received) == download + b"12"
    if network.badness.drop:
        return  # CONNECTION_CLOSE is sent once
    client.quic.close(error_code=7, reason_phrase="enough")
    assert network.run(lambda: any(isinstance(item, events.ConnectionTerminated) for item in server.events))
    ending = next(item for item in server.events if isinstance(item, events.ConnectionTerminated))
    assert ending.error_code == 7
