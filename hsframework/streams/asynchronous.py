"""The same stream over asyncio.  One task may send while another receives; several senders take turns."""

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
    """Implements :class:`hsframework.interface.AsyncStream`.  Makes its socket non-blocking, as asyncio needs it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._writing = asyncio.Lock()
        self._reading = asyncio.Lock()
        self._released = False
        channel.socket.setblocking(False)

    @property
    def socket(self) -> socket.socket:
        """Its owner's; the stream does not close it."""
        return self._channel.socket

    @property
    def peer_closed(self) -> bool:
        """The peer has closed its direction properly."""
        return self._channel.peer_closed

    async def send(self, data: bytes) -> None:
        """Send all of ``data``.  Cancelled in between, the rest goes out with the next call that sends."""
        await self.write(lambda: self._channel.queue_data(data))

    async def receive(self, max_size: int = 65536) -> bytes:
        """At least one byte and at most ``max_size``; ``b""`` once the peer has closed its direction properly."""
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
        """Say goodbye; receiving goes on.  A second call says nothing."""
        await self.write(self._channel.queue_close)

    async def close(self) -> None:
        """Say goodbye and release the session.  A connection that is gone is no error; nor is a second call."""
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
        """Queue something on the channel and send it: for what a protocol can say beside data."""
        self._check()
        async with self._writing:
            queue()
            await self._wait_for(self._channel.try_flush, write=True)
            while self._channel.owes_output:
                await self._wait_for(self._channel.try_flush, write=True)

    def _answer(self) -> None:
        """Send what reading found due, unless a writer is at it, which then does so itself when it is through."""
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
    """Wait until the socket is readable, or writable."""
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
