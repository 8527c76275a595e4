"""Keys from a device key (PSP Architecture Specification 1.0, "Key Derivation"; NIST SP 800-108r1, counter mode).

Sans-IO.  The PRF is AES-256-CMAC (NIST SP 800-38B).  Each 16 bytes of the key are the CMAC of one block::

    u32 counter (1, 2) ‖ "Pv" ‖ digit of the version ‖ 0x00 ‖ u32 SPI ‖ u32 key size in bits
"""

from __future__ import annotations

import struct

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from hsframework_psp.versions import Version

DEVICE_KEY_SIZE = 32
_BLOCK = struct.Struct(">I4sII")
_CMAC_SIZE = 16


def derive_key(device_key: bytes, version: Version, spi: int) -> bytes:
    """Return the receive key of ``spi``: 16 or 32 bytes.

    ``device_key``: the one that the SPI's phase bit names, 32 bytes.
    """
    if len(device_key) != DEVICE_KEY_SIZE:
        raise ValueError(f"a device key has {DEVICE_KEY_SIZE} bytes, not {len(device_key)}")
    label = b"Pv%d\0" % version
    bits = version.key_size * 8
    return b"".join(
        _cmac(device_key, _BLOCK.pack(counter, label, spi, bits))
        for counter in range(1, version.key_size // _CMAC_SIZE + 1)
    )


def _cmac(key: bytes, block: bytes) -> bytes:
    state = CMAC(AES(key))
    state.update(block)
    return state.finalize()
