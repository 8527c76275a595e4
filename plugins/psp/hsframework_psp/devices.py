"""The interface of a PSP device, for the exchange; there are two kinds.

A :class:`Device` is found for one connection and says what it can; :meth:`Device.associate` gives an
:class:`Association`: an SPI and key under which this end receives, and later the peer's, under which it sends.

The rules:

* A method does what it does at once.  ``PlainDataWaits`` is the one thing that passes by itself or by reading.
* An association that is not wanted after all needs no undoing: it goes with the socket, or is an SPI never used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Endpoint
from hsframework_psp.keys import Grant
from hsframework_psp.messages import Carrier
from hsframework_psp.versions import Version


class DeviceRefused(HandshakeFailed):
    """A refusal by the device, or by the kernel before it; ``detail`` has its words."""

    def __init__(self, detail: str) -> None:
        super().__init__(Failure.NO_KERNEL_SESSION, detail)
        # The table's own words are about consumers in the kernel.
        self.args = (f"no PSP on this connection: {detail}",)


class PlainDataWaits(Exception):
    """Unread plain data of the peer's: the switch has to wait until it has been read."""


class Association(ABC):
    """Both directions of one connection.  ``grant``: ours, for the peer to send under."""

    grant: Grant

    @abstractmethod
    def switch(self, grant: Grant) -> None:
        """Make this end send under the peer's grant.  Raises PlainDataWaits, DeviceRefused."""

    @abstractmethod
    def seal(self, message: bytes) -> bytes:
        """Return a message behind the switch, as it is written to the socket."""

    @abstractmethod
    async def receive(self, endpoint: Endpoint, size: int) -> bytes:
        """Read a message of ``size`` bytes from behind the peer's switch, and no byte more.  Raises HandshakeFailed."""

    @abstractmethod
    def parameters(self) -> Mapping[str, Any]:
        """Return the parameters for the consumer: attribute set ``session``."""

    def complaints(self) -> str:
        """Return the device's counters of packets that it refused since the association; empty: none."""
        return ""

    def wipe(self) -> None:
        """Overwrite the keys that are held; the association is of no use afterwards."""
        self.grant.key.wipe()


class Device(ABC):
    """A device for one connection."""

    name: str
    """For logs and tags."""
    carrier: Carrier
    versions: frozenset[Version]
    """Those that it can do, and is allowed to."""

    @abstractmethod
    def associate(self, version: Version) -> Association:
        """Make the Rx association.  Raises DeviceRefused."""
