"""The request: all that a handshaker is given for one handshake."""

from __future__ import annotations

import enum
import socket as _socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hsframework.errors import HandshakeError
from hsframework.interface.credentials import Identity, PresharedKey, Trust
from hsframework.interface.result import PeerIdentity


class Role(enum.IntEnum):
    """Which side of the handshake is ours: the ``message-type`` of the kernel's handshake family."""

    CLIENT = 1
    SERVER = 2


class AuthMode(enum.IntEnum):
    """How our side proves who it is: the ``auth-mode`` of the kernel's handshake family."""

    UNAUTHENTICATED = 1
    PSK = 2
    X509 = 3


class CertificateDemand(enum.IntEnum):
    """What a server asks of its client."""

    NONE = 0
    REQUEST = 1
    REQUIRE = 2


PskLookup = Callable[[bytes], Awaitable["PresharedKey | None"]]
"""A server's question for the key of the identity that its peer named; ``None``: no such key for this request."""


OpenNetlink = Callable[[int], Awaitable[_socket.socket]]
"""Asks for a netlink socket in the network namespace of the request's socket; the argument is the netlink family, for
example 16, generic netlink.  The handshaker closes it.  Raises HandshakeError."""


async def no_netlink(protocol: int) -> _socket.socket:
    """The answer where there is nobody to ask."""
    raise HandshakeError("netlink sockets of other namespaces are the dispatcher's to open, and there is none")


Authorize = Callable[["PeerIdentity"], None]
"""The question whether a peer that has proved who it is may have its session; raises HandshakeError to refuse."""


def anybody(peer: PeerIdentity) -> None:
    """The authorization of a request that has none: allows everybody."""


async def no_psk(identity: bytes) -> PresharedKey | None:
    """The look-up of a request that has none: knows no identity."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One handshake, decoded and complete: a handshaker needs nothing else, and opens no file to serve it."""

    id: int
    """The dispatcher's number for the request, unique while it lives; for logs."""
    group: str
    """The multicast group in which it was announced."""
    role: Role
    auth_mode: AuthMode
    deadline: float
    """In seconds on the monotonic clock (``time.monotonic``, ``loop.time``): the handshake has ended by then."""
    peer_name: str | None = None
    """A client's request: the DNS name or IP address that the peer must prove, and the name to ask for (SNI)."""
    local_address: str | None = None
    """``address:port`` of our end, an IPv6 address in brackets; for logs."""
    peer_address: str | None = None
    profile: str | None = None
    """The profile of the configuration that the request has, by its own word or by default: the dispatcher has seen to
    it that its consumer may.  A plugin with keys of its own kind in its settings finds them by it."""
    user: int | None = None
    """The user id of a consumer in user space.  What a plugin keeps from one handshake for the next and a consumer
    knows too, as a ticket's secret, is for requests of the same user alone."""
    identities: tuple[Identity, ...] = ()
    """What our side may present; with several, the peer's signature algorithms choose."""
    psks: tuple[PresharedKey, ...] = ()
    """A client's keys, in order of preference."""
    psk_lookup: PskLookup = no_psk
    open_netlink: OpenNetlink = no_netlink
    """For a mechanism whose kernel side is reached by netlink; needed where the socket is in another namespace."""
    trust: Trust | None = None
    """``None``: no trust was named for the request, and a peer that presents a certificate cannot be believed."""
    authorize: Authorize = anybody
    """For a handshaker that can still tell the peer of a refusal: ask as soon as the peer is known.  For one that does
    not ask, the host does, once the handshake is over."""
    client_certificate: CertificateDemand = CertificateDemand.NONE
    alpn: tuple[str, ...] = ()
    """Offered by a client, accepted by a server, in order of preference; empty: the extension is not used."""
    kernel_consumer: bool = False
    """True: the consumer is in the kernel, and a session that is not planted in the socket is of no use to it."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """What the protocol's own specification lists in its ``request`` attribute set."""
