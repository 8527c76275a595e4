"""The versions of PSP: the cipher and its consequences (PSP Architecture Specification 1.0, "Version")."""

from __future__ import annotations

import enum


class Version(enum.IntEnum):
    """A version, as in the packet's header and in the kernel's bit masks."""

    AES_GCM_128 = 0
    AES_GCM_256 = 1
    AES_GMAC_128 = 2
    AES_GMAC_256 = 3

    @property
    def key_size(self) -> int:
        """The size of a key in bytes: 16 or 32."""
        return 32 if self & 1 else 16

    @property
    def encrypts(self) -> bool:
        """True if packets are encrypted; otherwise they are authenticated and readable."""
        return self < Version.AES_GMAC_128

    @property
    def label(self) -> str:
        """The version's name in the settings and in logs: ``aes-gcm-128``."""
        return self.name.lower().replace("_", "-")


BY_LABEL = {version.label: version for version in Version}

SPI_MASK = 0x7FFFFFFF
"""The part of an SPI that must not be all zero."""
PHASE_BIT = 0x80000000
"""The bit of an SPI that names one of the two device keys."""


def versions_of(mask: int) -> frozenset[Version]:
    """Return the versions of a kernel's bit mask; unknown bits are passed over."""
    return frozenset(version for version in Version if mask >> version & 1)
