"""The endpoint: a handshaker's way to its peer, on a non-blocking socket.

* A read takes what it was asked for and no more: what follows stays in the socket, for the consumer.
* Reads and writes try the socket first, and wait for it only when it has nothing; but :meth:`StreamEndpoint.peek`
  after a ``send`` waits first, since the answer is on its way for longer than the attempt takes.
* The loop watches a socket only while a read waits for it (:mod:`~hsframework.agent.readiness`), so that data for the
  consumer does not wake it.
* :meth:`StreamEndpoint.close` takes it out of the loop (epoll) before it closes the fd: a copy in another process would
  keep a closed fd firing.
* Deadlines are the host's: it cancels the handshaker, and a cancelled wait leaves nothing behind.
* A handshaker must not close the socket.  One that does has failed (EIO); its request still ends properly.
* O_NONBLOCK is shared with the socket's owner; the dispatcher saved it and puts it back.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket as _socket
import struct
import threading
from collections.abc import Callable

from hsframework.agent.readiness import Readiness
from hsframework.agent.traced import Recorder
from hsframework.errors import SHORTAGE_PAUSE, SHORTAGES, HsframeworkError, PluginError, is_shortage
from hsframework.failures import Failure, HandshakeFailed

MAX_READ = 64 * 1024
"""Bytes asked of the socket at once: the buffer is made before they are there, and a record may claim any size."""

_LOST = SHORTAGES | {errno.EMSGSIZE}

_CLOSED = "the handshaker reads or writes a socket that has been closed here; closing it is not its business"

# As a plain integer: the enum costs more than the system call.
_NOSIGNAL, _PEEK = int(_socket.MSG_NOSIGNAL), int(_socket.MSG_PEEK)


class _Endpoint:
    """Waiting, sending and closing, as both kinds of endpoint do them."""

    def __init__(self, sock: _socket.socket, readiness: Readiness) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._fd = sock.fileno()
        self._loop = readiness.loop
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._readiness = readiness
        self._given_up = False
        """True if a wait for readability was, so that the epoll may have the socket still."""
        self._awaits_answer = False

    recorder: Recorder | None = None
    """Recorder of what is sent and received, of an endpoint that has one."""

    @property
    def socket(self) -> _socket.socket:
        """Return the socket, for its options alone."""
        return self._socket

    async def receive_exactly(self, size: int) -> bytes:
        """Raise TypeError: only a stream socket has it."""
        raise TypeError("receive_exactly is for stream sockets; a datagram socket has receive_datagram")

    async def receive_record(self, header_size: int, body_size: Callable[[bytes], int]) -> bytes:
        """Raise TypeError: only a stream socket has it."""
        raise TypeError("receive_record is for stream sockets; a datagram socket has receive_datagram")

    async def peek(self, max_size: int) -> bytes:
        """Raise TypeError: only a stream socket has it."""
        raise TypeError("peek is for stream sockets; a datagram socket has receive_datagram")

    def take(self, size: int) -> None:
        """Raise TypeError: only a stream socket has it."""
        raise TypeError("take is for stream sockets; a datagram socket has receive_datagram")

    async def receive_datagram(self, max_size: int = 65535, *, until: float | None = None) -> bytes:
        """Raise TypeError: only a datagram socket has it."""
        raise TypeError("receive_datagram is for datagram sockets; a stream socket has receive_record")

    async def send(self, data: bytes) -> None:
        """Send all of ``data``.  Raises HandshakeFailed with PEER_GONE."""
        self._awaits_answer = True
        rest: bytes | memoryview = data
        while True:
            try:
                sent = self._socket.send(rest, _NOSIGNAL)
            except BlockingIOError:
                await self._writable()
            except OSError as error:
                await _over(error)
            else:
                if sent == len(rest):
                    return
                rest = memoryview(rest)[sent:]

    def leave(self) -> None:
        """Leave the event loop and cancel the read and the write that wait.  The socket stays open."""
        # If the handshaker has closed the socket, its number may be another one's by now.
        if (self._given_up or self._reader is not None) and self._socket.fileno() == self._fd:
            self._readiness.forget(self._fd)
        self._given_up = False
        if self._reader is not None:
            self._reader.cancel()
        if self._writer is not None:
            self._loop.remove_writer(self._fd)
            self._writer.cancel()

    def close(self, *, last: bool = False) -> None:
        """Leave the event loop and close the socket.  ``last``: this may be its last copy, whose close can block."""
        self.leave()
        if last and lingers(self._socket):
            threading.Thread(target=self._socket.close, daemon=True).start()
        else:
            # EBADF: a handshaker has closed the fd behind our back.
            with contextlib.suppress(OSError):
                self._socket.close()

    async def _readable(self, until: float | None = None) -> None:
        if self._reader is not None:
            raise RuntimeError("two reads wait on one endpoint")
        future = self._reader = self._loop.create_future()
        try:
            self._readiness.wait(self._socket.fileno(), future)
        except (ValueError, OSError) as error:
            self._reader = None
            if not is_shortage(error):
                raise PluginError(_CLOSED) from None
            await asyncio.sleep(SHORTAGE_PAUSE)
            return
        timer = None if until is None else self._loop.call_at(until, _expire, future)
        try:
            await future
        except BaseException:
            self._given_up = True
            raise
        finally:
            self._reader = None
            if timer is not None:
                timer.cancel()

    async def _writable(self) -> None:
        if self._writer is not None:
            raise RuntimeError("two writes wait on one endpoint")
        future = self._writer = self._loop.create_future()
        try:
            self._loop.add_writer(self._socket.fileno(), _wake, future)
            await future
        except OSError as error:
            await _over(error)
        finally:
            self._writer = None
            if self._socket.fileno() >= 0:
                self._loop.remove_writer(self._socket.fileno())


class StreamEndpoint(_Endpoint):
    """An endpoint on TCP or another byte stream.  Implements :class:`hsframework.interface.Endpoint`."""

    async def receive_exactly(self, size: int) -> bytes:
        """Receive exactly ``size`` bytes.  Raises HandshakeFailed with PEER_GONE, ValueError for a negative size."""
        if size < 0:
            raise ValueError(f"{size} bytes cannot be received")
        parts: list[bytes] = []
        while size:
            try:
                data = self._socket.recv(min(size, MAX_READ))
            except BlockingIOError:
                await self._readable()
                continue
            except OSError as error:
                await _over(error)
                continue
            if not data:
                raise HandshakeFailed(Failure.PEER_GONE, "the peer closed the connection")
            size -= len(data)
            if not size and not parts:
                return data
            parts.append(data)
        return b"".join(parts)

    async def receive_record(self, header_size: int, body_size: Callable[[bytes], int]) -> bytes:
        """Receive one record, header and body.

        ``body_size``: called with the header.  An exception of it passes through, and the body is not read then.
        """
        header = await self.receive_exactly(header_size)
        size = body_size(header)
        return header + await self.receive_exactly(size) if size else header

    async def peek(self, max_size: int) -> bytes:
        """Return the next 1 to ``max_size`` bytes and leave them there.  Raises HandshakeFailed with PEER_GONE."""
        if self._awaits_answer:
            self._awaits_answer = False
            await self._readable()
        while True:
            try:
                data = self._socket.recv(max_size, _PEEK)
            except BlockingIOError:
                await self._readable()
                continue
            except OSError as error:
                await _over(error)
                continue
            if not data:
                raise HandshakeFailed(Failure.PEER_GONE, "the peer closed the connection")
            return data

    def take(self, size: int) -> None:
        """Take so many of the bytes that were peeked at.  Raises HandshakeFailed with PEER_GONE."""
        while size:
            try:
                data = self._socket.recv(min(size, MAX_READ))
            except OSError as error:
                raise _gone(error) from None
            if not data:
                raise HandshakeFailed(Failure.PEER_GONE, "the peer closed the connection")
            size -= len(data)


class DatagramEndpoint(_Endpoint):
    """An endpoint on UDP or other datagrams.  Implements :class:`hsframework.interface.Endpoint`.

    A datagram that is too large for the path counts as lost.  A report of it does not end the handshake, since anybody
    can forge it (ICMP; RFC 9000 section 14.2.1).
    """

    async def send(self, data: bytes) -> None:
        """Send one datagram.  Raises HandshakeFailed with PEER_GONE."""
        again = True
        while True:
            try:
                self._socket.send(data, _NOSIGNAL)
            except BlockingIOError:
                await self._writable()
                continue
            except OSError as error:
                if error.errno not in _LOST:
                    raise _gone(error) from None
                if again:  # reported of an earlier one, and this one has not been sent
                    again = False
                    continue
            return

    async def receive_datagram(self, max_size: int = 65535, *, until: float | None = None) -> bytes:
        """Receive one datagram; the part of it beyond ``max_size`` bytes is lost.

        ``until``: in seconds on the loop's clock; TimeoutError when none has come by then.

        Raises HandshakeFailed with PEER_GONE when the socket reports an error (the peer's port is closed).
        """
        while True:
            try:
                return self._socket.recv(max_size)
            except BlockingIOError:
                await self._readable(until)
            except OSError as error:
                if error.errno not in _LOST:
                    raise _gone(error) from None


class _RecordedStream(StreamEndpoint):
    """An endpoint on a byte stream that records what is sent and received."""

    def __init__(self, sock: _socket.socket, readiness: Readiness, recorder: Recorder) -> None:
        super().__init__(sock, readiness)
        self.recorder: Recorder = recorder
        self._seen = b""

    async def send(self, data: bytes) -> None:
        self.recorder.sent(data)
        await super().send(data)

    async def receive_exactly(self, size: int) -> bytes:
        data = await super().receive_exactly(size)
        self.recorder.received(data)
        return data

    async def peek(self, max_size: int) -> bytes:
        self._seen = await super().peek(max_size)
        return self._seen

    def take(self, size: int) -> None:
        super().take(size)
        self.recorder.received(self._seen[:size])
        self._seen = self._seen[size:]


class _RecordedDatagrams(DatagramEndpoint):
    """An endpoint on datagrams that records what is sent and received."""

    def __init__(self, sock: _socket.socket, readiness: Readiness, recorder: Recorder) -> None:
        super().__init__(sock, readiness)
        self.recorder: Recorder = recorder

    async def send(self, data: bytes) -> None:
        self.recorder.datagram("sent", data)
        await super().send(data)

    async def receive_datagram(self, max_size: int = 65535, *, until: float | None = None) -> bytes:
        data = await super().receive_datagram(max_size, until=until)
        self.recorder.datagram("received", data)
        return data


def make_endpoint(
    sock: _socket.socket, readiness: Readiness, recorder: Recorder | None = None
) -> StreamEndpoint | DatagramEndpoint:
    """Return an endpoint for a socket, by its kind.  The endpoint owns the socket from then on.

    ``recorder``: records what is sent and received; None: nobody wants it.
    """
    if recorder is not None:
        kind = _RecordedDatagrams if sock.type == _socket.SOCK_DGRAM else _RecordedStream
        return kind(sock, readiness, recorder)
    if sock.type == _socket.SOCK_DGRAM:
        return DatagramEndpoint(sock, readiness)
    return StreamEndpoint(sock, readiness)


def lingers(sock: _socket.socket) -> bool:
    """True if closing the last copy of a socket waits for the peer (SO_LINGER)."""
    try:
        active, seconds = struct.unpack("ii", sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, 8))
    except (OSError, struct.error):
        return False
    return bool(active and seconds)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _expire(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


async def _over(error: OSError) -> None:
    """Wait a moment after a shortage, before another attempt; raise the failure that any other error means."""
    if not is_shortage(error):
        raise _gone(error) from None
    await asyncio.sleep(SHORTAGE_PAUSE)


def _gone(error: OSError) -> HsframeworkError:
    if error.errno in (errno.EBADF, errno.ENOTSOCK):
        return PluginError(_CLOSED)
    return HandshakeFailed(Failure.PEER_GONE, error.strerror or type(error).__name__)
