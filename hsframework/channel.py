"""Messages with file descriptors over AF_UNIX SOCK_SEQPACKET: what the dispatcher, its agents and consumers talk over.

Rules:

* One packet is one message, and carries at most one fd.  A packet that was cut off (MSG_TRUNC), whose fds were cut off
  (MSG_CTRUNC) or that brings more than one fd is refused: every fd that came with it is closed and
  :class:`~hsframework.errors.MessageError` raised.
* An fd that is sent stays the sender's: it is duplicated when it is queued and the duplicate closed once sent.
* An fd that is received belongs to the receiver of the packet, close-on-exec.
* A peer that does not read what it is sent is not read from either, so that its queue here stays bounded.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import threading
from collections import deque
from collections.abc import Callable

from hsframework.errors import MessageError

MAX_PACKET = 200 * 1024
"""Bytes of one message: below Linux's default SO_SNDBUF (212,992) less its overhead."""

LOCAL_MESSAGE_TYPE = 0x20
"""``nlmsg_type`` of every message of the local family."""

# As plain integers: the enum's operators cost more than the system call.
_TRUNC, _CTRUNC = int(socket.MSG_TRUNC), int(socket.MSG_CTRUNC)
_NOSIGNAL, _CLOEXEC = int(socket.MSG_NOSIGNAL), int(socket.MSG_CMSG_CLOEXEC)
_CONTROL_SIZE = socket.CMSG_SPACE(4 * 4) + socket.CMSG_SPACE(12)


class _Buffer(threading.local):
    """Where a packet is received: one for each thread, since it is large and every channel can share it."""

    def __init__(self) -> None:
        self.memory = bytearray(MAX_PACKET + 1)
        self.view = memoryview(self.memory)


_buffer = _Buffer()


def send_packet(sock: socket.socket, data: bytes, fd: int | None = None) -> None:
    """Send one message.  Raises BlockingIOError when the peer's queue is full, OSError when it is gone."""
    if len(data) > MAX_PACKET:
        raise MessageError(f"a message of {len(data)} bytes; at most {MAX_PACKET} go into one")
    if fd is None:
        sock.send(data, _NOSIGNAL)
    else:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        sock.sendmsg([data], rights, _NOSIGNAL)


def receive_packet(sock: socket.socket) -> tuple[bytes, int | None]:
    """Receive one message and its fd.  ``(b"", None)``: the peer has closed."""
    size, control, flags, _ = sock.recvmsg_into([_buffer.memory], _CONTROL_SIZE, _CLOEXEC)
    if not control and not flags & (_TRUNC | _CTRUNC):
        return bytes(_buffer.view[:size]), None
    fds = _received_fds(control)
    problem = None
    if flags & _TRUNC:
        problem = f"a message of more than {MAX_PACKET} bytes"
    elif flags & _CTRUNC:
        problem = "file descriptors were cut off a message"
    elif len(fds) > 1:
        problem = f"a message with {len(fds)} file descriptors; one is allowed"
    if problem is not None:
        for fd in fds:
            os.close(fd)
        raise MessageError(problem)
    return bytes(_buffer.view[:size]), fds[0] if fds else None


def _received_fds(control: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return fds.tolist()


class AsyncChannel:
    """A connection on an asyncio loop.

    ``on_packet(data, fd)`` is called for each message and owns the fd; ``on_closed(error)`` once, when the peer has
    gone (None), broke a rule above (MessageError) or the socket failed (OSError).  Neither is called after
    :meth:`close`.  At most ``burst`` messages are taken from one connection before the loop turns to the others.
    """

    BURST = 32
    HIGH_WATER = 256

    def __init__(
        self,
        sock: socket.socket,
        on_packet: Callable[[bytes, int | None], None],
        on_closed: Callable[[Exception | None], None],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = loop or asyncio.get_running_loop()
        self._on_packet = on_packet
        self._on_closed = on_closed
        self._queue: deque[tuple[bytes, int | None]] = deque()
        self._reading = False
        self.closed = False
        self._resume_reading()

    def send(self, data: bytes, fd: int | None = None) -> None:
        """Send, or queue.  A channel that is closed, or whose peer is gone, drops the message."""
        if self.closed:
            return
        if self._queue:
            self._enqueue(data, fd)
            return
        try:
            send_packet(self._socket, data, fd)
        except BlockingIOError:
            self._enqueue(data, fd)
            self._loop.add_writer(self._socket.fileno(), self._flush)
        except OSError as error:
            self._fail_soon(error)

    def close(self) -> None:
        """Close at once; what is queued is dropped."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        while self._queue:
            _, fd = self._queue.popleft()
            if fd is not None:
                os.close(fd)

    def _enqueue(self, data: bytes, fd: int | None) -> None:
        self._queue.append((data, None if fd is None else os.dup(fd)))
        if len(self._queue) >= self.HIGH_WATER and self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket.fileno())

    def _flush(self) -> None:
        while self._queue:
            data, fd = self._queue[0]
            try:
                send_packet(self._socket, data, fd)
            except BlockingIOError:
                return
            except OSError as error:
                self._fail(error)
                return
            self._queue.popleft()
            if fd is not None:
                os.close(fd)
        self._loop.remove_writer(self._socket.fileno())
        if not self._reading:
            self._resume_reading()

    def _resume_reading(self) -> None:
        self._reading = True
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def _readable(self) -> None:
        for _ in range(self.BURST):
            if self.closed or not self._reading:
                return
            try:
                data, fd = receive_packet(self._socket)
            except BlockingIOError:
                return
            except (MessageError, OSError) as error:
                self._fail(error)
                return
            if not data:
                if fd is not None:
                    os.close(fd)
                self._fail(None)
                return
            self._on_packet(data, fd)

    def _fail_soon(self, error: Exception) -> None:
        """From within :meth:`send`: the callers of send are not called back before they have returned."""
        self._loop.call_soon(self._fail, error)

    def _fail(self, error: Exception | None) -> None:
        if self.closed:
            return
        self.close()
        self._on_closed(error)
