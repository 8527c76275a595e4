"""The outcome of a handshake that succeeded, and the peer that it proved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerIdentity:
    """Who the peer proved to be."""

    certificates: tuple[bytes, ...] = ()
    """DER, the leaf first, as verified; empty: the peer showed none."""
    psk_identity: bytes | None = None
    public_key: bytes | None = None
    """The key itself, for a protocol without certificates (Noise, raw public keys), in the protocol's own encoding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A handshake that succeeded."""

    peer: PeerIdentity = PeerIdentity()
    alpn: str | None = None
    in_kernel: bool = False
    """True: the session is planted in the socket (kTLS, PSP, QUIC)."""
    session: Mapping[str, Any] = field(default_factory=dict)
    """By the protocol's own specification, attribute set ``session``: what a user-space consumer cannot find in the
    socket.  Goes to the consumer that owns the socket and to nobody else.  Empty: nothing but what is in the kernel."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Short facts for logs and for the consumer, for example ``cipher`` and ``group``.  Never a secret."""
