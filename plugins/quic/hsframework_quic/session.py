"""The session that the agent hands to a consumer: attribute set ``session`` of ``specs/quic.yaml``.

Promises of the two:

* The agent acts on no 1-RTT frame.  It looks into the peer's 1-RTT packets (a client: for HANDSHAKE_DONE and tickets)
  and hands every one on as it came, in :attr:`QuicSession.packets`.  So streams, flow control, the peer's further
  connection ids and its key updates begin at the consumer, with the values of the transport parameters.
* The agent's own 1-RTT packets (a server's have HANDSHAKE_DONE and a ticket) are in :attr:`QuicSession.sent` unless
  they were acknowledged, and the consumer sends their frames again when they are lost.
* A session encodes to less than 64 KiB.  A 1-RTT packet that does not fit is dropped unacknowledged: the peer sends it
  again.
* ALPN and the peer's certificates travel beside the session, in the result itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from hsframework.errors import StreamError
from hsframework.interface import EstablishedSession, Role, Secret
from hsframework.netlink.spec import Specification, package_specification

VERSION_1 = 0x00000001
VERSION_2 = 0x6B3343CF
VERSIONS = {VERSION_1: "QUICv1", VERSION_2: "QUICv2"}

SECRET_SIZES = {0x1301: 32, 0x1302: 48, 0x1303: 32}
"""Bytes of a traffic secret, by cipher suite."""

PING, CRYPTO, HANDSHAKE_DONE = 0x01, 0x06, 0x1E

MAX_PACKETS = 32
MAX_PACKET_BYTES = 32 * 1024
"""1-RTT packets that a session carries: their number and their size together."""
MAX_TRANSPORT_PARAMETERS = 8 * 1024
"""Bytes of one side's transport parameters."""
MAX_NUMBER = 1 << 61
"""Of packets, connection ids and bytes: half of what a variable-length integer can be (RFC 9000 section 16)."""
MAX_TICKET = 4 * 1024
"""Bytes of a ticket's identity; a longer one is not kept."""

_Built = TypeVar("_Built")


@cache
def specification() -> Specification:
    """Return the plugin's netlink spec."""
    return package_specification("hsframework_quic", "quic")


@dataclass(frozen=True, slots=True)
class ConnectionId:
    """A connection id.  ``reset_token``: the stateless reset token that goes with it, 16 bytes; None: there is none."""

    sequence: int
    id: bytes
    reset_token: Secret | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of a packet that was sent.

    ``type``: PING, CRYPTO or HANDSHAKE_DONE.  ``offset`` and ``data`` are a CRYPTO frame's.
    """

    type: int
    offset: int = 0
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class SentPacket:
    """A packet that was sent.

    ``sent_at``: microseconds on CLOCK_MONOTONIC.  ``size``: bytes in flight that it counts for.
    """

    number: int
    sent_at: int
    size: int
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class RoundTripTime:
    """The estimates of RFC 9002 section 5, in microseconds."""

    latest: int
    minimum: int
    smoothed: int
    variation: int


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket.  ``lifetime``: seconds from its arrival.  ``secret``: the resumption PSK."""

    identity: bytes
    secret: Secret
    cipher: int
    lifetime: int
    age_add: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuicSession:
    """A connection whose handshake is complete, and for a client confirmed (RFC 9001 section 4.1.2)."""

    role: Role
    """Our side."""
    version: int
    """As on the wire, after version negotiation."""
    cipher: int
    """TLS cipher suite, 0x1301 to 0x1303."""
    alpn: str | None
    client_secret: Secret
    server_secret: Secret
    """The 1-RTT secrets of ``key_phase``."""
    key_phase: int = 0
    exporter_secret: Secret
    """exporter_master_secret (RFC 8446 section 7.5)."""
    client_random: bytes
    """Names the session in a key log; 32 bytes."""
    original_destination_connection_id: bytes
    """Names the connection in a qlog."""
    local_connection_ids: tuple[ConnectionId, ...]
    """Ours that are in force, by sequence number: the destination of what the peer sends."""
    peer_connection_ids: tuple[ConnectionId, ...]
    """The peer's that are in force, the one in use first."""
    local_transport_parameters: Secret
    peer_transport_parameters: Secret
    """Bodies of the extensions (RFC 9000 section 18), as they were sent.  A server's have a stateless reset token."""
    next_packet_number: int
    """Of the next packet that we send in the application data space; all below are used up or skipped."""
    acknowledged: tuple[range, ...] = ()
    """Packet numbers of the peer that an ACK of ours named; all of them are among ``packets``."""
    sent: tuple[SentPacket, ...] = ()
    """1-RTT packets of ours that are not acknowledged, by number."""
    pending: tuple[Frame, ...] = ()
    """Frames that are due and in no packet yet."""
    round_trip_time: RoundTripTime | None = None
    max_datagram_size: int = 1200
    """Bytes of UDP payload that we send at most."""
    packets: tuple[bytes, ...] = ()
    """1-RTT packets that arrived during the handshake, protected as they came, in their order."""
    ticket: Ticket | None = None
    """A client's, for its next connection."""
    resumed: bool = False

    @property
    def send_secret(self) -> Secret:
        """The secret that protects our packets."""
        return self.client_secret if self.role is Role.CLIENT else self.server_secret

    @property
    def receive_secret(self) -> Secret:
        """The secret that protects the peer's packets."""
        return self.server_secret if self.role is Role.CLIENT else self.client_secret

    def to_parameters(self) -> dict[str, Any]:
        """Return the values of the attribute set ``session``."""
        return {
            "version": self.version,
            "cipher": self.cipher,
            "client-secret": self.client_secret,
            "server-secret": self.server_secret,
            "key-phase": self.key_phase,
            "exporter-secret": self.exporter_secret,
            "client-random": self.client_random,
            "original-destination-connection-id": self.original_destination_connection_id,
            "local-connection-id": [_from_connection_id(item) for item in self.local_connection_ids],
            "peer-connection-id": [_from_connection_id(item) for item in self.peer_connection_ids],
            "local-transport-parameters": self.local_transport_parameters,
            "peer-transport-parameters": self.peer_transport_parameters,
            "next-packet-number": self.next_packet_number,
            "acknowledged": [{"first": item.start, "last": item.stop - 1} for item in self.acknowledged],
            "sent-packet": [_from_sent(item) for item in self.sent],
            "pending-frame": [_from_frame(item) for item in self.pending],
            "round-trip-time": None if self.round_trip_time is None else _from_rtt(self.round_trip_time),
            "max-datagram-size": self.max_datagram_size,
            "packet": list(self.packets),
            "ticket": None if self.ticket is None else _from_ticket(self.ticket),
            "resumed": self.resumed,
        }

    @classmethod
    def from_parameters(cls, role: Role, alpn: str | None, parameters: Mapping[str, Any]) -> QuicSession:
        """Return the session with these parameters.

        Raises StreamError for parameters that are not those of a QUIC session.
        """
        try:
            session = _read(role, alpn, parameters)
        except KeyError as error:
            raise StreamError(f"the session's parameters have no {error.args[0]}") from None
        session._check()
        return session

    @classmethod
    def of(cls, session: EstablishedSession) -> QuicSession:
        """Return the session that the service handed over.  Raises StreamError."""
        return cls.from_parameters(session.role, session.alpn, session.parameters)

    def _check(self) -> None:
        size = SECRET_SIZES.get(self.cipher)
        if self.version not in VERSIONS or size is None:
            raise StreamError("the session's parameters name no version of QUIC and cipher suite that are known here")
        if len(self.client_secret) != size or len(self.server_secret) != size or self.key_phase not in (0, 1):
            raise StreamError(f"the session's secrets are not of {size} bytes each, or of no key phase")
        if not self.local_connection_ids or not self.peer_connection_ids:
            raise StreamError("the session's parameters name no connection id of one side")
        if any(len(item.id) > 20 for item in (*self.local_connection_ids, *self.peer_connection_ids)):
            raise StreamError("the session's parameters have a connection id of more than 20 bytes")
        if not 1200 <= self.max_datagram_size <= 65527:
            raise StreamError("the session's datagram size is not from 1200 to 65527")
        if any(number > MAX_NUMBER for number in self._numbers()):
            raise StreamError("the session's parameters have a number that no connection comes to")

    def _numbers(self) -> Iterator[int]:
        """Yield all numbers that go out as variable-length integers."""
        yield self.next_packet_number
        for connection_id in (*self.local_connection_ids, *self.peer_connection_ids):
            yield connection_id.sequence
        for numbers in self.acknowledged:
            yield numbers.stop
        for packet in self.sent:
            yield packet.number
        for frame in (*self.pending, *(frame for packet in self.sent for frame in packet.frames)):
            yield frame.offset


def _read(role: Role, alpn: str | None, values: Mapping[str, Any]) -> QuicSession:
    return QuicSession(
        role=role,
        alpn=alpn,
        version=values["version"],
        cipher=values["cipher"],
        client_secret=values["client-secret"],
        server_secret=values["server-secret"],
        key_phase=values.get("key-phase", 0),
        exporter_secret=values["exporter-secret"],
        client_random=values["client-random"],
        original_destination_connection_id=values["original-destination-connection-id"],
        local_connection_ids=_all(values, "local-connection-id", _to_connection_id),
        peer_connection_ids=_all(values, "peer-connection-id", _to_connection_id),
        local_transport_parameters=values["local-transport-parameters"],
        peer_transport_parameters=values["peer-transport-parameters"],
        next_packet_number=values["next-packet-number"],
        acknowledged=_all(values, "acknowledged", lambda item: range(item["first"], item["last"] + 1)),
        sent=_all(values, "sent-packet", _to_sent),
        pending=_all(values, "pending-frame", _to_frame),
        round_trip_time=_optional(values, "round-trip-time", lambda item: RoundTripTime(**item)),
        max_datagram_size=values.get("max-datagram-size", 1200),
        packets=tuple(values.get("packet", ())),
        ticket=_optional(values, "ticket", _to_ticket),
        resumed="resumed" in values and values["resumed"] is True,
    )


def _all(values: Mapping[str, Any], name: str, build: Callable[[Any], _Built]) -> tuple[_Built, ...]:
    return tuple(build(item) for item in values.get(name, ()))


def _optional(values: Mapping[str, Any], name: str, build: Callable[[Any], _Built]) -> _Built | None:
    item = values.get(name)
    try:
        return None if item is None else build(item)
    except TypeError:
        raise KeyError(f"whole {name}") from None


def _from_connection_id(item: ConnectionId) -> dict[str, Any]:
    return {"sequence": item.sequence, "id": item.id, "reset-token": item.reset_token}


def _to_connection_id(values: Mapping[str, Any]) -> ConnectionId:
    return ConnectionId(values["sequence"], values["id"], values.get("reset-token"))


def _from_frame(item: Frame) -> dict[str, Any]:
    if item.type != CRYPTO:
        return {"type": item.type}
    return {"type": item.type, "offset": item.offset, "data": item.data}


def _to_frame(values: Mapping[str, Any]) -> Frame:
    return Frame(values["type"], values.get("offset", 0), values.get("data", b""))


def _from_sent(item: SentPacket) -> dict[str, Any]:
    frames = [_from_frame(frame) for frame in item.frames]
    return {"number": item.number, "sent-at": item.sent_at, "size": item.size, "frame": frames}


def _to_sent(values: Mapping[str, Any]) -> SentPacket:
    frames = tuple(_to_frame(frame) for frame in values.get("frame", ()))
    return SentPacket(values["number"], values["sent-at"], values["size"], frames)


def _from_rtt(item: RoundTripTime) -> dict[str, Any]:
    return {
        "latest": item.latest,
        "minimum": item.minimum,
        "smoothed": item.smoothed,
        "variation": item.variation,
    }


def _from_ticket(item: Ticket) -> dict[str, Any]:
    return {
        "identity": item.identity,
        "secret": item.secret,
        "cipher": item.cipher,
        "lifetime": item.lifetime,
        "age-add": item.age_add,
    }


def _to_ticket(values: Mapping[str, Any]) -> Ticket:
    return Ticket(values["identity"], values["secret"], values["cipher"], values["lifetime"], values["age-add"])
