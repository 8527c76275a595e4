"""The channel: messages with file descriptors over AF_UNIX SOCK_SEQPACKET, at either end of a link.

Rules:

* Packets are those of :mod:`hsframework.local.packets`; a channel closes when its peer's packets break the rules there.
* An fd that is sent stays the sender's: if it cannot be sent at once, a duplicate is sent later and then closed.
* Of the two ends of a link one at most ever leaves messages unread, and that is the dispatcher's (``holds_back``): if
  its peer does not read, its own messages are not read either, so that its queue here stays bounded.  Agents and
  consumers always read, so whatever waits for them gets out, and no two ends wait for each other.
* A packet that meets a shortage of the kernel's memory is queued, and sent a little later: the link stays as it is.
* All messages that a peer sent before it closed are received, also if a failed send shows first that it has closed.
* What passes by itself ends no link: too many fds under way in all (ETOOMANYREFS), short memory (ENOMEM, ENOBUFS), and
  no room for an fd here (EMFILE): sending is tried again, and a packet whose fds were lost is dropped.
* Closing may block for as long as a peer likes: an unwanted fd, or a socket with unread messages, may hold the last
  copy of a socket with SO_LINGER.  A process that serves untrusted peers passes ``close_fd``, which closes in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from hsframework.errors import SHORTAGE_PAUSE, SHORTAGES, MessageError, is_shortage
from hsframework.local.packets import (
    MAX_BATCH,
    MAX_PACKET,
    Item,
    check_size,
    joined,
    receive_packet,
    send_packet,
    taken_apart,
)

PASSING = SHORTAGES | {errno.ETOOMANYREFS}
"""Errors of sending that pass by themselves."""

_OVERHEAD = 64
"""Bytes of a send buffer that no packet may use (net/unix/af_unix.c), twice the present number."""

_log = structlog.get_logger("hsframework.local")

LOCAL_MESSAGE_TYPE = 0x20
"""``nlmsg_type`` of every message of the local family."""


class PacketChannel:
    """One end of a link, on an asyncio loop.

    ``on_packet(messages)`` is called for each packet, and owns the fds of its messages.  ``on_closed(error)`` is called
    once: with None when the peer has closed, MessageError when it broke a rule above, OSError when the socket failed.
    After :meth:`close` neither is called.  ``holds_back``: leave a peer unread that does not read.
    """

    BURST = 32
    """Messages received in one turn of the loop, before other channels have theirs."""
    LAST_PACKETS = 1024
    """Packets received at most after sending has failed."""
    HIGH_WATER = 256
    """Queued packets from which on an end that holds back does not read its peer."""

    def __init__(
        self,
        sock: socket.socket,
        on_packet: Callable[[Sequence[Item]], None],
        on_closed: Callable[[Exception | None], None],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        close_fd: Callable[[int], None] = os.close,
        holds_back: bool = False,
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._loop = loop or asyncio.get_running_loop()
        self._on_packet = on_packet
        self._on_closed = on_closed
        self._close_fd = close_fd
        self._holds_back = holds_back
        self._queue: deque[tuple[bytes, Sequence[int]]] = deque()
        self._gathered: list[Item] = []
        self._gathered_size = 0
        # The kernel refuses a packet larger than the send buffer; a small buffer may still take single messages.
        self._most_gathered = min(MAX_PACKET, sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - _OVERHEAD)
        self._reading = False
        self._timer: asyncio.TimerHandle | None = None
        """Of a queue whose first packet has met a shortage."""
        self.closed = False
        self._resume_reading()

    @property
    def peer_has_closed(self) -> bool:
        """True if the peer has closed its end, although what it sent before may not have been received yet."""
        poll = select.poll()
        poll.register(self._socket, select.POLLRDHUP)
        return bool(poll.poll(0))

    def send(self, data: bytes, fd: int | None = None) -> None:
        """Send a message, or queue it.  It is dropped if the channel or its peer has closed.

        Raises MessageError if it is too long, OSError if its fd cannot be duplicated; it is dropped then.
        """
        check_size(data)
        self.send_gathered()
        if self.closed:
            return
        fds = () if fd is None else (fd,)
        if self._queue:
            self._enqueue(data, [*map(os.dup, fds)])
            return
        try:
            send_packet(self._socket, data, *fds)
        except OSError as error:
            if _passes(error):
                self._wait_to_send(data, [*map(os.dup, fds)], error)
            else:
                self._fail_soon(error)

    def send_soon(self, data: bytes, fd: int | None = None) -> None:
        """Send a message before the loop next waits, in one packet with the others that are sent in this way.

        It is for frequent messages, because a packet costs more than its contents.  The sender keeps its own copy of
        ``fd`` open until then, so that closing the duplicate does not block.  Raises what :meth:`send` raises.
        """
        check_size(data)
        if self.closed:
            return
        copy = None
        if fd is not None:
            try:
                copy = os.dup(fd)
            except OSError:
                # Out of file descriptors; sending at once needs no duplicate.
                self.send(data, fd)
                return
        if self._gathered_size + len(data) > self._most_gathered or len(self._gathered) == MAX_BATCH:
            self.send_gathered()
        if not self._gathered:
            self._loop.call_soon(self.send_gathered)
        self._gathered.append((data, copy))
        self._gathered_size += len(data)

    def send_gathered(self) -> None:
        """Send the messages of :meth:`send_soon` now."""
        if not self._gathered:
            return
        data, fds = self._take_gathered()
        if self._queue:
            self._enqueue(data, fds)
            return
        try:
            send_packet(self._socket, data, *fds)
        except OSError as error:
            if _passes(error):
                self._wait_to_send(data, fds, error)
                return
            self._fail_soon(error)
        for fd in fds:
            os.close(fd)

    def close(self) -> None:
        """Close at once; queued packets are dropped, and messages of :meth:`send_soon` sent if that is possible."""
        if self.closed:
            return
        if self._gathered:
            data, fds = self._take_gathered()
            if not self._queue:
                with contextlib.suppress(OSError):
                    send_packet(self._socket, data, *fds)
            self._queue.append((b"", fds))
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._close_fd(self._socket.detach())
        while self._queue:
            for fd in self._queue.popleft()[1]:
                self._close_fd(fd)

    def leave(self) -> None:
        """Close the copies of a process that was forked; the link goes on in the process that forked it.

        The event loop is left alone: its epoll instance is that of the other process.
        """
        self.closed = True
        self._socket.close()
        for fds in ([fd for _, fd in self._gathered if fd is not None], *(fds for _, fds in self._queue)):
            for fd in fds:
                os.close(fd)
        self._gathered, self._queue = [], deque()

    def _take_gathered(self) -> tuple[bytes, Sequence[int]]:
        gathered, self._gathered, self._gathered_size = self._gathered, [], 0
        data = gathered[0][0] if len(gathered) == 1 else joined(gathered)
        return data, [fd for _, fd in gathered if fd is not None]

    def _wait_to_send(self, data: bytes, fds: Sequence[int], error: OSError) -> None:
        self._enqueue(data, fds)
        self._flush_later(error)

    def _flush_later(self, error: OSError) -> None:
        """Send the queue once the peer has read, or, after a shortage, a little later."""
        if isinstance(error, BlockingIOError):
            try:
                self._loop.add_writer(self._socket.fileno(), self._flush)
                return
            except OSError:
                pass  # a shortage of its own
        self._loop.remove_writer(self._socket.fileno())
        self._timer = self._loop.call_later(SHORTAGE_PAUSE, self._flush)

    def _enqueue(self, data: bytes, fds: Sequence[int]) -> None:
        self._queue.append((data, fds))
        if self._holds_back and len(self._queue) >= self.HIGH_WATER and self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket.fileno())

    def _flush(self) -> None:
        self._timer = None
        while self._queue:
            data, fds = self._queue[0]
            try:
                send_packet(self._socket, data, *fds)
            except OSError as error:
                if _passes(error):
                    self._flush_later(error)
                else:
                    self._receive_rest(error)
                return
            self._queue.popleft()
            for fd in fds:
                self._close_fd(fd)
        self._loop.remove_writer(self._socket.fileno())
        if not self._reading:
            self._resume_reading()

    def _resume_reading(self) -> None:
        if self.closed:
            return
        try:
            self._loop.add_reader(self._socket.fileno(), self._readable)
        except OSError as error:
            if not is_shortage(error):
                raise
            self._loop.call_later(SHORTAGE_PAUSE, self._resume_reading)
        else:
            self._reading = True

    def _readable(self) -> None:
        received = 0
        while received < self.BURST and self._reading and not self.closed:
            number = self._receive()
            if not number:
                return
            received += number

    def _receive(self) -> int:
        """Receive one packet, and return the number of its messages; 0 if no packet waits."""
        try:
            data, fds = receive_packet(self._socket, self._close_fd)
            if not data:
                for fd in fds:
                    self._close_fd(fd)
                self._fail(None)
                return 0
            messages = taken_apart(data, fds, self._close_fd)
        except BlockingIOError:
            return 0
        except ConnectionResetError:
            # The peer closed with unread messages of ours.  Reported once; its own messages can still be received.
            return 1
        except (MessageError, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.EMFILE:
                _log.error("a message is lost: its file descriptors find no room in this process")
                return 1
            self._fail(error)
            return 0
        self._on_packet(messages)
        return len(messages)

    def _fail_soon(self, error: Exception) -> None:
        """Fail in the next turn of the loop, so that ``on_closed`` is not called within :meth:`send`."""
        self._loop.call_soon(self._receive_rest, error)

    def _receive_rest(self, error: Exception) -> None:
        """Receive the packets that the peer had sent before sending failed, then fail with ``error``."""
        for _ in range(self.LAST_PACKETS):
            if self.closed or not self._receive():
                break
        self._fail(error)

    def _fail(self, error: Exception | None) -> None:
        if self.closed:
            return
        self.close()
        self._on_closed(error)


class AsyncChannel(PacketChannel):
    """A channel that hands on one message at a time: ``on_message(data, fd)`` is called for each, and owns the fd.

    After :meth:`close` the rest of a packet is dropped.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[bytes, int | None], None],
        on_closed: Callable[[Exception | None], None],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        close_fd: Callable[[int], None] = os.close,
        holds_back: bool = False,
    ) -> None:
        super().__init__(sock, self._hand_on, on_closed, loop=loop, close_fd=close_fd, holds_back=holds_back)
        self._on_message = on_message

    def _hand_on(self, messages: Sequence[Item]) -> None:
        waiting = iter(messages)
        try:
            for message, its_fd in waiting:
                if not self.closed:
                    self._on_message(message, its_fd)
                elif its_fd is not None:
                    self._close_fd(its_fd)
        finally:
            for _, its_fd in waiting:
                if its_fd is not None:
                    self._close_fd(its_fd)


def _passes(error: OSError) -> bool:
    """Return True if a packet may be sent later: the peer has not read, or what it met passes by itself."""
    return isinstance(error, BlockingIOError) or error.errno in PASSING
