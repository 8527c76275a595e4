"""One handshake without I/O: the client sends its word, the server sends its own, and they must be equal."""

from __future__ import annotations

import errno

from hsframework.errors import HandshakeError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Role

HEADER_SIZE = 1
"""Bytes of the length before each message."""
MAX_WORD = 64
"""Bytes."""


def body_size(header: bytes) -> int:
    """Return the number of bytes that follow a header.  Raises HandshakeFailed for a length that no word has."""
    if not 1 <= header[0] <= MAX_WORD:
        raise HandshakeFailed(Failure.GARBAGE, f"a word of {header[0]} bytes")
    return header[0]


class Exchange:
    """The state of one handshake.

    Send :meth:`message` when it is our turn, else pass the peer's message to :meth:`receive`, until it has finished.
    Raises HandshakeError, after which it must not be used again.
    """

    def __init__(self, role: Role, word: bytes) -> None:
        if not 1 <= len(word) <= MAX_WORD:
            raise HandshakeError(f"the word has {len(word)} bytes; give 1 to {MAX_WORD}", errno=errno.EINVAL)
        self._word = word
        self._turns = [True, False] if role is Role.CLIENT else [False, True]

    @property
    def finished(self) -> bool:
        """True if both messages have been exchanged."""
        return not self._turns

    @property
    def our_turn(self) -> bool:
        """True if the next message is ours."""
        return self._turns[0]

    def message(self) -> bytes:
        """Return our message, with its header."""
        self._turns.pop(0)
        return bytes([len(self._word)]) + self._word

    def receive(self, record: bytes) -> None:
        """Take the peer's message, with its header.  Raises HandshakeError for another word."""
        self._turns.pop(0)
        if record[HEADER_SIZE:] != self._word:
            raise HandshakeError("the peer knows another word", errno=errno.EACCES)
