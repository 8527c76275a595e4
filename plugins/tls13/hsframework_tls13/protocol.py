"""The protocol that the plugin registers.  Only the agent that serves it imports its handshake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hsframework.interface import Protocol
from hsframework.netlink.spec import Specification
from hsframework_tls13.settings import Settings

if TYPE_CHECKING:
    from hsframework_tls13.plugin import Tls13Handshaker


class Tls13Protocol(Protocol):
    """TLS 1.3 on TCP sockets.  ``tlshd`` is the kernel's group for TLS; ``tls13`` is for local consumers."""

    name = "tls13"
    groups = ("tls13", "tlshd")
    settings_type = Settings
    tls_policies = True

    @property
    def specification(self) -> Specification:
        from hsframework_tls13.session import specification

        return specification()

    def prepare(self, settings: Settings | None) -> Tls13Handshaker:
        from hsframework_tls13.plugin import Tls13Handshaker

        return Tls13Handshaker(settings or Settings())
