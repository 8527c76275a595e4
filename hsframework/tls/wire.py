"""Strict readers of TLS structures: exact lengths, no bytes left over, no repeated extension (RFC 8446 section 4.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hsframework.failures import Failure, HandshakeFailed

T = TypeVar("T")

PRE_SHARED_KEY = 41


class Cursor:
    """A cursor over a structure that must be read to its end.

    ``what``: name of the structure, for errors.  All methods raise ``HandshakeFailed(GARBAGE)`` for a structure that is
    cut off or too long.
    """

    # A handshake makes some hundred calls, so the methods do not call each other.

    __slots__ = ("_data", "_end", "_position", "what")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._position = 0
        self._end = len(data)
        self.what = what

    @property
    def left(self) -> int:
        """Number of bytes that are not read yet."""
        return self._end - self._position

    def take(self, size: int) -> bytes:
        """Read ``size`` bytes."""
        start = self._position
        end = start + size
        if end > self._end:
            raise self.garbage("a field is longer than what holds it")
        self._position = end
        return self._data[start:end]

    def number(self, size: int) -> int:
        """Read an unsigned number of ``size`` bytes."""
        return int.from_bytes(self.take(size), "big")

    def vector(self, length_size: int, *, least: int = 0) -> bytes:
        """Read a vector of at least ``least`` bytes, with its length in ``length_size`` bytes before it."""
        start = self._position + length_size
        if start > self._end:
            raise self.garbage("a field is longer than what holds it")
        size = int.from_bytes(self._data[self._position : start], "big")
        if size < least:
            raise self.garbage("a vector is shorter than it may be")
        end = start + size
        if end > self._end:
            raise self.garbage("a field is longer than what holds it")
        self._position = end
        return self._data[start:end]

    def inner(self, length_size: int, *, least: int = 0) -> Cursor:
        """Read a vector and return a cursor over its contents."""
        return Cursor(self.vector(length_size, least=least), self.what)

    def numbers(self, length_size: int, size: int, *, least: int = 0) -> tuple[int, ...]:
        """Read a vector of numbers of ``size`` bytes each."""
        data = self.vector(length_size, least=least)
        if len(data) % size:
            raise self.garbage("a list with part of an entry")
        return tuple(int.from_bytes(data[at : at + size], "big") for at in range(0, len(data), size))

    def end(self) -> None:
        """Check that all bytes have been read."""
        if self.left:
            raise self.garbage(f"{self.left} bytes too many")

    def garbage(self, problem: str) -> HandshakeFailed:
        """Return the error for a wrong structure."""
        return HandshakeFailed(Failure.GARBAGE, f"in the {self.what}: {problem}")


def read_extensions(cursor: Cursor) -> dict[int, bytes]:
    """Read a list of extensions into a dictionary from number to content, in order.

    Raises HandshakeFailed: ``GARBAGE``, or ``ILLEGAL_PARAMETER`` for an extension that is repeated or that follows
    ``pre_shared_key`` in a ClientHello.
    """
    inner = cursor.inner(2)
    found: dict[int, bytes] = {}
    while inner.left:
        if PRE_SHARED_KEY in found and cursor.what == "ClientHello":
            raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, "pre_shared_key is not the last extension")
        number = inner.number(2)
        if number in found:
            raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"extension {number} is there twice")
        found[number] = inner.vector(2)
    return found


def read_extension(
    extensions: dict[int, bytes], number: int, what: str, parser: Callable[[Cursor], T], default: T
) -> T:
    """Parse one extension to its end; return ``default`` if it is missing.

    ``what``: name of the message, for errors.  Raises ``HandshakeFailed(GARBAGE)``, and the parser's errors.
    """
    data = extensions.get(number)
    if data is None:
        return default
    cursor = Cursor(data, what)
    value = parser(cursor)
    cursor.end()
    return value
