"""Options of a client that connects to many hosts: all but the peer's name, which each connection adds."""

from __future__ import annotations

from typing import Any

from hsframework.client import HandshakeOptions
from hsframework.interface import Role

MOST = 64
"""Options that are kept for the next connection to the same host."""


class OptionsTemplate:
    """The fields of HandshakeOptions but ``peer_name``.  Raises ConfigurationError for those that fit no peer.

    A ``peer_name`` among them is the name of every peer, whichever host it was reached as.
    """

    def __init__(self, **fields: Any) -> None:
        self._fields = fields
        self._kept: dict[tuple[str | None, tuple[str, ...]], HandshakeOptions] = {}
        self.role = self.for_peer("peer.invalid").role

    def for_peer(self, host: str | None, alpn: tuple[str, ...] = ()) -> HandshakeOptions:
        """Return the options for a host; ``alpn``: what is offered where the fields name no protocols."""
        known = self._kept.get((host, alpn))
        if known is not None:
            return known
        fields = dict(self._fields)
        if fields.get("role", Role.CLIENT) is Role.CLIENT:
            fields.setdefault("peer_name", host)
        if not fields.get("alpn"):
            fields["alpn"] = alpn
        options = HandshakeOptions(**fields)
        while len(self._kept) >= MOST:
            del self._kept[next(iter(self._kept))]
        self._kept[host, alpn] = options
        return options
