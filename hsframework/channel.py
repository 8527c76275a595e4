"""Messages with file descriptors over AF_UNIX SOCK_SEQPACKET: what the dispatcher, its agents and consumers talk over.

Rules:

* One packet is one message, and carries at most one fd; or it is several messages, :data:`MAX_BATCH` at most, each with
  its length in its header, and carries none.  A packet that was cut off (MSG_TRUNC), whose fds were cut off
  (MSG_CTRUNC) or that brings more than one fd is refused: every fd that came with it is closed and
  :class:`~hsframework.errors.MessageError` raised.
* An fd that is sent stays the sender's: it is duplicated when it is queued and the duplicate closed once sent.
* An fd that is received belongs to the receiver of the packet, close-on-exec.
* A peer that does not read what it is sent is not read from either, so that its queue here stays bounded.
* What a peer sent before it went away is heard, also when we find out by sending to it.
* Closing may block for as long as a peer likes: an fd that nobody wanted, or a connection with unread messages, may
  hold the last copy of a socket with SO_LINGER.  Who serves strangers gives ``close_fd``, which closes elsewhere.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable

from hsframework.errors import MessageError

MAX_PACKET = 200 * 1024
"""Bytes of one message: below Linux's default SO_SNDBUF (212,992) less its overhead."""

MAX_BATCH = 64
"""Messages in one packet: so many are handled before the loop turns to other connections."""

LOCAL_MESSAGE_TYPE = 0x20
"""``nlmsg_type`` of every message of the local family."""

# As plain integers: the enum's operators cost more than the system call.
_TRUNC, _CTRUNC = int(socket.MSG_TRUNC), int(socket.MSG_CTRUNC)
_NOSIGNAL, _CLOEXEC = int(socket.MSG_NOSIGNAL), int(socket.MSG_CMSG_CLOEXEC)
_MOST_FDS = 253
_LEAST_MESSAGE = 16
# Room for all fds that the kernel lets one message have: those that do not fit it would close itself, in our thread.
_CONTROL_SIZE = socket.CMSG_SPACE(_MOST_FDS * 4) + socket.CMSG_SPACE(12)


class _Buffer(threading.local):
    """Where a packet is received: one for each thread, since it is large and every channel can share it."""

    def __init__(self) -> None:
        self.memory = bytearray(MAX_PACKET + 1)
        self.view = memoryview(self.memory)


_buffer = _Buffer()


def send_packet(sock: socket.socket, data: bytes, fd: int | None = None) -> None:
    """Send one message.  Raises BlockingIOError when the peer's queue is full, OSError when it is gone."""
    _check_size(data)
    if fd is None:
        sock.send(data, _NOSIGNAL)
    else:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        sock.sendmsg([data], rights, _NOSIGNAL)


def _check_size(data: bytes) -> None:
    if len(data) > MAX_PACKET:
        raise MessageError(f"a message of {len(data)} bytes; at most {MAX_PACKET} go into one")


def receive_packet(sock: socket.socket, close_fd: Callable[[int], None] = os.close) -> tuple[bytes, int | None]:
    """Receive one message and its fd.  ``(b"", None)``: the peer has closed.  Raises MessageError, OSError."""
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
            close_fd(fd)
        raise MessageError(problem)
    return bytes(_buffer.view[:size]), fds[0] if fds else None


def _received_fds(control: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return fds.tolist()


def messages_of(data: bytes) -> list[bytes]:
    """The messages of a packet; from the first on whose length cannot be, the rest is one."""
    messages = []
    offset = 0
    while offset < len(data):
        length = int.from_bytes(data[offset : offset + 4], sys.byteorder)
        if length < _LEAST_MESSAGE or offset + length > len(data):
            length = len(data) - offset
        messages.append(data[offset : offset + length])
        offset += length
    return messages


class AsyncChannel:
    """A connection on an asyncio loop.

    ``on_packet(data, fd)`` is called for each message and owns the fd; ``on_closed(error)`` once, when the peer has
    gone (None), broke a rule above (MessageError) or the socket failed (OSError).  Neither is called after
    :meth:`close`.  At most ``BURST`` messages are taken from one connection before the loop turns to the others.
    """

    BURST = 32
    LAST_WORDS = 1024
    HIGH_WATER = 256

    def __init__(
        self,
        sock: socket.socket,
        on_packet: Callable[[bytes, int | None], None],
        on_closed: Callable[[Exception | None], None],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        close_fd: Callable[[int], None] = os.close,
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = loop or asyncio.get_running_loop()
        self._on_packet = on_packet
        self._on_closed = on_closed
        self._close_fd = close_fd
        self._queue: deque[tuple[bytes, int | None]] = deque()
        self._gathered: list[bytes] = []
        self._gathered_size = 0
        self._reading = False
        self.closed = False
        self._resume_reading()

    def send(self, data: bytes, fd: int | None = None) -> None:
        """Send, or queue.  A channel that is closed, or whose peer is gone, drops the message.

        Raises MessageError for one that is too long, OSError when its fd cannot be duplicated; it is dropped then.
        """
        _check_size(data)
        self._send_gathered()
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

    def send_soon(self, data: bytes) -> None:
        """Send before the loop next waits, in one packet with what else is sent so until then.

        For messages that come in numbers: a packet costs more than all that is in it.  Raises MessageError as
        :meth:`send`.
        """
        _check_size(data)
        if self.closed:
            return
        if self._gathered_size + len(data) > MAX_PACKET or len(self._gathered) == MAX_BATCH:
            self._send_gathered()
        if not self._gathered:
            self._loop.call_soon(self._send_gathered)
        self._gathered.append(data)
        self._gathered_size += len(data)

    def _send_gathered(self) -> None:
        if self._gathered:
            data = b"".join(self._gathered)
            self._gathered.clear()
            self._gathered_size = 0
            self.send(data)

    def close(self) -> None:
        """Close at once; what is queued is dropped, but for what was to be sent soon and can be sent now."""
        if self.closed:
            return
        if self._gathered and not self._queue:
            with contextlib.suppress(OSError):
                send_packet(self._socket, b"".join(self._gathered))
        self._gathered.clear()
        self.closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._close_fd(self._socket.detach())
        while self._queue:
            _, fd = self._queue.popleft()
            if fd is not None:
                self._close_fd(fd)

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
                self._hear_out(error)
                return
            self._queue.popleft()
            if fd is not None:
                self._close_fd(fd)
        self._loop.remove_writer(self._socket.fileno())
        if not self._reading:
            self._resume_reading()

    def _resume_reading(self) -> None:
        self._reading = True
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def _readable(self) -> None:
        for _ in range(self.BURST):
            if self.closed or not self._reading or not self._receive():
                return

    def _receive(self) -> bool:
        """Take one message.  False: there is none."""
        try:
            data, fd = receive_packet(self._socket, self._close_fd)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            # The peer closed with messages of ours unread.  Said once; what it had sent itself is still there.
            return True
        except (MessageError, OSError) as error:
            self._fail(error)
            return False
        if not data:
            if fd is not None:
                self._close_fd(fd)
            self._fail(None)
            return False
        if int.from_bytes(data[:4], sys.byteorder) >= len(data):
            self._on_packet(data, fd)
            return True
        return self._take_apart(data, fd)

    def _take_apart(self, data: bytes, fd: int | None) -> bool:
        """Several messages in one packet; or one whose length lies, which its reader refuses."""
        messages = messages_of(data)
        if len(messages) > 1 and (fd is not None or len(messages) > MAX_BATCH):
            if fd is not None:
                self._close_fd(fd)
            self._fail(MessageError(f"a packet of {len(messages)} messages{'' if fd is None else ' with an fd'}"))
            return False
        for message in messages:
            if self.closed:
                return False
            self._on_packet(message, fd)
        return True

    def _fail_soon(self, error: Exception) -> None:
        """From within :meth:`send`: the callers of send are not called back before they have returned."""
        self._loop.call_soon(self._hear_out, error)

    def _hear_out(self, error: Exception) -> None:
        """Nothing can be sent any more: take what the peer had sent before, then end."""
        for _ in range(self.LAST_WORDS):
            if self.closed or not self._receive():
                break
        self._fail(error)

    def _fail(self, error: Exception | None) -> None:
        if self.closed:
            return
        self.close()
        self._on_closed(error)
