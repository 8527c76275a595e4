"""A session as a transport of asyncio: below the protocols of libraries, and below StreamReader and StreamWriter.

* The transport owns the session's socket, and closes it once nothing waits on it.
* One task receives, one sends.  ``pause_reading`` and the write limits work as asyncio's own.
* ``close`` sends what was written and ends the session properly, within :data:`CLOSE_PATIENCE`; ``abort`` does neither.
* ``connection_lost`` is called once, when both tasks have ended, with the error that ended the session, or None.
* ``get_extra_info``: ``ssl_object`` (:class:`.facts.SessionFacts`), ``peercert``, ``cipher``, ``alpn``, ``session``,
  ``socket``, ``peername``, ``sockname``; ``sslcontext`` is the session too, by which servers know that it is one.
"""

from __future__ import annotations

import asyncio
import asyncio.constants
import asyncio.trsock
from collections.abc import Callable, Iterable
from typing import Any

from hsframework.adapters.facts import SessionFacts
from hsframework.client import AsyncSession
from hsframework.interface import AsyncConnection

CLOSE_PATIENCE = 30.0
"""Seconds that ``close`` waits at most until the peer has taken what was written."""

_HIGH = 1 << 16
_ABORTED = 1  # any but 0, which is an end without an error


class SessionTransport(asyncio.Transport):
    """A transport over a session; ``protocol`` gets ``connection_made`` at once.  Create it while the loop runs.

    ``on_lost`` is called after ``connection_lost``.
    """

    _sendfile_compatible = asyncio.constants._SendfileMode.FALLBACK  # loop.sendfile reads and writes

    def __init__(
        self,
        session: AsyncSession,
        protocol: asyncio.BaseProtocol,
        server_hostname: str | None = None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._session = session
        self._socket = session.socket
        self._stream = session.stream()
        self._facts = SessionFacts(session, server_hostname)
        self._extra_info: dict[str, Any] = {
            "session": session,
            "sslcontext": session,
            "ssl_object": self._facts,
            "socket": asyncio.trsock.TransportSocket(self._socket),
            "peername": self._socket.getpeername(),
            "sockname": self._socket.getsockname(),
        }
        self._protocol = protocol
        self._on_lost = on_lost
        self._outgoing: list[bytes] = []
        self._size = 0
        self._high, self._low = _HIGH, _HIGH // 4
        self._wake = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._closing = self._eof = self._paused = False
        self._error: Exception | None = None
        self._patience: asyncio.TimerHandle | None = None
        protocol.connection_made(self)
        self._reader = self._loop.create_task(self._read())
        self._writer = self._loop.create_task(self._write())
        self._end = self._loop.create_task(self._finish())

    # What is known

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return a fact about the connection or the session; ``default`` for an unknown name."""
        derived: dict[str, Callable[[], Any]] = {
            "peercert": self._facts.getpeercert,
            "cipher": self._facts.cipher,
            "alpn": self._facts.selected_alpn_protocol,
        }
        return derived[name]() if name in derived else self._extra_info.get(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    # Reading

    def is_reading(self) -> bool:
        return not self._closing and self._may_read.is_set()

    def pause_reading(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    async def _read(self) -> None:
        while data := await self._stream.receive():
            await self._may_read.wait()
            self._deliver(data)
        await self._may_read.wait()
        if not isinstance(self._protocol, asyncio.Protocol | asyncio.BufferedProtocol):
            return
        if not self._protocol.eof_received():
            self.close()

    def _deliver(self, data: bytes) -> None:
        protocol = self._protocol
        if isinstance(protocol, asyncio.BufferedProtocol):
            view = memoryview(data)
            while view:
                buffer = memoryview(protocol.get_buffer(len(view))).cast("B")
                size = min(len(buffer), len(view))
                if not size:
                    raise RuntimeError("get_buffer() returned an empty buffer")
                buffer[:size] = view[:size]
                protocol.buffer_updated(size)
                view = view[size:]
        elif isinstance(protocol, asyncio.Protocol):
            protocol.data_received(data)

    # Writing

    def get_write_buffer_size(self) -> int:
        return self._size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = _HIGH if low is None else 4 * low
        low = high // 4 if low is None else low
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        self._flow()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._eof = True
        self._wake.set()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._closing or not data:
            return
        content = bytes(data)
        self._outgoing.append(content)
        self._size += len(content)
        self._wake.set()
        self._flow()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def _flow(self) -> None:
        if self._size > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()
        elif self._size <= self._low and self._paused:
            self._paused = False
            self._protocol.resume_writing()

    async def _write(self) -> None:
        ended = False
        while True:
            if self._outgoing:
                data = b"".join(self._outgoing)
                self._outgoing.clear()
                await self._stream.send(data)
                self._size -= len(data)
                self._flow()
            elif self._closing:
                await self._stream.close()
                return
            elif self._eof and not ended:
                ended = True
                await self._stream.send_eof()
            else:
                self._wake.clear()
                await self._wake.wait()

    # The end

    def close(self) -> None:
        """Send what was written and end the session; nothing more is received."""
        if not self._closing:
            self._closing = True
            self._reader.cancel()
            self._wake.set()
            self._patience = self._loop.call_later(CLOSE_PATIENCE, self._writer.cancel)

    def abort(self) -> None:
        """End the connection at once; what was not sent yet is lost."""
        self._closing = True
        self._reader.cancel()
        self._writer.cancel()

    async def _finish(self) -> None:
        """Wait for the end of both tasks, and close the socket: nothing watches it then."""
        try:
            await self._both_ended()
        finally:
            self.abort()  # where this task is cancelled, with all of the loop's
            if self._patience is not None:
                self._patience.cancel()
            self._size = 0
            self._outgoing.clear()
            self._socket.close()
            try:
                self._protocol.connection_lost(self._error)
            finally:
                self._on_lost()

    async def _both_ended(self) -> None:
        tasks = {self._reader, self._writer}
        while tasks:
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = None if task.cancelled() else task.exception()
                if isinstance(error, Exception) and self._error is None:
                    self._error = error
                if error is not None or task is self._writer:
                    self.abort()
        if self._writer.cancelled() and isinstance(self._stream, AsyncConnection):
            await self._stream.close(_ABORTED)  # at once; a TLS session must not seem to have ended properly
        if self._error is not None and not isinstance(self._error, OSError):
            self._loop.call_exception_handler(
                {"message": "a protocol over a session failed", "exception": self._error, "transport": self}
            )
