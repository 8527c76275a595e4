"""The endpoint of the metrics: a process of its own, which parses what strangers send and holds nothing.

Rules:

* It is forked before the dispatcher loads a key, makes a netlink socket or opens a file, so that there is nothing to
  inherit; it closes every descriptor but its end of a socket pair, becomes another user where it may, and confines
  itself: it may listen and answer, and open no file.
* It has the metrics from the dispatcher, one text for each scrape and at most one in :data:`FRESH` seconds.  The
  dispatcher reads one byte of it: it asks, it listens, or it cannot.
* When it ends, there are no metrics until the next start, since whoever forks another would have secrets by then; the
  log and `hsframework doctor` say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from typing import NoReturn

import structlog

from hsframework.process.capabilities import (
    die_with_parent,
    forbid_core_dumps,
    forbid_new_privileges,
    set_capabilities,
)
from hsframework.process.confinement import confine_listener
from hsframework.process.title import set_title
from hsframework.telemetry.metrics import check_address

USER = 60799
"""User id of the process where root starts the service: beside those of agents, and no other's either."""
RETRY = 5.0
"""Seconds between two attempts to listen."""
PATIENCE = 5.0
"""Seconds that a scrape may take."""
FRESH = 0.5
"""Seconds for which a text is sent again."""
MOST_CONNECTIONS = 64
MOST_REQUEST = 8192
"""Bytes of a request."""

_ASKS, _LISTENS, _FAILS = b"?", b"+", b"-"

_log = structlog.get_logger("hsframework.dispatcher")


class Exposition:
    """The dispatcher's end.  ``problem``: the reason why there is no endpoint now."""

    def __init__(self, listen: str) -> None:
        """Fork the process.  Raises ConfigurationError for an address that is none, OSError."""
        self._listen = listen
        self.problem: str | None = None
        self._closed = False
        address = check_address(listen)
        # Binding a socket looks the codec up, in a file that the process's user may be unable to read.
        "a".encode("idna")
        self._socket, theirs = socket.socketpair()
        parent = os.getpid()
        with theirs:
            self._pid = os.fork()
            if not self._pid:
                _become(theirs, parent, address)
        self._transport: asyncio.Transport | None = None

    async def start(self, text: Callable[[], bytes]) -> None:
        """Answer the process from now on.  ``text``: the metrics as they are now, in Prometheus' format."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_connection(lambda: _Answers(self, text), sock=self._socket)

    def close(self) -> None:
        """End the process."""
        self._closed = True
        if self._transport is not None:
            self._transport.abort()
        self._socket.close()
        with contextlib.suppress(OSError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)

    def heard(self, said: bytes) -> None:
        """Take note of whether the process listens: the last of its words counts."""
        if said.rfind(_FAILS) > said.rfind(_LISTENS):
            if self.problem is None:
                self._complain("the address cannot be listened on; another process may have it")
        elif _LISTENS in said and self.problem is not None:
            self.problem = None
            _log.info("there are metrics again", setting=f"metrics.listen = {self._listen!r}")

    def ended(self) -> None:
        """Take note that the process has ended."""
        if not self._closed:
            self._complain("their process has ended; restart the service")

    def _complain(self, reason: str) -> None:
        self.problem = reason
        _log.error("there are no metrics", setting=f"metrics.listen = {self._listen!r}", reason=reason)


class _Answers(asyncio.Protocol):
    """The link to the process, in the dispatcher."""

    def __init__(self, exposition: Exposition, text: Callable[[], bytes]) -> None:
        self._exposition = exposition
        self._text = text
        self._last = b""
        self._until = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._exposition.heard(data)
        # One answer however often it asks, and none before it has taken the last one.
        if _ASKS in data and self._transport is not None and not self._transport.get_write_buffer_size():
            now = time.monotonic()
            if now >= self._until:
                self._last, self._until = self._text(), now + FRESH
            self._transport.write(len(self._last).to_bytes(4, "big") + self._last)

    def connection_lost(self, exc: Exception | None) -> None:
        self._exposition.ended()


# In the process


def _become(link: socket.socket, parent: int, address: tuple[str, int]) -> NoReturn:
    try:
        die_with_parent(parent)
        set_title("hsframework metrics")
        link.set_inheritable(False)
        fd = os.dup2(link.fileno(), 3, inheritable=False)
        link.detach()
        os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # it ends with the dispatcher
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)
        set_capabilities(0)
        forbid_new_privileges()
        forbid_core_dumps()
        die_with_parent(parent)  # a change of the user has reset it
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (2 * MOST_CONNECTIONS, 2 * MOST_CONNECTIONS))
        loop = asyncio.new_event_loop()
        confine_listener()
        loop.run_until_complete(_Server(socket.socket(fileno=fd)).run(address))
    finally:
        os._exit(1)


class _Server:
    """The HTTP server of one path."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._lock = asyncio.Lock()
        self._open = 0

    async def run(self, address: tuple[str, int]) -> None:
        """Serve until the dispatcher is gone."""
        self._reader, self._writer = await asyncio.open_connection(sock=self._link)
        while True:
            try:
                server = await asyncio.start_server(self._scrape, *address, limit=MOST_REQUEST)
                break
            except OSError:
                self._writer.write(_FAILS)
                await asyncio.sleep(RETRY)
        self._writer.write(_LISTENS)
        async with server:
            await server.serve_forever()

    async def _scrape(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= MOST_CONNECTIONS:
                async with asyncio.timeout(PATIENCE):
                    writer.write(await self._answer(await reader.readuntil(b"\r\n\r\n")))
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self._open -= 1
            writer.close()

    async def _answer(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b" ")
        if method != b"GET" or rest.partition(b" ")[0].partition(b"?")[0] not in (b"/metrics", b"/"):
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        text = await self._text()
        head = f"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {len(text)}"
        return b"HTTP/1.1 200 OK\r\n" + head.encode() + b"\r\nConnection: close\r\n\r\n" + text

    async def _text(self) -> bytes:
        async with self._lock:
            self._writer.write(_ASKS)
            size = int.from_bytes(await self._reader.readexactly(4), "big")
            return await self._reader.readexactly(size)
