"""The stream over asyncio.  One task may send while another receives; several senders take turns.

A task that waits watches the socket's fd in the loop.  ``close`` ends every wait, and has left the loop when it
returns: the owner may then close the socket, and another connection may get its number.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Self, TypeVar

from hsframework.errors import StreamError
from hsframework.streams.channel import Channel, flush_answers

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
        self._waits: set[_Wait] = set()
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
                try:
                    data = await self._wait_for(lambda: self._read(max_size), write=False)
                finally:
                    if not self._released:
                        self._answer()
                if data is not None:
                    return data

    async def send_eof(self) -> None:
        """Close our direction; receiving goes on.  A second call sends nothing."""
        await self.write(self._channel.queue_close)

    async def close(self) -> None:
        """Close our direction and release the session.  A lost connection is no error, nor is a second call.

        A ``receive`` that waits ends with StreamError; a ``send`` goes on first, and ends so if ``close`` is cancelled.
        """
        if self._released:
            return
        self._released = True
        try:
            self._end_waits(write=False)
            async with self._writing:
                with suppress(OSError):
                    self._channel.queue_close()
                    await self._wait_for(self._channel.try_flush, write=True)
        finally:
            self._end_waits(write=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _read(self, max_size: int) -> bytes | None:
        self._check()
        return self._channel.try_receive(max_size)

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
            flush_answers(self._channel)

    async def _wait_for(self, attempt: Callable[[], T], *, write: bool) -> T:
        while True:
            try:
                return attempt()
            except BlockingIOError:
                wait = _Wait(self._channel.socket, write=write)
            self._waits.add(wait)
            try:
                await wait.future
            finally:
                wait.stop()
                self._waits.discard(wait)

    def _end_waits(self, *, write: bool) -> None:
        for wait in [wait for wait in self._waits if wait.write == write]:
            wait.end(StreamError("the stream is closed"))


class _Wait:
    """One task's wait until the socket is readable; with ``write``, writable."""

    def __init__(self, sock: socket.socket, *, write: bool) -> None:
        self.write = write
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self._loop.create_future()
        self._descriptor: int | None = sock.fileno()
        (self._loop.add_writer if write else self._loop.add_reader)(self._descriptor, self._wake)

    def stop(self) -> None:
        """Leave the loop, once: later the number may be that of another connection."""
        if self._descriptor is not None:
            (self._loop.remove_writer if self.write else self._loop.remove_reader)(self._descriptor)
            self._descriptor = None

    def end(self, error: StreamError) -> None:
        """Leave the loop now, and raise ``error`` in the task that waits."""
        self.stop()
        if not self.future.done():
            self.future.set_exception(error)

    def _wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)
