"""The protocols that the plugin registers.  Only the agent that serves one imports its handshakes."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from hsframework.interface import AddressValidation, AuthMode, Demand, Gate, Protocol
from hsframework.netlink.spec import Specification
from hsframework_quic.kernel.structs import IPPROTO_QUIC
from hsframework_quic.settings import Settings

if TYPE_CHECKING:
    from hsframework_quic.kernel.plugin import KernelQuicHandshaker
    from hsframework_quic.plugin import QuicHandshaker

_UNDERSTANDS = frozenset({Demand.ALPN, Demand.CLIENT_CERTIFICATE, Demand.PEER_NAME, Demand.TLS_POLICIES, Demand.TRUST})


class QuicProtocol(Protocol):
    """QUIC on UDP sockets.  ``quic`` is the group of consumers in user space."""

    name = "quic"
    groups = ("quic",)
    socket_protocols = frozenset({socket.IPPROTO_UDP})
    settings_type = Settings
    understands = _UNDERSTANDS
    auth_modes = frozenset({AuthMode.UNAUTHENTICATED, AuthMode.X509})
    writes_qlogs = True

    def gate(self, validation: AddressValidation) -> Gate:
        from hsframework_quic.port.gate import QuicGate

        return QuicGate(validation, os.urandom)

    @property
    def specification(self) -> Specification:
        from hsframework_quic.session import specification

        return specification()

    def prepare(self, settings: Settings | None) -> QuicHandshaker:
        from hsframework_quic.plugin import QuicHandshaker

        return QuicHandshaker(settings or Settings())


class KernelQuicProtocol(Protocol):
    """QUIC on in-kernel sockets.  ``tlshd`` is the kernel's group for TLS of any kind."""

    name = "kernel-quic"
    groups = ("tlshd",)
    socket_protocols = frozenset({IPPROTO_QUIC})
    auth_modes = frozenset({AuthMode.UNAUTHENTICATED, AuthMode.X509})
    understands = _UNDERSTANDS

    def prepare(self, settings: Any) -> KernelQuicHandshaker:
        from hsframework_quic.kernel.plugin import KernelQuicHandshaker

        return KernelQuicHandshaker()
