"""The session after the handshake, without I/O: a :class:`hsframework.streams.UserSpaceSession`.

Each transport message has its length before it, as in the handshake.  The rules that Noise leaves to the application:

* An empty message ends its direction (section 13: "applications must be able to detect truncation").  A connection that
  ends without one was cut off.
* After every ``rekey_interval`` messages of a direction its key is changed, on both sides.
* Nonces are not reused: when the last is spent, the direction can carry nothing more.
"""

from __future__ import annotations

import errno

from hsframework.errors import StreamError
from hsframework.interface import Secret

from hsframework_noise.framing import HEADER_SIZE, frame
from hsframework_noise.library import LAST_NONCE, MAX_MESSAGE, TAG_SIZE, Cipher, DoesNotAuthenticate, NoncesUsedUp

MAX_PLAINTEXT = MAX_MESSAGE - TAG_SIZE


class Direction:
    """A cipher that is rekeyed when it is due."""

    def __init__(self, protocol_name: str, key: Secret, *, nonce: int = 0, rekey_interval: int | None = None) -> None:
        self._cipher = Cipher(protocol_name, key, nonce)
        self._interval = rekey_interval

    @property
    def left(self) -> int:
        """The messages that can still be sent."""
        return LAST_NONCE + 1 - self._cipher.nonce

    def encrypt(self, plaintext: bytes) -> bytes:
        message = self._cipher.encrypt(plaintext)
        self._rekey_if_due()
        return message

    def decrypt(self, message: bytes) -> bytes:
        plaintext = self._cipher.decrypt(message)
        self._rekey_if_due()
        return plaintext

    def _rekey_if_due(self) -> None:
        if self._interval is not None and self._cipher.nonce % self._interval == 0:
            self._cipher.rekey()


class Transport:
    """A session in both directions.

    Errors: StreamError; the one that ended the receiving direction is raised again by every later call.
    """

    owes_output = False

    def __init__(self, sending: Direction, receiving: Direction) -> None:
        self._sending = sending
        self._receiving = receiving
        self._buffer = bytearray()
        self._problem: tuple[str, int] | None = None
        self._closed = False
        self.peer_closed = False

    def encrypt(self, data: bytes) -> bytes:
        """Return messages with the data.

        Refuse all of it if the nonces do not suffice: one is kept for the goodbye.
        """
        if self._closed:
            raise StreamError("the stream is closed for sending", errno=errno.EPIPE)
        pieces = [data[start : start + MAX_PLAINTEXT] for start in range(0, len(data), MAX_PLAINTEXT)]
        if len(pieces) >= self._sending.left:
            raise StreamError("the session has used up its nonces; make a new one", errno=errno.EOVERFLOW)
        return b"".join(frame(self._sending.encrypt(piece)) for piece in pieces)

    def decrypt(self, data: bytes) -> bytes:
        self._check()
        self._buffer += data
        plaintext = bytearray()
        while not self.peer_closed and self._problem is None and (message := self._next()) is not None:
            plaintext += self._open(message)
        if self.peer_closed:
            self._buffer.clear()
        if not plaintext:
            self._check()
        return bytes(plaintext)

    def _next(self) -> bytes | None:
        end = HEADER_SIZE + int.from_bytes(self._buffer[:HEADER_SIZE], "big")
        if len(self._buffer) < HEADER_SIZE or len(self._buffer) < end:
            return None
        message = bytes(self._buffer[HEADER_SIZE:end])
        del self._buffer[:end]
        return message

    def _open(self, message: bytes) -> bytes:
        try:
            plaintext = self._receiving.decrypt(message)
        except DoesNotAuthenticate:
            self._problem = ("a message of the peer does not authenticate", errno.EBADMSG)
        except NoncesUsedUp:
            self._problem = ("the peer has used up its nonces and goes on", errno.EPROTO)
        else:
            self.peer_closed = not plaintext
            return plaintext
        self._buffer.clear()
        return b""

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
        return frame(self._sending.encrypt(b"")) if self._sending.left else b""

    def _check(self) -> None:
        if self._problem is not None:
            message, number = self._problem
            raise StreamError(message, errno=number)
