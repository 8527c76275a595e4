"""What a plugin author reads first: the protocol, the request, the endpoint and the result.

A plugin package registers one or more :class:`Protocol` objects through the hook ``hsframework_protocols``
(:mod:`hsframework.hookspecs`).  The agent process calls :meth:`Protocol.prepare` once, and from then on the
:class:`Handshaker` that it returned serves every request of the protocol's group::

    READY → the agent pulls a request → await handshaker.handshake(request, endpoint) → Result, or HandshakeError

The rules for a handshaker:

* The coroutine is one handshake.  Many run at once on one event loop, so it never blocks.
* It reads through the endpoint alone and takes no byte that belongs to the consumer: what follows the last handshake
  message on the wire stays in the socket.
* It ends by its deadline.  The host cancels it there, and tells the consumer ``ETIMEDOUT``.
* It returns a :class:`Result` or raises :class:`hsframework.errors.HandshakeError`.  Anything else that it raises is
  logged with the plugin's name and reaches the consumer as ``EIO``.
* Key material stays inside :class:`Secret` until the moment of use.

The fd stays the host's: a handshaker never closes ``endpoint.socket`` and keeps no reference to it.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import socket as _socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol as TypingProtocol, Self, runtime_checkable

from hsframework.errors import HandshakeError

if TYPE_CHECKING:
    from hsframework.netlink.spec import Specification

INTERFACE_VERSION = 1
"""Raised when something of the interface is taken away or changes its meaning; what is added does not raise it."""

OLDEST_INTERFACE_VERSION = 1
"""Plugins that were written for this version, or a later one up to ``INTERFACE_VERSION``, are served."""


class Role(enum.IntEnum):
    """Which side of the handshake is ours: the ``message-type`` of the kernel's handshake family."""

    CLIENT = 1
    SERVER = 2


class AuthMode(enum.IntEnum):
    """How our side proves who it is: the ``auth-mode`` of the kernel's handshake family."""

    UNAUTHENTICATED = 1
    PSK = 2
    X509 = 3


class CertificateDemand(enum.IntEnum):
    """What a server asks of its client."""

    NONE = 0
    REQUEST = 1
    REQUIRE = 2


class Secret:
    """Bytes that must not be shown: no repr, no str, no pickle, compared in constant time.

    >>> Secret(b"hunter2")
    <secret, 7 bytes>
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes | bytearray | memoryview) -> None:
        self._value = bytes(value)

    def reveal(self) -> bytes:
        """The bytes themselves.  Call it where they are used, and keep the result nowhere."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(hashlib.sha256(self._value).digest())

    def __repr__(self) -> str:
        return f"<secret, {len(self._value)} bytes>"

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate chain and its private key.

    ``chain``: DER certificates, the leaf first, then intermediates in order; the anchor may be left out.
    ``private_key``: PKCS#8 ``PrivateKeyInfo`` DER, unencrypted.
    """

    chain: tuple[bytes, ...]
    private_key: Secret


@dataclass(frozen=True, slots=True)
class PresharedKey:
    """An external PSK (RFC 8446 section 4.2.11).

    ``identity``: as it goes on the wire, 1 to 65535 bytes.  ``hash``: ``"sha256"`` or ``"sha384"``.
    """

    identity: bytes
    key: Secret
    hash: str = "sha256"


@dataclass(frozen=True)
class Trust:
    """Whom to believe: DER trust anchors and DER certificate revocation lists.

    Two objects with the same content have the same ``digest``, so what is built from one can be kept under it.
    """

    anchors: tuple[bytes, ...]
    crls: tuple[bytes, ...] = ()

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over every item with its length, 32 bytes."""
        state = hashlib.sha256()
        for tag, items in ((b"A", self.anchors), (b"R", self.crls)):
            for item in items:
                state.update(tag + len(item).to_bytes(4, "big"))
                state.update(item)
        return state.digest()

    def __hash__(self) -> int:
        return hash(self.digest)


PskLookup = Callable[[bytes], Awaitable["PresharedKey | None"]]
"""A server's question for the key of the identity that its peer named; ``None``: no such key for this request."""


OpenNetlink = Callable[[int], Awaitable[_socket.socket]]
"""Asks for a netlink socket in the network namespace of the request's socket; the argument is the netlink family, for
example 16, generic netlink.  The handshaker closes it.  Raises HandshakeError."""


async def no_netlink(protocol: int) -> _socket.socket:
    """The answer where there is nobody to ask."""
    raise HandshakeError("netlink sockets of other namespaces are the dispatcher's to open, and there is none")


Authorize = Callable[["PeerIdentity"], None]
"""The question whether a peer that has proved who it is may have its session; raises HandshakeError to refuse."""


def anybody(peer: PeerIdentity) -> None:
    """The authorization of a request that has none: allows everybody."""


async def no_psk(identity: bytes) -> PresharedKey | None:
    """The look-up of a request that has none: knows no identity."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One handshake, decoded and complete: a handshaker needs nothing else, and opens no file to serve it."""

    id: int
    """The dispatcher's number for the request, unique while it lives; for logs."""
    group: str
    """The multicast group in which it was announced."""
    role: Role
    auth_mode: AuthMode
    deadline: float
    """In seconds on the monotonic clock (``time.monotonic``, ``loop.time``): the handshake has ended by then."""
    peer_name: str | None = None
    """A client's request: the DNS name or IP address that the peer must prove, and the name to ask for (SNI)."""
    local_address: str | None = None
    """``address:port`` of our end, an IPv6 address in brackets; for logs."""
    peer_address: str | None = None
    profile: str | None = None
    """The profile of the configuration that the request has, by its own word or by default: the dispatcher has seen to
    it that its consumer may.  A plugin with keys of its own kind in its settings finds them by it."""
    user: int | None = None
    """The user id of a consumer in user space.  What a plugin keeps from one handshake for the next and a consumer
    knows too, as a ticket's secret, is for requests of the same user alone."""
    identities: tuple[Identity, ...] = ()
    """What our side may present; with several, the peer's signature algorithms choose."""
    psks: tuple[PresharedKey, ...] = ()
    """A client's keys, in order of preference."""
    psk_lookup: PskLookup = no_psk
    open_netlink: OpenNetlink = no_netlink
    """For a mechanism whose kernel side is reached by netlink; needed where the socket is in another namespace."""
    trust: Trust | None = None
    """``None``: no trust was named for the request, and a peer that presents a certificate cannot be believed."""
    authorize: Authorize = anybody
    """For a handshaker that can still tell the peer of a refusal: ask as soon as the peer is known.  For one that does
    not ask, the host does, once the handshake is over."""
    client_certificate: CertificateDemand = CertificateDemand.NONE
    alpn: tuple[str, ...] = ()
    """Offered by a client, accepted by a server, in order of preference; empty: the extension is not used."""
    kernel_consumer: bool = False
    """True: the consumer is in the kernel, and a session that is not planted in the socket is of no use to it."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """What the protocol's own specification lists in its ``request`` attribute set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerIdentity:
    """Who the peer proved to be."""

    certificates: tuple[bytes, ...] = ()
    """DER, the leaf first, as verified; empty: the peer showed none."""
    psk_identity: bytes | None = None
    public_key: bytes | None = None
    """The key itself, for a protocol without certificates (Noise, raw public keys), in the protocol's own encoding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A handshake that succeeded."""

    peer: PeerIdentity = PeerIdentity()
    alpn: str | None = None
    in_kernel: bool = False
    """True: the session is planted in the socket (kTLS, PSP, QUIC)."""
    session: Mapping[str, Any] = field(default_factory=dict)
    """By the protocol's own specification, attribute set ``session``: what a user-space consumer cannot find in the
    socket.  Goes to the consumer that owns the socket and to nobody else.  Empty: nothing but what is in the kernel."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Short facts for logs and for the consumer, for example ``cipher`` and ``group``.  Never a secret."""


class Endpoint(TypingProtocol):
    """The socket, as a handshaker sees it.  Every wait ends at the request's deadline.

    Errors: ``HandshakeFailed`` with ``Failure.PEER_GONE`` when the connection ends or is reset in mid-read.
    """

    @property
    def socket(self) -> _socket.socket:
        """For socket options alone (kTLS, addresses); reads and writes go through the endpoint."""
        ...

    async def receive_exactly(self, size: int) -> bytes:
        """Exactly ``size`` bytes of a stream socket; what follows them stays in the socket."""
        ...

    async def receive_record(self, header_size: int, body_size: Callable[[bytes], int]) -> bytes:
        """One record: a header of ``header_size`` bytes, then as many as ``body_size(header)`` says.  Both returned.

        ``body_size`` raises ``HandshakeError`` for a header that it does not accept; nothing more is read then.
        """
        ...

    async def peek(self, max_size: int) -> bytes:
        """What waits in a stream socket, 1 to ``max_size`` bytes, without taking it.

        For reading several records at once: look, find how many bytes are ours, :meth:`take` so many.  What is not
        whole yet is read by the methods above, since ``peek`` does not wait for more than it has shown.
        """
        ...

    def take(self, size: int) -> None:
        """Take so many of the bytes that :meth:`peek` has just shown."""
        ...

    async def receive_datagram(self, max_size: int = 65535, *, until: float | None = None) -> bytes:
        """One datagram of a datagram socket.

        ``until``: on the loop's clock; TimeoutError when none has come by then.
        """
        ...

    async def send(self, data: bytes) -> None:
        """All of ``data`` (one datagram on a datagram socket)."""
        ...


class AddressValidation(enum.Enum):
    """When a new client of a datagram protocol must prove its address, before anything is kept of it."""

    ALWAYS = "always"
    NEVER = "never"
    UNDER_LOAD = "load"


@dataclass(frozen=True, slots=True)
class Admission:
    """A new client is let in.  ``connection``: what tells this attempt of its from another, as the gate sees it.

    ``attributes``: for the request, by the protocol's attribute set ``request``.
    """

    connection: bytes
    attributes: Mapping[str, Any] = field(default_factory=dict)


class Gate(TypingProtocol):
    """Who is let in at the listening port of a datagram protocol (:mod:`hsframework.client.listener`).

    Without I/O: time and load are arguments.  What is not a new client's first datagram is answered by silence.
    """

    def judge(self, datagram: bytes, address: str, *, now: float, busy: bool) -> Admission | bytes | None:
        """A datagram from ``address:port``, where no client is known.  bytes: an answer to send, and nothing to keep.

        ``now``: seconds on a monotonic clock.  ``busy``: many handshakes are under way.
        """
        ...

    def belongs(self, admission: Admission, datagram: bytes) -> bool:
        """Is it of this attempt, rather than of an earlier one from the same address?"""
        ...

    def attributes(self, admission: Admission, datagrams: Sequence[bytes]) -> Mapping[str, Any]:
        """For the request: what is known of the client, and all that it has sent so far, in order."""
        ...


class Handshaker(ABC):
    """Serves the requests of one protocol in one agent process; what :meth:`Protocol.prepare` returns."""

    @abstractmethod
    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        """Run one handshake.  Raises :class:`hsframework.errors.HandshakeError`."""

    def close(self) -> None:  # noqa: B027  (a handshaker without resources has nothing to close)
        """Called once when the agent ends."""


class Protocol(ABC):
    """A security handshake that a plugin serves.  One instance is registered by ``hsframework_protocols``."""

    name: str
    """Lower-case letters, digits and dashes; unique in an installation; what the command line and the logs say."""
    groups: tuple[str, ...]
    """The multicast groups in which requests for it are announced."""
    socket_protocols: frozenset[int] = frozenset({_socket.IPPROTO_TCP})
    """``SO_PROTOCOL`` of the sockets that it serves, so that several protocols can share a group."""
    settings_type: type[Any] | None = None
    """A frozen dataclass with defaults, for the table ``[plugins.NAME]`` in the configuration.  None: no settings."""
    auth_modes: frozenset[AuthMode] = frozenset(AuthMode)
    """What it can do; asked by the command line, which refuses the others before anything is sent."""
    writes_qlogs: bool = False
    """Does ``attach_session`` write a qlog where the environment variable ``QLOGDIR`` names a folder?"""
    interface_version: int = 1
    """The ``INTERFACE_VERSION`` that it was written for, as a number; what says nothing was written for 1."""

    def gate(self, validation: AddressValidation) -> Gate | None:
        """For a listener of a datagram protocol.

        None: the protocol needs none, or its clients connect as streams do.
        """
        return None

    @property
    def specification(self) -> Specification | None:
        """The mechanism's own netlink spec, with attribute sets ``request`` and ``session``; None: it has neither."""
        return None

    @abstractmethod
    def prepare(self, settings: Any) -> Handshaker:
        """Load what all handshakes need, and fail early.

        ``settings`` is an instance of ``settings_type`` (or None).  Raises
        :class:`hsframework.errors.ConfigurationError` with a message that says what to change.
        After it has returned, no handshake opens a file.
        """


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
