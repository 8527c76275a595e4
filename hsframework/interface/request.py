"""The request: all that a handshaker is given for one handshake."""

from __future__ import annotations

import enum
import socket as _socket
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol as TypingProtocol

from hsframework.errors import HandshakeError
from hsframework.interface.credentials import Identity, PresharedKey, Trust
from hsframework.interface.result import PeerIdentity


class Role(enum.IntEnum):
    """Our side of the handshake: the ``message-type`` of the kernel's handshake family."""

    CLIENT = 1
    """Our side begins the handshake."""
    SERVER = 2
    """The peer begins the handshake."""


class AuthMode(enum.IntEnum):
    """Our side's proof of its identity: the ``auth-mode`` of the kernel's handshake family."""

    OWN = 0
    """A proof of the protocol's own kind, such as a password, or a key from its settings or attributes.  The service
    supplies neither certificates nor pre-shared keys for it.  No request of the kernel's has it."""
    UNAUTHENTICATED = 1
    """No proof: an anonymous client."""
    PSK = 2
    """A pre-shared key."""
    X509 = 3
    """A certificate and its private key."""


class CertificateDemand(enum.IntEnum):
    """A server's demand for the certificate of its client."""

    NONE = 0
    """The client is asked for no certificate."""
    REQUEST = 1
    """The client is asked for a certificate, and may do without."""
    REQUIRE = 2
    """The client is asked for a certificate, and is refused without."""


class PskLookup(TypingProtocol):
    """Look-up of the pre-shared key for an identity that a server's peer has named: ``await psk_lookup(identity)``.

    ``identity``: as received, 1 to 65535 bytes.  Gives the :class:`PresharedKey`; None: no such key for this request.
    Raises HandshakeError.
    """

    def __call__(self, identity: bytes, /) -> Awaitable[PresharedKey | None]: ...


async def no_psk(identity: bytes) -> PresharedKey | None:
    """Return None for every identity: the default of :attr:`Request.psk_lookup`."""
    return None


class OpenNetlink(TypingProtocol):
    """Opening of a netlink socket in the network namespace of the request's socket: ``await open_netlink(family)``.

    ``family``: the netlink family, for example 16, generic netlink.  Gives a socket that the handshaker closes.
    Raises HandshakeError.
    """

    def __call__(self, family: int, /) -> Awaitable[_socket.socket]: ...


async def no_netlink(protocol: int) -> _socket.socket:
    """Raise HandshakeError: the default of :attr:`Request.open_netlink`, for a request without a dispatcher."""
    raise HandshakeError("netlink sockets of other namespaces are the dispatcher's to open, and there is none")


class Authorize(TypingProtocol):
    """Decision whether a peer that has proved its identity may have its session: ``authorize(peer)``.

    Returns to allow; raises HandshakeError to refuse.
    """

    def __call__(self, peer: PeerIdentity, /) -> None: ...


def anybody(peer: PeerIdentity) -> None:
    """Allow every peer: the default of :attr:`Request.authorize`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One handshake, decoded and complete: a handshaker needs nothing else, and opens no file to serve it."""

    id: int
    """The dispatcher's number for the request, unique while it lives; for logs."""
    group: str
    """The multicast group in which it was announced."""
    role: Role
    """Our side of the handshake."""
    auth_mode: AuthMode
    """Our side's proof of its identity."""
    deadline: float
    """In seconds on the monotonic clock (``time.monotonic``, ``loop.time``): the handshake has ended by then."""
    peer_name: str | None = None
    """A client's request: the DNS name or IP address that the peer must prove, and the name to ask for (SNI)."""
    any_peer_name: bool = False
    """A client's request: the peer's certificate may have any name.  Without it a request that names no peer is refused
    where certificates are judged."""
    local_address: str | None = None
    """``address:port`` of our end, an IPv6 address in brackets; for logs."""
    peer_address: str | None = None
    """``address:port`` of the peer's end, an IPv6 address in brackets; for logs."""
    profile: str | None = None
    """The request's profile in the configuration, named by the consumer or by default; the dispatcher has checked that
    the consumer may use it.  A plugin with keys of its own kind in its settings finds them by this name."""
    user: int | None = None
    """The user id of a consumer in user space.  State that a plugin keeps from one handshake for the next, and that its
    consumer knows too (a ticket's secret), is for requests of the same user alone."""
    identities: tuple[Identity, ...] = ()
    """The identities that our side may present; with several, the peer's signature algorithms choose."""
    psks: tuple[PresharedKey, ...] = ()
    """A client's keys, in order of preference."""
    psk_lookup: PskLookup = no_psk
    """The look-up of a server's keys, by the identity that the peer names."""
    open_netlink: OpenNetlink = no_netlink
    """For a mechanism whose kernel side is reached by netlink; needed where the socket is in another namespace."""
    trust: Trust | None = None
    """The authorities to trust.  None: the request names none, and a peer that presents a certificate is refused."""
    authorize: Authorize = anybody
    """For a handshaker that can still send the peer a refusal: call it as soon as the peer has proved its identity.
    Without that call the agent makes it, once the handshake is over."""
    client_certificate: CertificateDemand = CertificateDemand.NONE
    """A server's demand for the certificate of its client."""
    alpn: tuple[str, ...] = ()
    """Offered by a client, accepted by a server, in order of preference; empty: the extension is not used."""
    tls_priorities: tuple[str, ...] = ()
    """The TLS policies that the handshake keeps to, all of them: the consumer's, then its profile's.  Each is a
    priority string in GnuTLS's syntax, for :mod:`hsframework.tls.priorities`."""
    kernel_consumer: bool = False
    """True if the consumer is in the kernel; a session that is not planted in the socket is of no use to it."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """The protocol's own attributes, by the attribute set ``request`` of its specification.  Those of a consumer in the
    kernel have numbers from 64 on, and come by the raw-netlink form alone."""
