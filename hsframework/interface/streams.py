"""The consumer's side of a session in user space: the session, its streams and its connections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol as TypingProtocol, Self, runtime_checkable

from hsframework.interface.request import Role
from hsframework.interface.result import PeerIdentity


class Stream(TypingProtocol):
    """Bytes in order, both ways, in blocking calls: what ``attach_session`` gives to a synchronous consumer.

    Every session in user space is one.  That of a protocol with several streams is a :class:`Connection` besides, and
    as a Stream stands for the first of them; each of the others is a Stream of its own.
    """

    def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        ...

    def receive(self, max_size: int = 65536) -> bytes:
        """At least one byte and at most ``max_size``; ``b""`` once the peer has closed its direction properly."""
        ...

    def send_eof(self) -> None:
        """Say that nothing more will be sent; what the peer still sends can be received."""
        ...

    def close(self) -> None:
        """Say goodbye to the peer and release the session; the socket stays its owner's.

        TLS says close_notify.  A Connection ends its first stream and says CONNECTION_CLOSE.  One stream of a
        connection among others is ended alone.
        """
        ...


class AsyncStream(TypingProtocol):
    """The same over asyncio: what ``attach_session`` gives to an asynchronous consumer."""

    async def send(self, data: bytes) -> None: ...

    async def receive(self, max_size: int = 65536) -> bytes: ...

    async def send_eof(self) -> None: ...

    async def close(self) -> None: ...


class ConnectionStream(Stream, TypingProtocol):
    """One stream of a connection among others."""

    @property
    def id(self) -> int:
        """Its number in the protocol."""
        ...

    def reset(self, code: int = 0) -> None:
        """Give up sending, with a code of the application protocol; what is under way is lost."""
        ...

    def stop(self, code: int = 0) -> None:
        """Ask the peer to send no more; what has arrived is dropped."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Close it."""
        ...


class AsyncConnectionStream(AsyncStream, TypingProtocol):
    """The same over asyncio."""

    @property
    def id(self) -> int: ...

    async def reset(self, code: int = 0) -> None: ...

    async def stop(self, code: int = 0) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


@runtime_checkable
class Connection(Stream, TypingProtocol):
    """A session with several streams, and perhaps datagrams: QUIC (RFC 9000, RFC 9221).

    As a Stream it is the first bidirectional stream of the client: the client opens it with its first call, a server's
    first call waits for it.  A program that knows of one byte stream alone so works over every protocol, and need not
    ask.  A program that uses ``open_stream`` and ``accept_stream`` meets the same stream there, as the first one.

    Streams that are ended, reset or stopped by the peer raise :class:`hsframework.errors.StreamError` for themselves;
    the end of the connection does so for all.
    """

    def open_stream(self, *, unidirectional: bool = False) -> ConnectionStream:
        """A stream of ours; waits while the peer allows no more.  The peer learns of it with the first data."""
        ...

    def accept_stream(self, *, unidirectional: bool | None = None) -> ConnectionStream | None:
        """The next stream of the peer's, of one kind or of either.

        None: it has closed the connection without an error.
        """
        ...

    @property
    def max_datagram_size(self) -> int | None:
        """Bytes in one datagram at most; None: the peer takes no datagrams."""
        ...

    def send_datagram(self, data: bytes) -> None:
        """Send a datagram, which may be lost.

        StreamError: EOPNOTSUPP the peer takes none, EMSGSIZE it is too large.
        """
        ...

    def receive_datagram(self) -> bytes:
        """The next datagram; datagrams that nobody takes are lost, the oldest first."""
        ...

    def ping(self) -> None:
        """Returns when the peer has answered."""
        ...

    def update_keys(self) -> None:
        """Change the keys that protect what is sent."""
        ...

    def close(self, code: int = 0, reason: str = "") -> None:
        """Say goodbye with a code and a reason of the application protocol; 0: nothing is wrong."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Close it."""
        ...


@runtime_checkable
class AsyncConnection(AsyncStream, TypingProtocol):
    """The same over asyncio.  The event loop does the connection's work until it is closed."""

    async def open_stream(self, *, unidirectional: bool = False) -> AsyncConnectionStream: ...

    async def accept_stream(self, *, unidirectional: bool | None = None) -> AsyncConnectionStream | None: ...

    @property
    def max_datagram_size(self) -> int | None: ...

    async def send_datagram(self, data: bytes) -> None: ...

    async def receive_datagram(self) -> bytes: ...

    async def ping(self) -> None: ...

    async def update_keys(self) -> None: ...

    async def close(self, code: int = 0, reason: str = "") -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EstablishedSession:
    """What a consumer in user space gets for its socket: the counterpart of :class:`Result`."""

    protocol: str
    role: Role
    peer: PeerIdentity
    alpn: str | None
    in_kernel: bool
    parameters: Mapping[str, Any]
    """By the protocol's specification, attribute set ``session``."""
    tags: Mapping[str, str]
