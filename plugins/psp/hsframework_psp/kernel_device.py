"""The kernel's PSP device of a connection's route: the carrier *connection*.

The rules:

* A device is that of the interface over which the kernel routes the connection, seen from the socket's namespace.
* The rotation counter is read before the Rx association is made: see docs/design/psp-handshake.md, "Rotation".
* ``EBUSY`` at the switch means that plain data waits, or that somebody else has made a Tx association: told apart.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from typing import Any

from hsframework.errors import HsframeworkError
from hsframework.interface import Endpoint
from hsframework.netlink.psp import has_tx_association
from hsframework_psp.devices import Association, Device, DeviceRefused, PlainDataWaits
from hsframework_psp.family import KernelDeviceFacts, PspFamily
from hsframework_psp.keys import Grant
from hsframework_psp.messages import Carrier
from hsframework_psp.versions import Version

COMPLAINTS = ("stale-events", "rx-auth-fail", "rx-error", "rx-bad", "tx-error")
"""The counters of what the device does not take or send."""


class KernelDevice(Device):
    """A device of the kernel.  ``family``: on a netlink socket in the namespace of ``sock``; stays its owner's."""

    name = "kernel"
    carrier = Carrier.CONNECTION

    def __init__(self, family: PspFamily, facts: KernelDeviceFacts, sock: socket.socket) -> None:
        self.versions = facts.enabled
        self._family = family
        self._id = facts.id
        self._socket = sock

    def associate(self, version: Version) -> KernelAssociation:
        try:
            counters = self._family.statistics(self._id)
            grant = self._family.associate_rx(self._id, version, self._socket.fileno())
        except HsframeworkError as error:
            raise DeviceRefused(f"the Rx association: {error}") from None
        return KernelAssociation(self._family, self._id, version, grant, self._socket, counters)


class KernelAssociation(Association):
    """The association of one socket.  ``counters``: the device's, from before."""

    def __init__(
        self,
        family: PspFamily,
        device: int,
        version: Version,
        grant: Grant,
        sock: socket.socket,
        counters: Mapping[str, int],
    ) -> None:
        self.grant = grant
        self._family = family
        self._device = device
        self._version = version
        self._socket = sock
        self._counters = counters
        self._rx_spi = grant.spi
        self._tx_spi = 0

    def switch(self, grant: Grant) -> None:
        try:
            self._family.associate_tx(self._device, self._version, grant, self._socket.fileno())
        except HsframeworkError as error:
            if error.errno == errno.EBUSY and not has_tx_association(error):
                raise PlainDataWaits from None
            raise DeviceRefused(f"the Tx association: {error}") from None
        self._tx_spi = grant.spi

    def seal(self, message: bytes) -> bytes:
        return message

    async def receive(self, endpoint: Endpoint, size: int) -> bytes:
        return await endpoint.receive_exactly(size)

    def complaints(self) -> str:
        try:
            now = self._family.statistics(self._device)
        except HsframeworkError as error:
            return str(error)
        passed = {name: now.get(name, 0) - self._counters.get(name, 0) for name in COMPLAINTS}
        return ", ".join(f"{name} {number}" for name, number in passed.items() if number > 0)

    def parameters(self) -> Mapping[str, Any]:
        return {
            "carrier": int(Carrier.CONNECTION),
            "version": int(self._version),
            "device-id": self._device,
            "rotations": self._counters.get("key-rotations", 0),
            "rx-spi": self._rx_spi,
            "tx-spi": self._tx_spi,
        }
