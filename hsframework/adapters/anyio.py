"""Sessions as streams of anyio, over asyncio and over trio (``pip install hsframework[anyio]``).

::

    with Client() as client:
        async with await connect(client, "server.example", 443, options) as stream:
            await stream.send(b"hello")
            print(await stream.receive())

        listener = await listen(client, None, 8443, server_options)
        await listener.serve(handle)                        # handle(stream), in a task of its own

The rules:

* A handshake waits in a thread of anyio's, at most :data:`MOST_HANDSHAKES` at a time; one that is cancelled closes its
  socket when it ends.  Everything else waits in the event loop.
* A stream owns its socket.  ``aclose`` sends what is due and ends the session properly, within
  :data:`CLOSE_PATIENCE`; where it is cancelled the socket is closed at once.
* Errors are anyio's: ``EndOfStream`` at the peer's proper end, ``BrokenResourceError`` (whose cause says why) for a
  session that broke, ``ClosedResourceError``, ``BusyResourceError``.
* For sessions of one stream.  QUIC's connections need asyncio: :meth:`hsframework.client.AsyncSession.stream`.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

import anyio
from anyio import abc
from anyio.lowlevel import RunVar, checkpoint_if_cancelled
from anyio.streams.tls import TLSAttribute

from hsframework.adapters.facts import SessionFacts
from hsframework.client import Client, HandshakeOptions, Session
from hsframework.errors import is_shortage
from hsframework.interface import Connection

__all__ = ["SessionListener", "SessionStream", "connect", "listen", "wrap"]

MOST_HANDSHAKES = 256
"""Handshakes of one event loop under way."""

CLOSE_PATIENCE = 3.0
"""Seconds that ``aclose`` waits at most for room for the message that ends the session."""

_PAUSE = 0.1
_limiter: RunVar[anyio.CapacityLimiter] = RunVar("handshakes of hsframework")
T = TypeVar("T", socket.socket, Session)
Handler = Callable[["SessionStream"], Awaitable[Any]]


class SessionStream(abc.ByteStream):
    """A session as a ``ByteStream``, with the attributes of anyio's ``TLSStream``.

    ``server_hostname``: the name that a client asked for.  Raises ValueError for a session of several streams.
    """

    def __init__(self, session: Session, server_hostname: str | None = None) -> None:
        stream = session.stream()
        if isinstance(stream, Connection):
            raise ValueError(f"a session of {session.protocol!r} has several streams: use an AsyncClient on asyncio")
        self.session = session
        self._stream = stream
        self._socket = session.socket
        self._socket.setblocking(False)
        self._facts = SessionFacts(session, server_hostname)
        self._reading, self._writing = anyio.ResourceGuard("reading from"), anyio.ResourceGuard("writing to")
        self._closed = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive 1 to ``max_bytes`` bytes."""
        with self._reading, _errors():
            await checkpoint_if_cancelled()
            while True:
                self._check()
                try:
                    data = self._stream.receive(max_bytes)
                    break
                except BlockingIOError:
                    await anyio.wait_readable(self._socket)
        await anyio.lowlevel.cancel_shielded_checkpoint()
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        """Send everything; after a cancellation the next call begins with the rest."""
        await self._write(lambda: self._stream.send(item), lambda: self._stream.send(b""))

    async def send_eof(self) -> None:
        """Close our direction; receiving goes on."""
        await self._write(self._stream.send_eof, self._stream.send_eof)

    async def aclose(self) -> None:
        """End the session, and close the socket."""
        if self._closed:
            return
        try:
            with anyio.move_on_after(CLOSE_PATIENCE):
                await self.send_eof()
        except (anyio.BrokenResourceError, anyio.BusyResourceError):
            pass
        finally:
            self._closed = True
            anyio.notify_closing(self._socket)
            with self._socket:
                self._stream.close()

    async def _write(self, first: Callable[[], None], rest: Callable[[], None]) -> None:
        with self._writing, _errors():
            await checkpoint_if_cancelled()
            attempt = first
            while True:
                self._check()
                try:
                    attempt()
                    break
                except BlockingIOError:
                    attempt = rest
                    await anyio.wait_writable(self._socket)
        await anyio.lowlevel.cancel_shielded_checkpoint()

    def _check(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Return anyio's attributes of sockets and of TLS; ``ssl_object`` is the facts under the names of ``ssl``."""
        facts = self._facts
        return {
            **_of_socket(self._socket),
            abc.SocketAttribute.remote_address: self._socket.getpeername,
            TLSAttribute.alpn_protocol: facts.selected_alpn_protocol,
            TLSAttribute.cipher: facts.cipher,
            TLSAttribute.peer_certificate: facts.getpeercert,
            TLSAttribute.peer_certificate_binary: lambda: facts.getpeercert(binary_form=True),
            TLSAttribute.server_side: lambda: facts.server_side,
            TLSAttribute.ssl_object: lambda: facts,
            TLSAttribute.standard_compatible: lambda: True,
            TLSAttribute.tls_version: facts.version,
        }


class SessionListener(abc.Listener[SessionStream]):
    """A listener that gives each connection whose handshake succeeds to a handler.

    ``sockets``: listening ones, which it owns.  ``on_failure``: called with the error of a handshake that failed; the
    listener goes on.
    """

    def __init__(
        self,
        client: Client,
        sockets: Sequence[socket.socket],
        options: HandshakeOptions,
        *,
        on_failure: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self._client = client
        self._sockets = tuple(sockets)
        self._options = options
        self._on_failure = on_failure
        for sock in self._sockets:
            sock.setblocking(False)

    async def serve(self, handler: Handler, task_group: abc.TaskGroup | None = None) -> None:
        """Accept connections until the listener is closed; each runs its handshake and its handler in a task."""
        async with anyio.create_task_group() as own:
            for sock in self._sockets:
                own.start_soon(self._accept, sock, handler, task_group or own)

    async def aclose(self) -> None:
        """End the listening; connections go on."""
        for sock in self._sockets:
            if sock.fileno() >= 0:
                anyio.notify_closing(sock)
                sock.close()
        await anyio.lowlevel.checkpoint()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Return anyio's attributes of the first socket."""
        return _of_socket(self._sockets[0])

    async def _accept(self, listener: socket.socket, handler: Handler, tasks: abc.TaskGroup) -> None:
        while listener.fileno() >= 0:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                try:
                    await anyio.wait_readable(listener)
                except anyio.ClosedResourceError:
                    return
            except OSError as error:
                if not is_shortage(error) and error.errno not in (errno.EMFILE, errno.ECONNABORTED):
                    raise
                await anyio.sleep(_PAUSE)
            else:
                tasks.start_soon(self._serve, sock, handler)

    async def _serve(self, sock: socket.socket, handler: Handler) -> None:
        try:
            stream = await wrap(self._client, sock, self._options)
        except OSError as error:
            self._on_failure(error)
            return
        try:
            await handler(stream)
        finally:
            await stream.aclose()


async def connect(client: Client, host: str, port: int, options: HandshakeOptions) -> SessionStream:
    """Connect, run the handshake, and return the session's stream.  The options name the peer.

    Raises ClientError, OSError.
    """
    return await wrap(client, await _in_thread(lambda: socket.create_connection((host, port))), options)


async def wrap(client: Client, sock: socket.socket, options: HandshakeOptions) -> SessionStream:
    """Run the handshake on a connected socket, which belongs to the stream; it is closed if the handshake fails.

    Raises ClientError, OSError.
    """
    with ExitStack() as undo:
        undo.callback(_end, sock)
        sock.setblocking(True)
        stream = SessionStream(await _in_thread(lambda: client.handshake(sock, options)), options.peer_name)
        undo.pop_all()
        return stream


async def listen(
    client: Client,
    host: str | None,
    port: int,
    options: HandshakeOptions,
    *,
    backlog: int = 128,
    on_failure: Callable[[Exception], None] = lambda error: None,
) -> SessionListener:
    """Listen at each address of the host; ``None``: at every address.  Raises OSError."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as undo:
        sockets: list[socket.socket] = []
        for family, _, _, _, address in dict.fromkeys(found):
            place = (address[0], sockets[0].getsockname()[1] if sockets and not port else address[1])
            sockets.append(undo.enter_context(socket.create_server(place, family=family, backlog=backlog)))
        undo.pop_all()
    return SessionListener(client, sockets, options, on_failure=on_failure)


async def _in_thread(call: Callable[[], T]) -> T:
    """Return what a blocking call returns.  One whose wait is cancelled goes on, and its socket is closed then."""
    lock, given_up, returned = threading.Lock(), False, list[T]()

    def run() -> T:
        result = call()
        with lock:
            returned.append(result)
            if given_up:
                _end(result)
        return result

    limiter = _limiter.get(None)
    if limiter is None:
        limiter = anyio.CapacityLimiter(MOST_HANDSHAKES)
        _limiter.set(limiter)
    try:
        return await anyio.to_thread.run_sync(run, abandon_on_cancel=True, limiter=limiter)
    except anyio.get_cancelled_exc_class():
        with lock:
            given_up = True
            for result in returned:
                _end(result)
        raise


def _end(result: socket.socket | Session) -> None:
    sock = result if isinstance(result, socket.socket) else result.socket
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)  # for the service's copy, during a handshake
    sock.close()


def _of_socket(sock: socket.socket) -> dict[Any, Callable[[], Any]]:
    return {
        abc.SocketAttribute.family: lambda: sock.family,
        abc.SocketAttribute.local_address: sock.getsockname,
        abc.SocketAttribute.local_port: lambda: sock.getsockname()[1],
        abc.SocketAttribute.raw_socket: lambda: sock,
    }


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise anyio.BrokenResourceError(str(error)) from error
