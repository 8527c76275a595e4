"""Bytes between a session and a plain connection, both ways.

* Each direction ends by itself: the end of one is told to the other side, and the opposite direction goes on.
* A side that breaks breaks the other: a connection that was cut never seems to have ended properly.  So the plain one
  is reset, and the session gets no close_notify.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

from hsframework.interface import AsyncStream

CHUNK = 1 << 16


class PlainStream:
    """A plain connection as an AsyncStream; its socket does not block."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        await self._loop.sock_sendall(self.socket, data)

    async def receive(self, max_size: int = CHUNK) -> bytes:
        """Receive 1 to ``max_size`` bytes; ``b""`` at the end."""
        return await self._loop.sock_recv(self.socket, max_size)

    async def send_eof(self) -> None:
        """Close our direction."""
        self.socket.shutdown(socket.SHUT_WR)

    async def close(self) -> None:
        """Close our direction; the socket stays its owner's."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)


async def relay(session: AsyncStream, plain: PlainStream) -> None:
    """Relay until both directions have ended, and end the session.

    Raises the first error of either side; the plain connection is reset when its socket is closed then.
    """
    ways = [asyncio.ensure_future(_one_way(session, plain)), asyncio.ensure_future(_one_way(plain, session))]
    try:
        await asyncio.gather(*ways)
        await session.close()
    except BaseException:
        reset_on_close(plain.socket)
        raise
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _one_way(source: AsyncStream, target: AsyncStream) -> None:
    while data := await source.receive(CHUNK):
        await target.send(data)
    await target.send_eof()


def reset_on_close(sock: socket.socket) -> None:
    """Make the close of this socket reset the connection (SO_LINGER of 0 seconds)."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
