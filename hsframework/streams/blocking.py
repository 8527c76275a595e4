"""The blocking stream.  One thread may send while another receives.

Waits end at the socket's timeout (``settimeout``) with TimeoutError; after a ``send`` that timed out the next call that
sends begins with the rest.  A non-blocking socket gives BlockingIOError.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self, TypeVar

from hsframework.errors import StreamError
from hsframework.streams.channel import Channel, flush_answers

T = TypeVar("T")


class BlockingStream:
    """A stream for synchronous consumers: implements :class:`hsframework.interface.Stream`.

    Errors: StreamError, OSError; TimeoutError at the socket's timeout.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        self._released = False

    @property
    def socket(self) -> socket.socket:
        """Return the socket, which stays its owner's: the stream does not close it."""
        return self._channel.socket

    @property
    def peer_closed(self) -> bool:
        """True if the peer has closed its direction properly."""
        return self._channel.peer_closed

    @property
    def pending(self) -> int:
        """Return the number of bytes that can be received without the socket."""
        return self._channel.pending

    def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        self.write(lambda: self._channel.queue_data(data))

    def receive(self, max_size: int = 65536) -> bytes:
        """Receive 1 to ``max_size`` bytes; ``b""`` once the peer has closed its direction properly."""
        if max_size < 1:
            raise ValueError("max_size is at least 1")
        with self._reading:
            while True:
                self._check()
                try:
                    data = self._wait_for(lambda: self._channel.try_receive(max_size), select.POLLIN)
                finally:
                    self._answer()
                if data is not None:
                    return data

    def send_eof(self) -> None:
        """Close our direction; receiving goes on.  A second call sends nothing."""
        self.write(self._channel.queue_close)

    def close(self) -> None:
        """Close our direction and release the session.  A lost connection is no error, nor is a second call."""
        if self._released:
            return
        self._released = True
        with self._writing, suppress(OSError):
            self._channel.queue_close()
            self._wait_for(self._channel.try_flush, select.POLLOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self) -> None:
        if self._released:
            raise StreamError("the stream is closed")

    def write(self, queue: Callable[[], None]) -> None:
        """Call ``queue``, which queues a message on the channel, and send it: for messages other than data."""
        self._check()
        with self._writing:
            queue()
            self._wait_for(self._channel.try_flush, select.POLLOUT)
        self._answer()

    def _answer(self) -> None:
        """Send the answers that reading made due; a writer that is at work sends them itself when it has finished."""
        while self._channel.owes_output and self._writing.acquire(blocking=False):
            try:
                flush_answers(self._channel)
            finally:
                self._writing.release()

    def _wait_for(self, attempt: Callable[[], T], event: int) -> T:
        while True:
            try:
                return attempt()
            except BlockingIOError:
                timeout = self.socket.gettimeout()
                if timeout == 0:
                    raise
            poller = select.poll()
            poller.register(self.socket, event)
            if not poller.poll(None if timeout is None else timeout * 1000):
                raise TimeoutError("timed out")
