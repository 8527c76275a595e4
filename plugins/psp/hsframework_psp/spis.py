"""The SPIs of one device key: each once, in constant memory.  Sans-IO."""

from __future__ import annotations

from hsframework_psp.versions import PHASE_BIT, SPI_MASK


class SpisUsedUp(Exception):
    """The error of a device key whose SPIs have all been given out: the device has to rotate."""


class SpiAllocator:
    """The 2^31 - 1 numbers, counted from ``start``, which should be random: a restart gives other SPIs."""

    def __init__(self, start: int, *, phase: bool) -> None:
        self._next = start % SPI_MASK
        self._left = SPI_MASK
        self._phase = PHASE_BIT if phase else 0

    @property
    def left(self) -> int:
        """The SPIs that can still be given out."""
        return self._left

    def allocate(self) -> int:
        """Return the next SPI.  Raises SpisUsedUp."""
        if not self._left:
            raise SpisUsedUp("every SPI of the device key is in use: rotate it")
        self._left -= 1
        spi = self._next + 1
        self._next = (self._next + 1) % SPI_MASK
        return spi | self._phase
