"""A PSP device in software (PSP Architecture Specification 1.0), with the functions of a network card.

The rules:

* Two device keys are live, told apart by the phase bit of the SPI.  New SPIs are derived from the *current* one.
  Rotation replaces the other one and makes it current: what was derived from the replaced key is dead (stale).
* On the receiving side nothing is kept for a connection: SPI and version in a packet are enough to derive its key.
* A device key never leaves the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hsframework_psp.derivation import DEVICE_KEY_SIZE, derive_key
from hsframework_psp.keys import Grant, Key
from hsframework_psp.packets import Opened, PacketRefused, open_packet, read_header
from hsframework_psp.spis import SpiAllocator, SpisUsedUp
from hsframework_psp.versions import PHASE_BIT, Version

Random = Callable[[int], bytes]
"""``os.urandom``: so many bytes."""


@dataclass(slots=True)
class Statistics:
    """The counters that the kernel asks of its devices, under the kernel's names."""

    key_rotations: int = 0
    rx_packets: int = 0
    rx_bytes: int = 0
    rx_auth_fail: int = 0
    rx_bad: int = 0


class SoftwareDevice:
    """A device in software.  ``versions``: the enabled ones.  ``random``: the source of device keys."""

    def __init__(self, random: Random, versions: frozenset[Version] = frozenset(Version)) -> None:
        self.versions = versions
        self._random = random
        self._statistics = Statistics()
        self._keys = [Key(random(DEVICE_KEY_SIZE)), Key(random(DEVICE_KEY_SIZE))]
        self._phase = False
        self._spis = self._new_spis()

    @property
    def rotations(self) -> int:
        """The number of rotations of the device key."""
        return self._statistics.key_rotations

    def allocate(self, version: Version) -> Grant:
        """Return a new SPI and its key.  Rotates first when the current device key has no SPI left."""
        if version not in self.versions:
            raise ValueError(f"{version.label} is not enabled on this device")
        try:
            spi = self._spis.allocate()
        except SpisUsedUp:
            self.rotate()
            spi = self._spis.allocate()
        return Grant(spi, Key(self._derive(version, spi)))

    def rotate(self) -> None:
        """Replace the older device key.  Keys derived from it are dead from now on."""
        self._phase = not self._phase
        self._keys[self._phase].wipe()
        self._keys[self._phase] = Key(self._random(DEVICE_KEY_SIZE))
        self._spis = self._new_spis()
        self._statistics.key_rotations += 1

    def open(self, packet: bytes) -> Opened:
        """Open a packet under any SPI of the two live device keys.  Raises PacketRefused."""
        try:
            header = read_header(packet)
            if header.version not in self.versions:
                raise PacketRefused(f"{header.version.label} is not enabled on this device")
        except PacketRefused:
            self._statistics.rx_bad += 1
            raise
        try:
            opened = open_packet(AESGCM(self._derive(header.version, header.spi)), header, packet)
        except PacketRefused:
            self._statistics.rx_auth_fail += 1
            raise
        self._statistics.rx_packets += 1
        self._statistics.rx_bytes += len(opened.payload)
        return opened

    def statistics(self) -> dict[str, int]:
        """Return a copy of the counters."""
        return asdict(self._statistics)

    def close(self) -> None:
        """Wipe the device keys: nothing can be received after that."""
        for key in self._keys:
            key.wipe()

    def _derive(self, version: Version, spi: int) -> bytes:
        return derive_key(self._keys[bool(spi & PHASE_BIT)].reveal(), version, spi)

    def _new_spis(self) -> SpiAllocator:
        return SpiAllocator(int.from_bytes(self._random(4), "big"), phase=self._phase)
