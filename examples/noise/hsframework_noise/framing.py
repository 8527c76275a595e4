"""Noise messages on a stream: a length of two bytes, big endian, before each (Noise, section 13)."""

from __future__ import annotations

from collections.abc import Callable

from hsframework.failures import Failure, HandshakeFailed

HEADER_SIZE = 2


def frame(message: bytes) -> bytes:
    """Return the message with its length.  It has at most 65535 bytes."""
    return len(message).to_bytes(HEADER_SIZE, "big") + message


def body_size(least: int) -> Callable[[bytes], int]:
    """Return a function for ``Endpoint.receive_record`` that refuses a message shorter than ``least`` bytes unread."""

    def size(header: bytes) -> int:
        length = int.from_bytes(header, "big")
        if length < least:
            raise HandshakeFailed(Failure.GARBAGE, f"a message of {length} bytes where one of at least {least} is due")
        return length

    return size
