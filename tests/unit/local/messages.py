"""Messages of the local family by hand."""

from __future__ import annotations

import struct


def message(payload: bytes) -> bytes:
    """Make a message with nothing but its length and a payload."""
    return struct.pack("=IHHII", 16 + len(payload), 0x20, 0, 1, 0) + payload
