"""The outcome of a handshake that succeeded, and the peer that it proved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerIdentity:
    """The proven identity of the peer; all fields empty: the peer is anonymous."""

    certificates: tuple[bytes, ...] = ()
    """DER certificates, the leaf first, as verified; empty: the peer showed none."""
    psk_identity: bytes | None = None
    """The identity of the pre-shared key that the peer holds; None: none was used."""
    public_key: bytes | None = None
    """The key itself, for a protocol without certificates (Noise, raw public keys), in the protocol's own encoding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The outcome of a handshake that succeeded."""

    peer: PeerIdentity = PeerIdentity()
    """The proven identity of the peer."""
    alpn: str | None = None
    """The application protocol that was agreed on; None: none."""
    in_kernel: bool = False
    """True if the session is planted in the socket (kTLS, PSP, QUIC)."""
    session: Mapping[str, Any] = field(default_factory=dict)
    """The parameters of the session that a consumer in user space cannot find in the socket, by the attribute set
    ``session`` of the protocol's specification.  They go to the consumer that owns the socket and to nobody else.
    Empty: the session is in the kernel alone.  A consumer in the kernel is told those with numbers from 64 on, in the
    raw-netlink form."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Short facts for logs and for the consumer, for example ``cipher`` and ``group``.  Never a secret."""
