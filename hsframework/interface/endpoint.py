"""The endpoint: the socket as a handshaker sees it."""

from __future__ import annotations

import socket as _socket
from collections.abc import Callable
from typing import Protocol as TypingProtocol


class Endpoint(TypingProtocol):
    """The socket of a request, as its handshaker sees it.  Every wait ends at the request's deadline.

    Errors: ``HandshakeFailed`` with ``Failure.PEER_GONE`` when the connection ends or is reset in mid-read.
    """

    @property
    def socket(self) -> _socket.socket:
        """Return the socket, for its options alone (kTLS, addresses); reads and writes go through the endpoint."""
        ...

    async def receive_exactly(self, size: int) -> bytes:
        """Receive exactly ``size`` bytes of a stream socket; the bytes behind them stay in the socket."""
        ...

    async def receive_record(self, header_size: int, body_size: Callable[[bytes], int]) -> bytes:
        """Receive one record of a stream socket: header and body, joined.

        The header has ``header_size`` bytes, the body ``body_size(header)``.  ``body_size`` raises ``HandshakeError``
        for a header that it does not accept; nothing more is read then.
        """
        ...

    async def peek(self, max_size: int) -> bytes:
        """Return the bytes that wait in a stream socket, 1 to ``max_size``, without taking them.

        For reading several records at once: peek, count the bytes that are ours, and :meth:`take` them.  A record that
        is still incomplete is read by the methods above, since ``peek`` does not wait for more than it has shown.
        """
        ...

    def take(self, size: int) -> None:
        """Take ``size`` of the bytes that :meth:`peek` has just shown."""
        ...

    async def receive_datagram(self, max_size: int = 65535, *, until: float | None = None) -> bytes:
        """Receive one datagram of a datagram socket.

        ``until``: seconds on the loop's clock; raises TimeoutError when no datagram has arrived by then.
        """
        ...

    async def send(self, data: bytes) -> None:
        """Send all of ``data``; on a datagram socket, as one datagram."""
        ...
