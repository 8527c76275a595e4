"""The framing of sealed packets in the connection's stream: each behind its length.  Sans-IO."""

from __future__ import annotations

NO_NEXT_HEADER = 59
"""IPv6's number for: nothing of IP's is in here."""
LENGTH_SIZE = 2


def frame(packet: bytes) -> bytes:
    """Return a packet as it is written to the connection."""
    return len(packet).to_bytes(LENGTH_SIZE, "big") + packet
