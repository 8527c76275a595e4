"""The stream over asyncio.  One task may send while another receives; several senders take turns."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Self, TypeVar

from hsframework.errors import StreamError
from hsframework.streams.channel import Channel

T = TypeVar("T")


class AsyncioStream:
    """A stream for asynchronous consumers: implements :class:`hsframework.interface.AsyncStream`.

    It makes its socket non-blocking, as asyncio needs it.  Errors: StreamError, OSError.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._writing = asyncio.Lock()
        self._reading = asyncio.Lock()
        self._released = False
        channel.socket.setblocking(False)

    @property
    def socket(self) -> socket.socket:
        """Return the socket, which stays its owner's: the stream does not close it."""
        return self._channel.socket

    @property
    def peer_closed(self) -> bool:
        """True if the peer has closed its direction properly."""
        return self._channel.peer_closed

    async def send(self, data: bytes) -> None:
        """Send all of ``data``.  After a cancellation the next call that sends begins with the rest."""
        await self.write(lambda: self._channel.queue_data(data))

    async def receive(self, max_size: int = 65536) -> bytes:
        """Receive 1 to ``max_size`` bytes; ``b""`` once the peer has closed its direction properly."""
        if max_size < 1:
            raise ValueError("max_size is at least 1")
        async with self._reading:
            while True:
                self._check()
                try:
                    data = await self._wait_for(lambda: self._channel.try_receive(max_size), write=False)
                finally:
                    self._answer()
                if data is not None:
                    return data

    async def send_eof(self) -> None:
        """Close our direction; receiving goes on.  A second call sends nothing."""
        await self.write(self._channel.queue_close)

    async def close(self) -> None:
        """Close our direction and release the session.  A lost connection is no error, nor is a second call."""
        if self._released:
            return
        self._released = True
        async with self._writing:
            with suppress(OSError, StreamError):
                self._channel.queue_close()
                await self._wait_for(self._channel.try_flush, write=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _check(self) -> None:
        if self._released:
            raise StreamError("the stream is closed")

    async def write(self, queue: Callable[[], None]) -> None:
        """Call ``queue``, which queues a message on the channel, and send it: for messages other than data."""
        self._check()
        async with self._writing:
            queue()
            await self._wait_for(self._channel.try_flush, write=True)
            while self._channel.owes_output:
                await self._wait_for(self._channel.try_flush, write=True)

    def _answer(self) -> None:
        """Send the answers that reading made due; a writer that is at work sends them itself when it has finished."""
        if self._channel.owes_output and not self._writing.locked():
            with suppress(OSError):
                self._channel.try_flush()

    async def _wait_for(self, attempt: Callable[[], T], *, write: bool) -> T:
        while True:
            try:
                return attempt()
            except BlockingIOError:
                await _ready(self._channel.socket, write=write)


async def _ready(sock: socket.socket, *, write: bool) -> None:
    """Wait until the socket is readable; with ``write``, writable."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    descriptor = sock.fileno()
    add(descriptor, wake)
    try:
        await future
    finally:
        remove(descriptor)
