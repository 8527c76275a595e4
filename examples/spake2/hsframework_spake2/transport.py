"""The session after the handshake, without I/O: a :class:`hsframework.streams.UserSpaceSession`.

Messages of ChaCha20-Poly1305 (RFC 8439), each with its length (u16, big endian) before it, which is authenticated too.
The nonce is the number of the message.  An empty message ends its direction; a connection that ends without one was cut
off.
"""

from __future__ import annotations

import errno

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hsframework.errors import StreamError
from hsframework.interface import Secret

HEADER_SIZE = 2
TAG_SIZE = 16
MAX_PLAINTEXT = 0xFFFF - TAG_SIZE


class Direction:
    """The cipher of one direction, and the number of its next message."""

    def __init__(self, key: Secret) -> None:
        self._cipher = ChaCha20Poly1305(key.reveal())
        self._number = 0

    def seal(self, data: bytes) -> bytes:
        header = (len(data) + TAG_SIZE).to_bytes(HEADER_SIZE, "big")
        return header + self._cipher.encrypt(self._nonce(), data, header)

    def open(self, message: bytes) -> bytes:
        """Return the plain text of a message with its length.  Raises InvalidTag."""
        return self._cipher.decrypt(self._nonce(), message[HEADER_SIZE:], message[:HEADER_SIZE])

    def _nonce(self) -> bytes:
        number = self._number
        self._number += 1
        return number.to_bytes(12, "little")


class Transport:
    """A session in both directions.

    Errors: StreamError; the one that ended the receiving direction is raised again by every later call.
    """

    owes_output = False

    def __init__(self, send_key: Secret, receive_key: Secret) -> None:
        self._sending = Direction(send_key)
        self._receiving = Direction(receive_key)
        self._buffer = bytearray()
        self._problem: tuple[str, int] | None = None
        self._closed = False
        self.peer_closed = False

    def encrypt(self, data: bytes) -> bytes:
        if self._closed:
            raise StreamError("the stream is closed for sending", errno=errno.EPIPE)
        pieces = (data[start : start + MAX_PLAINTEXT] for start in range(0, len(data), MAX_PLAINTEXT))
        return b"".join(self._sending.seal(bytes(piece)) for piece in pieces)

    def decrypt(self, data: bytes) -> bytes:
        self._check()
        self._buffer += data
        found = bytearray()
        while not self.peer_closed and self._problem is None and (message := self._next()) is not None:
            found += self._opened(message)
        if self.peer_closed or self._problem is not None:
            self._buffer.clear()
        if not found:
            self._check()
        return bytes(found)

    def _next(self) -> bytes | None:
        end = HEADER_SIZE + int.from_bytes(self._buffer[:HEADER_SIZE], "big")
        if len(self._buffer) < HEADER_SIZE or len(self._buffer) < end:
            return None
        message = bytes(self._buffer[:end])
        del self._buffer[:end]
        return message

    def _opened(self, message: bytes) -> bytes:
        try:
            plaintext = self._receiving.open(message)
        except InvalidTag:
            self._problem = ("a message of the peer does not authenticate", errno.EBADMSG)
            return b""
        self.peer_closed = not plaintext
        return plaintext

    def receive_eof(self) -> None:
        if self._problem is None and not self.peer_closed:
            self._problem = ("the connection ended and the peer had not said that it would", errno.ECONNRESET)
        self._check()

    def data_to_send(self) -> bytes:
        return b""

    def close(self) -> bytes:
        if self._closed:
            return b""
        self._closed = True
        return self._sending.seal(b"")

    def _check(self) -> None:
        if self._problem is not None:
            message, number = self._problem
            raise StreamError(message, errno=number)
