"""PSP's versions: the cipher and what follows from it (PSP Architecture Specification 1.0, "Version")."""

from __future__ import annotations

import enum


class Version(enum.IntEnum):
    """As in the packet's header, and in the kernel's bit masks."""

    AES_GCM_128 = 0
    AES_GCM_256 = 1
    AES_GMAC_128 = 2
    AES_GMAC_256 = 3

    @property
    def key_size(self) -> int:
        """Bytes: 16 or 32."""
        return 32 if self & 1 else 16

    @property
    def encrypts(self) -> bool:
        """False: packets are authenticated and readable."""
        return self < Version.AES_GMAC_128

    @property
    def label(self) -> str:
        """As in the settings and in logs: ``aes-gcm-128``."""
        return self.name.lower().replace("_", "-")


BY_LABEL = {version.label: version for version in Version}

SPI_MASK = 0x7FFFFFFF
"""The part of an SPI that must not be all zero."""
PHASE_BIT = 0x80000000
"""The bit of an SPI that names one of the two device keys."""


def versions_of(mask: int) -> frozenset[Version]:
    """The versions of a kernel's bit mask; bits that are not known here are passed over."""
    return frozenset(version for version in Version if mask >> version & 1)
