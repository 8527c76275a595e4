"""The software device as a :class:`~hsframework_psp.devices.Device`: the carrier *packets*.

The consumer gets SPIs and keys, and seals and opens packets itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Endpoint, Secret
from hsframework_psp.devices import Association, Device
from hsframework_psp.framing import LENGTH_SIZE, NO_NEXT_HEADER, frame
from hsframework_psp.keys import Grant, Key
from hsframework_psp.messages import Carrier
from hsframework_psp.packets import HEADER_SIZE, ICV_SIZE, PacketOpener, PacketRefused, PacketSealer
from hsframework_psp.software import SoftwareDevice
from hsframework_psp.versions import Version


class PacketDevice(Device):
    """A device in software.  ``clock``: returns seconds.

    ``rotate_every``: seconds after which the device key is rotated at the next association.
    """

    name = "software"
    carrier = Carrier.PACKETS

    def __init__(self, device: SoftwareDevice, *, rotate_every: float, clock: Callable[[], float]) -> None:
        self.versions = device.versions
        self._device = device
        self._rotate_every = rotate_every
        self._clock = clock
        self._rotated_at = clock()

    def associate(self, version: Version) -> PacketAssociation:
        now = self._clock()
        if now - self._rotated_at >= self._rotate_every:
            self._device.rotate()
            self._rotated_at = now
        return PacketAssociation(version, self._device.allocate(version), lifetime=int(self._rotate_every))

    def close(self) -> None:
        """Wipe the device keys."""
        self._device.close()


class PacketAssociation(Association):
    """An association with the software device.  ``lifetime``: seconds for which keys of one device key may be used."""

    def __init__(self, version: Version, grant: Grant, *, lifetime: int) -> None:
        self.grant = grant
        self._version = version
        self._lifetime = lifetime
        # The exchange wipes its grants before the consumer gets its keys.
        self._rx_key, self._tx_key = Key(grant.key.reveal()), Key(b"")
        self._opener = PacketOpener(version, grant.spi, self._rx_key.reveal())
        self._sealer: PacketSealer | None = None

    def switch(self, grant: Grant) -> None:
        self._tx_key = Key(grant.key.reveal())
        self._sealer = PacketSealer(self._version, grant.spi, self._tx_key.reveal())

    def seal(self, message: bytes) -> bytes:
        assert self._sealer is not None
        return frame(self._sealer.seal(message, next_header=NO_NEXT_HEADER))

    async def receive(self, endpoint: Endpoint, size: int) -> bytes:
        """Read the packet that holds such a message; another length is refused before it comes."""
        expected = HEADER_SIZE + size + ICV_SIZE

        def body_size(length: bytes) -> int:
            if int.from_bytes(length, "big") != expected:
                raise HandshakeFailed(Failure.GARBAGE, f"PROOF is in a packet of {expected} bytes")
            return expected

        packet = await endpoint.receive_record(LENGTH_SIZE, body_size)
        try:
            opened = self._opener.open(packet[LENGTH_SIZE:])
        except PacketRefused as refused:
            raise HandshakeFailed(Failure.BAD_RECORD_MAC, str(refused)) from None
        if len(opened.payload) != size or opened.header.next_header != NO_NEXT_HEADER:
            raise HandshakeFailed(Failure.GARBAGE, "a packet that is not PROOF's")
        return opened.payload

    def parameters(self) -> Mapping[str, Any]:
        assert self._sealer is not None
        return {
            "carrier": int(Carrier.PACKETS),
            "version": int(self._version),
            "rx-spi": self._opener.spi,
            "rx-key": Secret(self._rx_key.reveal()),
            "tx-spi": self._sealer.spi,
            "tx-key": Secret(self._tx_key.reveal()),
            "next-iv": self._sealer.next_iv,
            "lifetime": self._lifetime,
        }

    def wipe(self) -> None:
        super().wipe()
        self._rx_key.wipe()
        self._tx_key.wipe()
