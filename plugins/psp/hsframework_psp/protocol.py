"""The protocol that the plugin registers.  Only the agent that serves it imports its handshake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hsframework.interface import AuthMode, Demand, Protocol
from hsframework.netlink.spec import Specification
from hsframework_psp.settings import Settings

if TYPE_CHECKING:
    from hsframework_psp.plugin import PspHandshaker


class PspProtocol(Protocol):
    """The PSP key exchange on TCP sockets, in the group ``psp``."""

    name = "psp"
    groups = ("psp",)
    settings_type = Settings
    auth_modes = frozenset({AuthMode.UNAUTHENTICATED, AuthMode.PSK, AuthMode.X509})
    understands = frozenset(
        {Demand.ALPN, Demand.CLIENT_CERTIFICATE, Demand.PEER_NAME, Demand.TLS_POLICIES, Demand.TRUST}
    )

    @property
    def specification(self) -> Specification:
        from hsframework_psp.session import specification

        return specification()

    def prepare(self, settings: Settings | None) -> PspHandshaker:
        from hsframework_psp.plugin import PspHandshaker

        return PspHandshaker(settings or Settings())
