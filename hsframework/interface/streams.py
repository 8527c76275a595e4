"""The consumer's side of a session in user space: the session, its streams and its connections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol as TypingProtocol, Self, runtime_checkable

from hsframework.interface.request import Role
from hsframework.interface.result import PeerIdentity


class Stream(TypingProtocol):
    """Bytes in order, both ways, in blocking calls: the object that ``attach_session`` gives a synchronous consumer.

    Every session in user space is one.  The session of a protocol with several streams is a :class:`Connection` too,
    and as a Stream stands for the first of them; each of the others is a Stream of its own.

    Errors: :class:`hsframework.errors.StreamError`, OSError.
    """

    def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        ...

    def receive(self, max_size: int = 65536) -> bytes:
        """Receive 1 to ``max_size`` bytes; ``b""`` once the peer has closed its direction properly."""
        ...

    def send_eof(self) -> None:
        """Close our direction: nothing more is sent, and receiving goes on."""
        ...

    def close(self) -> None:
        """Close our direction and release the session; the socket stays its owner's.

        TLS sends close_notify.  A Connection ends its first stream and sends CONNECTION_CLOSE.  A single stream of a
        connection is ended alone.
        """
        ...


class AsyncStream(TypingProtocol):
    """A :class:`Stream` over asyncio: the object that ``attach_session`` gives an asynchronous consumer."""

    async def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        ...

    async def receive(self, max_size: int = 65536) -> bytes:
        """Receive 1 to ``max_size`` bytes; ``b""`` once the peer has closed its direction properly."""
        ...

    async def send_eof(self) -> None:
        """Close our direction: nothing more is sent, and receiving goes on."""
        ...

    async def close(self) -> None:
        """Close our direction and release the session, as :meth:`Stream.close` does."""
        ...


class ConnectionStream(Stream, TypingProtocol):
    """One stream of a connection with several."""

    @property
    def id(self) -> int:
        """Return the stream's number in the protocol."""
        ...

    def reset(self, code: int = 0) -> None:
        """Give up sending, with a code of the application protocol; data that is under way is lost."""
        ...

    def stop(self, code: int = 0) -> None:
        """Ask the peer to send no more; data that has arrived is dropped."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Close it."""
        ...


class AsyncConnectionStream(AsyncStream, TypingProtocol):
    """A :class:`ConnectionStream` over asyncio."""

    @property
    def id(self) -> int:
        """Return the stream's number in the protocol."""
        ...

    async def reset(self, code: int = 0) -> None:
        """Give up sending, with a code of the application protocol; data that is under way is lost."""
        ...

    async def stop(self, code: int = 0) -> None:
        """Ask the peer to send no more; data that has arrived is dropped."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


@runtime_checkable
class Connection(Stream, TypingProtocol):
    """A session with several streams, and perhaps datagrams: QUIC (RFC 9000, RFC 9221).

    As a Stream it is the first bidirectional stream of the client: the client opens it with its first call, a server's
    first call waits for it.  So a program that knows of one byte stream alone works over every protocol.  A program
    that uses ``open_stream`` and ``accept_stream`` gets the same stream from them, as the first one.

    Streams that are ended, reset or stopped by the peer raise :class:`hsframework.errors.StreamError` for themselves;
    the end of the connection does so for all.
    """

    def open_stream(self, *, unidirectional: bool = False) -> ConnectionStream:
        """Open a stream; waits while the peer allows no more.  The peer learns of it with the first data."""
        ...

    def accept_stream(self, *, unidirectional: bool | None = None) -> ConnectionStream | None:
        """Wait for the next stream of the peer's, of one kind or of either.

        None: the peer has closed the connection without an error.
        """
        ...

    @property
    def max_datagram_size(self) -> int | None:
        """Return the bytes that one datagram can have; None: the peer takes no datagrams."""
        ...

    def send_datagram(self, data: bytes) -> None:
        """Send a datagram, which may be lost.

        StreamError: EOPNOTSUPP the peer takes none, EMSGSIZE it is too large.
        """
        ...

    def receive_datagram(self) -> bytes:
        """Wait for the next datagram.  Datagrams that pile up unread are lost, the oldest first."""
        ...

    def ping(self) -> None:
        """Wait until the peer has answered a ping."""
        ...

    def update_keys(self) -> None:
        """Change the keys that protect the data to the peer."""
        ...

    def close(self, code: int = 0, reason: str = "") -> None:
        """Close the connection with a code and a reason of the application protocol; code 0: no error."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Close it."""
        ...


@runtime_checkable
class AsyncConnection(AsyncStream, TypingProtocol):
    """A :class:`Connection` over asyncio.  The event loop does the connection's work until it is closed."""

    async def open_stream(self, *, unidirectional: bool = False) -> AsyncConnectionStream:
        """Open a stream, as :meth:`Connection.open_stream` does."""
        ...

    async def accept_stream(self, *, unidirectional: bool | None = None) -> AsyncConnectionStream | None:
        """Wait for the next stream of the peer's; None: the peer has closed the connection without an error."""
        ...

    @property
    def max_datagram_size(self) -> int | None:
        """Return the bytes that one datagram can have; None: the peer takes no datagrams."""
        ...

    async def send_datagram(self, data: bytes) -> None:
        """Send a datagram, as :meth:`Connection.send_datagram` does."""
        ...

    async def receive_datagram(self) -> bytes:
        """Wait for the next datagram.  Datagrams that pile up unread are lost, the oldest first."""
        ...

    async def ping(self) -> None:
        """Wait until the peer has answered a ping."""
        ...

    async def update_keys(self) -> None:
        """Change the keys that protect the data to the peer."""
        ...

    async def close(self, code: int = 0, reason: str = "") -> None:
        """Close the connection with a code and a reason of the application protocol; code 0: no error."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EstablishedSession:
    """A session as ``attach_session`` gets it in the consumer's process: the counterpart of ``Result``."""

    protocol: str
    """The name of the protocol that made it."""
    role: Role
    """Our side of the handshake."""
    peer: PeerIdentity
    """The proven identity of the peer."""
    alpn: str | None
    """The application protocol that was agreed on; None: none."""
    in_kernel: bool
    """True if the session is planted in the socket."""
    parameters: Mapping[str, Any]
    """The session's parameters, by the attribute set ``session`` of the protocol's specification."""
    tags: Mapping[str, str]
    """Short facts about the session, for example ``cipher`` and ``group``."""
