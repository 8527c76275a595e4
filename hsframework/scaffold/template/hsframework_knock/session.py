"""The session after the handshake, without I/O: plain text in frames of a length (u16, big endian) and as many bytes.

An empty frame ends its direction, so that a broken connection is not mistaken for the end of the data.
"""

from __future__ import annotations

import errno

from hsframework.errors import StreamError

VERSION = 1
HEADER_SIZE = 2
MAX_FRAME = 0xFFFF


class Frames:
    """A :class:`hsframework.streams.UserSpaceSession`.  A real protocol encrypts and decrypts here."""

    def __init__(self, version: int = VERSION) -> None:
        if version != VERSION:
            raise StreamError(f"frames of version {version}, and this is version {VERSION}; install one that fits")
        self._buffer = bytearray()
        self._closed = False
        self.peer_closed = False
        self.owes_output = False

    def encrypt(self, data: bytes) -> bytes:
        if self._closed:
            raise StreamError("the stream is closed for sending", errno=errno.EPIPE)
        pieces = (data[start : start + MAX_FRAME] for start in range(0, len(data), MAX_FRAME))
        return b"".join(_frame(piece) for piece in pieces)

    def decrypt(self, data: bytes) -> bytes:
        self._buffer += data
        found = bytearray()
        while not self.peer_closed and (body := self._next()) is not None:
            found += body
            self.peer_closed = not body
        return bytes(found)

    def _next(self) -> bytes | None:
        end = HEADER_SIZE + int.from_bytes(self._buffer[:HEADER_SIZE], "big")
        if len(self._buffer) < HEADER_SIZE or len(self._buffer) < end:
            return None
        body = bytes(self._buffer[HEADER_SIZE:end])
        del self._buffer[:end]
        return body

    def receive_eof(self) -> None:
        if not self.peer_closed:
            raise StreamError("the connection ended and the peer had not said that it would", errno=errno.ECONNRESET)

    def data_to_send(self) -> bytes:
        return b""

    def close(self) -> bytes:
        if self._closed:
            return b""
        self._closed = True
        return _frame(b"")


def _frame(body: bytes) -> bytes:
    return len(body).to_bytes(HEADER_SIZE, "big") + body
