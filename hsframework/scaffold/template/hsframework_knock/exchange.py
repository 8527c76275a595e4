"""One handshake without I/O: the client shows its word, the server shows its own, and they must be equal."""

from __future__ import annotations

import errno

from hsframework.errors import HandshakeError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Role

HEADER_SIZE = 1
"""Bytes before each message: its length."""
MAX_WORD = 64


def body_size(header: bytes) -> int:
    """Bytes that follow a header.  What cannot be a word is refused here, before it is read."""
    if not 1 <= header[0] <= MAX_WORD:
        raise HandshakeFailed(Failure.GARBAGE, f"a word of {header[0]} bytes")
    return header[0]


class Exchange:
    """Feed it and send what it gives until it has finished.  Raises HandshakeError, and is of no use then."""

    def __init__(self, role: Role, word: bytes) -> None:
        if not 1 <= len(word) <= MAX_WORD:
            raise HandshakeError(f"the word has {len(word)} bytes; give 1 to {MAX_WORD}", errno=errno.EINVAL)
        self._word = word
        self._turns = [True, False] if role is Role.CLIENT else [False, True]

    @property
    def finished(self) -> bool:
        return not self._turns

    @property
    def our_turn(self) -> bool:
        return self._turns[0]

    def message(self) -> bytes:
        """Our message, with its header."""
        self._turns.pop(0)
        return bytes([len(self._word)]) + self._word

    def receive(self, record: bytes) -> None:
        """The peer's message, with its header."""
        self._turns.pop(0)
        if record[HEADER_SIZE:] != self._word:
            raise HandshakeError("the peer knows another word", errno=errno.EACCES)
