"""The work of a connection, done in blocking calls, without a thread.

* Whoever calls does the connection's work meanwhile: takes in what has arrived, sends what is due, keeps the timers of
  loss recovery.  Between calls nothing is done: no acknowledgement goes out, and the peer's idle timeout may run off.
* Any number of threads may call.  One of them waits at the socket for all; when it wakes up, everybody looks again.
  One that has set an earlier deadline meanwhile wakes it through an eventfd.
* Waits end at the owner's socket timeout with TimeoutError; with a timeout of 0 a call that would wait raises
  BlockingIOError.
"""

from __future__ import annotations

import math
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from hsframework_quic.consumer.connection import Connection
from hsframework_quic.consumer.datagrams import DatagramSocket
from hsframework_quic.consumer.endings import ConnectionEnded
from hsframework_quic.consumer.later import LATER, Later

T = TypeVar("T")

MAX_BATCHES = 16
"""Of datagrams taken in at once: a peer that sends and sends does not keep a caller from its own business."""


class Driver:
    """The work of one connection on one socket, for any number of threads."""

    def __init__(self, connection: Connection, sock: socket.socket) -> None:
        self.connection = connection
        self._owner = sock
        self._io = DatagramSocket(sock)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._changed = threading.Condition()
        self._waits_until: float | None = None
        """The time until which a thread waits at the socket; None: no thread does."""
        self._released = False
        with self._changed:
            self._send()

    def call(self, attempt: Callable[[], T | Later], timeout: float | None = -1) -> T:
        """Repeat ``attempt`` until its answer is not LATER, and do the connection's work.

        ``timeout`` in seconds, None for ever, -1 the socket's own.
        """
        if timeout == -1:
            timeout = self._owner.gettimeout()
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        with self._changed:
            while True:
                self._take_in()
                try:
                    result = attempt()
                except ConnectionEnded:
                    self.connection.end_was_told = True
                    raise
                finally:
                    self._send()
                if result is not LATER:
                    return result
                if timeout == 0:
                    raise BlockingIOError("the call would have to wait for the peer")
                if time.monotonic() >= deadline:
                    raise TimeoutError("timed out")
                self._wait(deadline)

    def do(self, action: Callable[[], T]) -> T:
        """Do something that never waits, and send its output."""
        return self.call(action, 0)

    def release(self) -> None:
        """Close our copy of the socket; every waiting thread tries again."""
        with self._changed:
            if self._released:
                return
            self._released = True
            self._nudge()
            # The thread at the socket still uses both.
            while self._waits_until is not None:
                self._changed.wait()
            self._io.close()
            os.close(self._wake)
            self._changed.notify_all()

    def __del__(self) -> None:
        if not getattr(self, "_released", True):
            self._released = True
            self._io.close()
            os.close(self._wake)

    def _take_in(self) -> None:
        if self._released:
            return
        now = time.monotonic()
        for _ in range(MAX_BATCHES):
            datagrams, refused = self._io.receive()
            for datagram in datagrams:
                self.connection.receive(datagram, now)
            if refused:
                self.connection.refused()
            if not datagrams:
                break
            self._send()
        due = self.connection.timer()
        if due is not None and due <= now:
            self.connection.on_timer(now)

    def _send(self) -> None:
        if self._released:
            return
        if self._io.send(self.connection.output(time.monotonic())):
            self.connection.refused()
        self._changed.notify_all()
        due = self.connection.timer()
        if self._waits_until is not None and (due is None or due < self._waits_until):
            self._nudge()

    def _nudge(self) -> None:
        os.eventfd_write(self._wake, 1)

    def _wait(self, deadline: float) -> None:
        """Wait until something may have changed; the lock is free meanwhile."""
        if self._waits_until is not None or self._released:
            self._changed.wait(None if deadline == math.inf else max(0.0, deadline - time.monotonic()))
            return
        due = self.connection.timer()
        self._waits_until = until = min(deadline, math.inf if due is None else due)
        poller = select.poll()
        poller.register(self._io, select.POLLIN | (select.POLLOUT if self._io.owes else 0))
        poller.register(self._wake, select.POLLIN)
        self._changed.release()
        try:
            # Rounded up: a wait that ends just before its time would be repeated at once.
            ready = poller.poll(None if until == math.inf else math.ceil(max(0.0, until - time.monotonic()) * 1000))
        finally:
            self._changed.acquire()
            self._waits_until = None
            self._changed.notify_all()
        if any(fd == self._wake for fd, _ in ready):
            os.eventfd_read(self._wake)
