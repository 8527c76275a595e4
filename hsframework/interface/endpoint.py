"""The endpoint: the socket as a handshaker sees it."""

from __future__ import annotations

import socket as _socket
from collections.abc import Callable
from typing import Protocol as TypingProtocol


class Endpoint(TypingProtocol):
    """The socket, as a handshaker sees it.  Every wait ends at the request's deadline.

    Errors: ``HandshakeFailed`` with ``Failure.PEER_GONE`` when the connection ends or is reset in mid-read.
    """

    @property
    def socket(self) -> _socket.socket:
        """For socket options alone (kTLS, addresses); reads and writes go through the endpoint."""
        ...

    async def receive_exactly(self, size: int) -> bytes:
        """Exactly ``size`` bytes of a stream socket; what follows them stays in the socket."""
        ...

    async def receive_record(self, header_size: int, body_size: Callable[[bytes], int]) -> bytes:
        """One record: a header of ``header_size`` bytes, then as many as ``body_size(header)`` says.  Both returned.

        ``body_size`` raises ``HandshakeError`` for a header that it does not accept; nothing more is read then.
        """
        ...

    async def peek(self, max_size: int) -> bytes:
        """What waits in a stream socket, 1 to ``max_size`` bytes, without taking it.

        For reading several records at once: look, find how many bytes are ours, :meth:`take` so many.  What is not
        whole yet is read by the methods above, since ``peek`` does not wait for more than it has shown.
        """
        ...

    def take(self, size: int) -> None:
        """Take so many of the bytes that :meth:`peek` has just shown."""
        ...

    async def receive_datagram(self, max_size: int = 65535, *, until: float | None = None) -> bytes:
        """One datagram of a datagram socket.

        ``until``: on the loop's clock; TimeoutError when none has come by then.
        """
        ...

    async def send(self, data: bytes) -> None:
        """All of ``data`` (one datagram on a datagram socket)."""
        ...
