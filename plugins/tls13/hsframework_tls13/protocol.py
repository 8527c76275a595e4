"""The protocol that the plugin registers.  Only the agent that serves it imports its handshake."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from hsframework.interface import AuthMode, Demand, Protocol
from hsframework.netlink.spec import Specification
from hsframework_tls13.settings import Settings

if TYPE_CHECKING:
    from hsframework_tls13.plugin import Tls13Handshaker


IPPROTO_MPTCP = 262  # linux/in.h; the socket module has no name for it before Python 3.12
UNIX_STREAM = 0
"""SO_PROTOCOL of a stream socket of AF_UNIX."""


class Tls13Protocol(Protocol):
    """TLS 1.3 on byte streams.  ``tlshd`` is the kernel's group for TLS; ``tls13`` is for local consumers.

    The kernel's TLS takes TCP alone: sessions of other sockets are in user space.
    """

    name = "tls13"
    groups = ("tls13", "tlshd")
    settings_type = Settings
    socket_protocols = frozenset({socket.IPPROTO_TCP, IPPROTO_MPTCP, UNIX_STREAM})
    auth_modes = frozenset({AuthMode.UNAUTHENTICATED, AuthMode.PSK, AuthMode.X509})
    understands = frozenset(
        {Demand.ALPN, Demand.CLIENT_CERTIFICATE, Demand.PEER_NAME, Demand.TLS_POLICIES, Demand.TRUST}
    )

    @property
    def specification(self) -> Specification:
        from hsframework_tls13.session import specification

        return specification()

    def prepare(self, settings: Settings | None) -> Tls13Handshaker:
        from hsframework_tls13.plugin import Tls13Handshaker

        return Tls13Handshaker(settings or Settings())
