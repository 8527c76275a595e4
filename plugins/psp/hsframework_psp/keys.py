"""Keys that can be overwritten.

``bytes`` cannot be: a copy lives until the allocator reuses it.  A key that the exchange keeps for longer than one call
is in a :class:`Key`, and is zeroed when the exchange ends.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field


class Key:
    """A key in one buffer of its own.  No repr, no pickle, compared in constant time."""

    __slots__ = ("_buffer",)

    def __init__(self, value: bytes | bytearray | memoryview) -> None:
        self._buffer = bytearray(value)

    def reveal(self) -> bytes:
        """Return the bytes, for the call in which they are used.  Raises ValueError once wiped."""
        if not self._buffer:
            raise ValueError("this key has been wiped")
        return bytes(self._buffer)

    def wipe(self) -> None:
        """Overwrite the key and forget it."""
        self._buffer[:] = bytes(len(self._buffer))
        self._buffer.clear()

    @property
    def wiped(self) -> bool:
        """True if the key has been overwritten."""
        return not self._buffer

    def __len__(self) -> int:
        return len(self._buffer)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Key):
            return NotImplemented
        return hmac.compare_digest(self._buffer, other._buffer)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<key, {len(self._buffer)} bytes>"

    def __reduce__(self) -> str:
        raise TypeError("a Key is not pickled")


@dataclass(frozen=True, slots=True)
class Grant:
    """An SPI and a key that a device gives out for one association: the other end sends under them."""

    spi: int
    key: Key = field(compare=True)
