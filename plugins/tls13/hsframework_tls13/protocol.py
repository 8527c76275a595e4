"""What the plugin says of itself.  The handshake is imported by the agent that serves it, and by nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hsframework.interface import Protocol
from hsframework.netlink.spec import Specification
from hsframework_tls13.settings import Settings

if TYPE_CHECKING:
    from hsframework_tls13.plugin import Tls13Handshaker


class Tls13Protocol(Protocol):
    """``tlshd`` is the kernel's group for TLS; ``tls13`` the one that local consumers use."""

    name = "tls13"
    groups = ("tls13", "tlshd")
    settings_type = Settings

    @property
    def specification(self) -> Specification:
        from hsframework_tls13.session import specification

        return specification()

    def prepare(self, settings: Settings | None) -> Tls13Handshaker:
        from hsframework_tls13.plugin import Tls13Handshaker

        return Tls13Handshaker(settings or Settings())
