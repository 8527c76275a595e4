"""Endpoints in memory, for a handshaker that is run by hand: the test chooses the input, and its pieces.

::

    endpoint = MemoryStream()
    task = asyncio.ensure_future(handshaker.handshake(request, endpoint))
    endpoint.feed(b"the first half")            # any split
    endpoint.feed(b" and the second")
    assert await task and endpoint.rest == b""  # bytes that the handshaker has not read are the consumer's

They implement :class:`hsframework.interface.Endpoint` with its rules: exact reads, ``PEER_GONE`` at the end, TypeError
for a method of the other kind.
"""

from __future__ import annotations

import asyncio
import socket as _socket
from collections import deque
from collections.abc import Callable

from hsframework.failures import Failure, HandshakeFailed
from hsframework.testing.network import tcp_pair, udp_pair


class _Memory:
    """The base class of both kinds."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        """Data that the handshaker has sent, one item for each call of ``send``."""
        self.ended = False
        self._arrived = asyncio.Event()
        self._sockets: tuple[_socket.socket, _socket.socket] | None = None

    _pair: Callable[[], tuple[_socket.socket, _socket.socket]] = staticmethod(tcp_pair)

    @property
    def socket(self) -> _socket.socket:
        """Connected loopback socket for socket options, which carries no data.  :meth:`close` closes it."""
        if self._sockets is None:
            self._sockets = type(self)._pair()
        return self._sockets[0]

    def feed_end(self) -> None:
        """Let the peer close the connection."""
        self.ended = True
        self._arrived.set()

    def close(self) -> None:
        """Close the sockets, if there are any."""
        for sock in self._sockets or ():
            sock.close()
        self._sockets = None

    async def send(self, data: bytes) -> None:
        """Append ``data`` to ``sent``.  Raises HandshakeFailed (PEER_GONE) after :meth:`feed_end`."""
        if self.ended:
            raise HandshakeFailed(Failure.PEER_GONE, "the peer closed the connection")
        self.sent.append(bytes(data))

    async def _more(self) -> None:
        if self.ended:
            raise HandshakeFailed(Failure.PEER_GONE, "the peer closed the connection")
        self._arrived.clear()
        await self._arrived.wait()


class MemoryStream(_Memory):
    """An endpoint for a stream socket, without the socket."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting = bytearray()

    @property
    def rest(self) -> bytes:
        """Bytes that were fed and not read."""
        return bytes(self._waiting)

    def feed(self, data: bytes) -> None:
        """Let the peer send bytes."""
        self._waiting += data
        self._arrived.set()

    async def receive_exactly(self, size: int) -> bytes:
        if size < 0:
            raise ValueError(f"{size} bytes cannot be received")
        parts = bytearray()
        while len(parts) < size:
            if not self._waiting:
                await self._more()
                continue
            missing = size - len(parts)
            parts += self._waiting[:missing]
            del self._waiting[:missing]
        return bytes(parts)

    async def receive_record(self, header_size: int, body_size: Callable[[bytes], int]) -> bytes:
        header = await self.receive_exactly(header_size)
        return header + await self.receive_exactly(body_size(header))

    async def peek(self, max_size: int) -> bytes:
        while not self._waiting:
            await self._more()
        return bytes(self._waiting[:max_size])

    def take(self, size: int) -> None:
        if size > len(self._waiting):
            raise BlockingIOError(f"{size} bytes are taken, and {len(self._waiting)} are there")
        del self._waiting[:size]

    async def receive_datagram(self, max_size: int = 65535, *, until: float | None = None) -> bytes:
        raise TypeError("receive_datagram is for datagram sockets; a stream socket has receive_record")


class MemoryDatagrams(_Memory):
    """An endpoint for a datagram socket, without the socket."""

    _pair = staticmethod(udp_pair)

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[bytes] = deque()

    @property
    def rest(self) -> list[bytes]:
        """Datagrams that were fed and not read."""
        return list(self._waiting)

    def feed(self, datagram: bytes) -> None:
        """Let the peer send a datagram."""
        self._waiting.append(datagram)
        self._arrived.set()

    async def receive_datagram(self, max_size: int = 65535, *, until: float | None = None) -> bytes:
        async with asyncio.timeout_at(None if self._waiting else until):
            while not self._waiting:
                await self._more()
        return self._waiting.popleft()[:max_size]

    async def receive_exactly(self, size: int) -> bytes:
        raise TypeError("receive_exactly is for stream sockets; a datagram socket has receive_datagram")

    async def receive_record(self, header_size: int, body_size: Callable[[bytes], int]) -> bytes:
        raise TypeError("receive_record is for stream sockets; a datagram socket has receive_datagram")

    async def peek(self, max_size: int) -> bytes:
        raise TypeError("peek is for stream sockets; a datagram socket has receive_datagram")

    def take(self, size: int) -> None:
        raise TypeError("take is for stream sockets; a datagram socket has receive_datagram")
