"""A connection and its streams over asyncio.

The event loop does the connection's work at all times, until it is closed or over.  Any number of tasks may use it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from hsframework_quic.consumer.connection import Connection
from hsframework_quic.consumer.datagrams import DatagramSocket
from hsframework_quic.consumer.endings import ConnectionEnded, Ending, Undelivered
from hsframework_quic.consumer.later import LATER, Later
from hsframework_quic.consumer.stream_state import StreamState

T = TypeVar("T")


class AsyncDriver:
    """The work of a connection on an event loop: it reads when the socket is readable, and keeps one timer."""

    def __init__(self, connection: Connection, sock: socket.socket) -> None:
        self.connection = connection
        self._io = DatagramSocket(sock)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        self._released = False
        self._writing = False
        self._loop.add_reader(self._io.fileno(), self._on_readable)
        self._send()

    async def call(self, attempt: Callable[[], T | Later]) -> T:
        """Repeat ``attempt`` until its answer is not LATER."""
        while True:
            try:
                result = attempt()
            except ConnectionEnded:
                self.connection.end_was_told = True
                raise
            finally:
                self._send()
            if result is not LATER:
                return result
            future: asyncio.Future[None] = self._loop.create_future()
            self._waiters.add(future)
            try:
                await future
            finally:
                self._waiters.discard(future)

    def do(self, action: Callable[[], T]) -> T:
        """Do something that never waits, and send its output."""
        try:
            return action()
        finally:
            self._send()

    def release(self) -> None:
        """Leave the loop and close our copy of the socket; every waiting task tries again."""
        if not self._released:
            self._released = True
            self._leave()
            self._io.close()
            self._wake()

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._io.fileno())
        self._loop.remove_writer(self._io.fileno())

    def _on_readable(self) -> None:
        now = self._loop.time()
        datagrams, refused = self._io.receive()
        for datagram in datagrams:
            self.connection.receive(datagram, now)
        if refused:
            self.connection.refused()
        self._send()
        self._wake()

    def _on_timer(self) -> None:
        self._timer = None
        self.connection.on_timer(max(self._loop.time(), self.connection.timer() or 0))
        self._send()
        self._wake()

    def _on_writable(self) -> None:
        self._send()

    def _send(self) -> None:
        if self._released:
            return
        if self._io.send(self.connection.output(self._loop.time())):
            self.connection.refused()
        if self._io.owes != self._writing:
            self._writing = self._io.owes
            if self._writing:
                self._loop.add_writer(self._io.fileno(), self._on_writable)
            else:
                self._loop.remove_writer(self._io.fileno())
        self._arm()

    def _arm(self) -> None:
        due = self.connection.timer()
        if due is None and not self._writing:
            self._leave()
            return
        if self._timer is not None:
            if self._timer.when() == due:
                return
            self._timer.cancel()
        self._timer = None if due is None else self._loop.call_at(due, self._on_timer)

    def _wake(self) -> None:
        for future in self._waiters:
            if not future.done():
                future.set_result(None)


class AsyncQuicStream:
    """A stream.  Implements :class:`hsframework.interface.AsyncStream`; errors as of :class:`.blocking.QuicStream`."""

    def __init__(self, driver: AsyncDriver, state: StreamState) -> None:
        self._driver = driver
        self._streams = driver.connection.streams
        self._state = state

    @property
    def id(self) -> int:
        """The number of the stream (RFC 9000 section 2.1)."""
        return self._state.id

    async def send(self, data: bytes) -> None:
        """Send all of ``data``; return when the last of it is sent or waits for the congestion window."""
        rest = memoryview(data)
        while True:
            part = rest
            rest = rest[await self._driver.call(lambda part=part: self._streams.try_send(self._state, part)) :]  # type: ignore[misc]
            if not rest:
                return

    async def receive(self, max_size: int = 65536) -> bytes:
        """Return at least one byte and at most ``max_size``; ``b""`` once the peer has ended the stream."""
        if max_size < 1:
            raise ValueError("max_size is at least 1")
        return await self._driver.call(lambda: self._streams.try_receive(self._state, max_size))

    async def send_eof(self) -> None:
        """End our side of the stream (FIN).  A second call does nothing."""
        self._driver.do(lambda: self._streams.send_eof(self._state))

    async def reset(self, code: int = 0) -> None:
        """Give up sending (RESET_STREAM) with a code of the application protocol; unacknowledged data is lost."""
        self._driver.do(lambda: self._streams.reset(self._state, code))

    async def stop(self, code: int = 0) -> None:
        """Ask the peer to send no more (STOP_SENDING); unread data is dropped."""
        self._driver.do(lambda: self._streams.stop(self._state, code))

    async def close(self) -> None:
        """Close the stream: FIN, and STOP_SENDING if the peer has not ended it.  The connection goes on."""
        self._driver.do(lambda: self._streams.finish(self._state))

    async def __aenter__(self) -> AsyncQuicStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncQuicConnection:
    """A connection.  Implements :class:`hsframework.interface.AsyncConnection`.

    As a stream it is the client's first bidirectional stream, which a client opens and a server waits for.
    """

    def __init__(
        self, connection: Connection, sock: socket.socket, on_release: Callable[[], None] = lambda: None
    ) -> None:
        self._connection = connection
        self._socket = sock
        self._on_release = on_release
        self._driver = AsyncDriver(connection, sock)
        self._main: AsyncQuicStream | None = None
        self._closed = False

    @property
    def socket(self) -> socket.socket:
        """The owner's socket; the connection does not close it."""
        return self._socket

    @property
    def ending(self) -> Ending | None:
        """The end of the connection; None: it goes on."""
        return self._connection.ending

    # Streams

    async def open_stream(self, *, unidirectional: bool = False) -> AsyncQuicStream:
        """Open a stream of ours; wait while the peer allows no more.  The peer learns of it with the first data."""
        return AsyncQuicStream(
            self._driver, await self._driver.call(lambda: self._connection.streams.try_open(unidirectional))
        )

    async def accept_stream(self, *, unidirectional: bool | None = None) -> AsyncQuicStream | None:
        """Return the next stream that the peer opened, of one kind or of either.

        None: it has closed the connection, code 0.
        """
        state: StreamState | None = await self._driver.call(lambda: self._connection.streams.try_accept(unidirectional))
        return None if state is None else AsyncQuicStream(self._driver, state)

    async def send(self, data: bytes) -> None:
        """Send all of ``data`` on the first bidirectional stream."""
        await (await self._main_stream()).send(data)

    async def receive(self, max_size: int = 65536) -> bytes:
        """Return at least one byte of the first bidirectional stream; ``b""`` once the peer has ended it."""
        return await (await self._main_stream()).receive(max_size)

    async def send_eof(self) -> None:
        """End the first bidirectional stream on our side (FIN)."""
        await (await self._main_stream()).send_eof()

    async def _main_stream(self) -> AsyncQuicStream:
        if self._main is None:
            self._main = AsyncQuicStream(self._driver, await self._driver.call(self._connection.streams.try_main))
        return self._main

    # Datagrams

    @property
    def max_datagram_size(self) -> int | None:
        """The largest datagram, in bytes; None: the peer takes no datagrams."""
        return self._connection.max_datagram_size

    async def send_datagram(self, data: bytes) -> None:
        """Send one unreliable datagram (RFC 9221).

        Raises StreamError: EOPNOTSUPP the peer takes none, EMSGSIZE too large.
        """
        await self._driver.call(lambda: self._connection.try_send_datagram(data))

    async def receive_datagram(self) -> bytes:
        """Return the next datagram."""
        return await self._driver.call(self._connection.try_receive_datagram)

    # The connection

    async def ping(self) -> None:
        """Send PING and return when the peer has acknowledged it."""
        number = self._driver.do(self._connection.ping)
        await self._driver.call(lambda: self._connection.try_answered(number))

    async def update_keys(self) -> None:
        """Change the keys of both directions (RFC 9001 section 6); wait until an earlier change is acknowledged."""
        await self._driver.call(self._connection.try_update_keys)

    def keep_alive(self, interval: float | None) -> None:
        """Send PING after so many silent seconds; None: do not."""
        self._driver.do(lambda: self._connection.keep_alive(interval))

    async def wait_ended(self) -> Ending:
        """Wait until the connection is over, and return its end."""
        return await self._driver.call(lambda: LATER if self._connection.ending is None else self._connection.ending)

    async def close(self, code: int = 0, reason: str = "") -> None:
        """Send CONNECTION_CLOSE and release the session; the socket stays its owner's.  A second call does nothing.

        With code 0 the first bidirectional stream is ended before, and this waits until the peer has acknowledged what
        was sent on any stream, as long as it goes on acknowledging.  Raises Undelivered, with the session released, if
        it stops.  With another code nothing is waited for.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if code == 0:
                with suppress(TimeoutError):
                    await self._deliver()
                self._connection.check_delivered()
        finally:
            self._driver.do(lambda: self._connection.close(code, reason))
            self._driver.release()
            self._on_release()

    async def _deliver(self) -> None:
        """Wait until the peer has all or the connection is over.  Raises TimeoutError if nothing moves."""
        finished: bool | None = False
        while not finished:
            before = self._connection.undelivered() or None
            async with asyncio.timeout(self._connection.patience()):
                finished = await self._driver.call(lambda before=before: self._connection.try_finished(before))  # type: ignore[misc]

    async def __aenter__(self) -> AsyncQuicConnection:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            await self.close()
        except Undelivered:
            if kind is None:
                raise
