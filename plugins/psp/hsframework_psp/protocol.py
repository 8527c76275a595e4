"""What the plugin says of itself.  The handshake is imported by the agent that serves it, and by nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hsframework.interface import Protocol
from hsframework.netlink.spec import Specification
from hsframework_psp.settings import Settings

if TYPE_CHECKING:
    from hsframework_psp.plugin import PspHandshaker


class PspProtocol(Protocol):
    """Group ``psp``."""

    name = "psp"
    groups = ("psp",)
    settings_type = Settings

    @property
    def specification(self) -> Specification:
        from hsframework_psp.session import specification

        return specification()

    def prepare(self, settings: Settings | None) -> PspHandshaker:
        from hsframework_psp.plugin import PspHandshaker

        return PspHandshaker(settings or Settings())
