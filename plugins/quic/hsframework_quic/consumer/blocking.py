"""A connection and its streams in blocking calls.  The rules: :mod:`.driver`."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

from hsframework.errors import StreamError
from hsframework_quic.consumer.connection import Connection
from hsframework_quic.consumer.driver import Driver
from hsframework_quic.consumer.endings import Ending, Undelivered
from hsframework_quic.consumer.later import LATER, Later
from hsframework_quic.consumer.stream_state import StreamState


class QuicStream:
    """A stream.  Implements :class:`hsframework.interface.Stream`.

    Errors: StreamAborted (the peer gave up this stream), ConnectionEnded (the connection is over), OSError.
    """

    def __init__(self, driver: Driver, state: StreamState) -> None:
        self._driver = driver
        self._streams = driver.connection.streams
        self._state = state

    @property
    def id(self) -> int:
        """The number of the stream (RFC 9000 section 2.1)."""
        return self._state.id

    def send(self, data: bytes) -> None:
        """Send all of ``data``; return when the last of it is sent or waits for the congestion window."""
        rest = memoryview(data)
        while True:
            # One attempt even for no data: it says whether the stream can be sent on.
            rest = rest[self._driver.call(lambda part=rest: self._streams.try_send(self._state, part)) :]  # type: ignore[misc]
            if not rest:
                return

    def receive(self, max_size: int = 65536) -> bytes:
        """Return at least one byte and at most ``max_size``; ``b""`` once the peer has ended the stream."""
        if max_size < 1:
            raise ValueError("max_size is at least 1")
        return self._driver.call(lambda: self._streams.try_receive(self._state, max_size))

    def send_eof(self) -> None:
        """End our side of the stream (FIN).  A second call does nothing."""
        self._driver.do(lambda: self._streams.send_eof(self._state))

    def reset(self, code: int = 0) -> None:
        """Give up sending (RESET_STREAM) with a code of the application protocol; unacknowledged data is lost."""
        self._driver.do(lambda: self._streams.reset(self._state, code))

    def stop(self, code: int = 0) -> None:
        """Ask the peer to send no more (STOP_SENDING); unread data is dropped."""
        self._driver.do(lambda: self._streams.stop(self._state, code))

    def close(self) -> None:
        """Close the stream: FIN, and STOP_SENDING if the peer has not ended it.  The connection goes on."""
        self._driver.do(lambda: self._streams.finish(self._state))

    def __enter__(self) -> QuicStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class QuicConnection:
    """A connection.  Implements :class:`hsframework.interface.Connection`.

    As a Stream it is the client's first bidirectional stream, which a client opens and a server waits for.
    """

    def __init__(
        self, connection: Connection, sock: socket.socket, on_release: Callable[[], None] = lambda: None
    ) -> None:
        self._connection = connection
        self._socket = sock
        self._on_release = on_release
        self._driver = Driver(connection, sock)
        self._main: QuicStream | None = None
        self._closed = False

    @property
    def socket(self) -> socket.socket:
        """The owner's socket; the connection does not close it."""
        return self._socket

    @property
    def ending(self) -> Ending | None:
        """The end of the connection, as far as it has been noticed; None: it goes on."""
        return self._connection.ending

    # Streams

    def open_stream(self, *, unidirectional: bool = False) -> QuicStream:
        """Open a stream of ours; wait while the peer allows no more.  The peer learns of it with the first data."""
        return QuicStream(self._driver, self._driver.call(lambda: self._connection.streams.try_open(unidirectional)))

    def accept_stream(self, *, unidirectional: bool | None = None) -> QuicStream | None:
        """Return the next stream that the peer opened, of one kind or of either.

        None: it has closed the connection, code 0.
        """
        state: StreamState | None = self._driver.call(lambda: self._connection.streams.try_accept(unidirectional))
        return None if state is None else QuicStream(self._driver, state)

    def send(self, data: bytes) -> None:
        """Send all of ``data`` on the first bidirectional stream."""
        self._main_stream().send(data)

    def receive(self, max_size: int = 65536) -> bytes:
        """Return at least one byte of the first bidirectional stream; ``b""`` once the peer has ended it."""
        return self._main_stream().receive(max_size)

    def send_eof(self) -> None:
        """End the first bidirectional stream on our side (FIN)."""
        self._main_stream().send_eof()

    def _main_stream(self) -> QuicStream:
        if self._main is None:
            self._main = QuicStream(self._driver, self._driver.call(self._connection.streams.try_main))
        return self._main

    # Datagrams

    @property
    def max_datagram_size(self) -> int | None:
        """The largest datagram, in bytes; None: the peer takes no datagrams."""
        return self._connection.max_datagram_size

    def send_datagram(self, data: bytes) -> None:
        """Send one unreliable datagram (RFC 9221).

        Raises StreamError: EOPNOTSUPP the peer takes none, EMSGSIZE too large.
        """
        self._driver.call(lambda: self._connection.try_send_datagram(data))

    def receive_datagram(self) -> bytes:
        """Return the next datagram."""
        return self._driver.call(self._connection.try_receive_datagram)

    # The connection

    def ping(self) -> None:
        """Send PING and return when the peer has acknowledged it."""
        number = self._driver.do(self._connection.ping)
        self._driver.call(lambda: self._connection.try_answered(number))

    def update_keys(self) -> None:
        """Change the keys of both directions (RFC 9001 section 6); wait until an earlier change is acknowledged."""
        self._driver.call(self._connection.try_update_keys)

    def keep_alive(self, interval: float | None) -> None:
        """Send PING after so many silent seconds, while a call waits; None: do not."""
        self._driver.do(lambda: self._connection.keep_alive(interval))

    def run(self, seconds: float) -> None:
        """Do the connection's work for so many seconds: for an application that has no data to send or receive now."""
        with suppress(TimeoutError):
            self._driver.call(self._idle, seconds)

    def _idle(self) -> Later | None:
        return LATER if self._connection.ending is None else None

    def close(self, code: int = 0, reason: str = "") -> None:
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
                with suppress(OSError):
                    self._deliver()
                self._connection.check_delivered()
        finally:
            with suppress(StreamError, OSError):
                self._driver.do(lambda: self._connection.close(code, reason))
            self._driver.release()
            self._on_release()

    def _deliver(self) -> None:
        """Wait until the peer has all or the connection is over.  Raises TimeoutError if nothing moves."""
        while True:
            before = self._connection.undelivered() or None
            if self._driver.call(lambda before=before: self._connection.try_finished(before), self._patience()):  # type: ignore[misc]
                return

    def _patience(self) -> float:
        timeout = self._socket.gettimeout() if self._socket.fileno() >= 0 else None
        patience = self._connection.patience()
        return patience if timeout is None else min(timeout, patience)

    def __enter__(self) -> QuicConnection:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except Undelivered:
            if kind is None:
                raise
