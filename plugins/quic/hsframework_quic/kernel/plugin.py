"""The protocol ``kernel-quic`` of the agent: the I/O around :mod:`.handshake`.

The contract: docs/reference/kernel-quic.md.

The rules:

* The kernel asks in the group ``tlshd``, as it does for TLS; ``SO_PROTOCOL`` tells the sockets apart.
* The configuration by the socket's owner counts, where there is one: cipher, application protocols, a client
  certificate, a ticket.  Of two demands for a client certificate, the stricter.
* With the last secret the connection is established.  Nothing is read from then on.
* The peer gets no reason: a failed handshake leaves a socket that its owner closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from hsframework.credentials.judgement import client_identities, judge_for
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import (
    AuthMode,
    CertificateDemand,
    Endpoint,
    Handshaker,
    Request,
    Result,
    Role,
    Secret,
)
from hsframework.tls.alerts import describe_alert
from hsframework_quic.aioquic_adapter.tls_options import Resumable, TlsOptions, keep_none
from hsframework_quic.aioquic_adapter.tls_policy import narrowed
from hsframework_quic.algorithms import AES_128_CCM_SHA256, ALL_SUITES
from hsframework_quic.kernel import structs as kernel, tickets
from hsframework_quic.kernel.handshake import Action, Install, KernelHandshake, Select, Send
from hsframework_quic.kernel.socket import KernelSocket, QuicSocket
from hsframework_quic.resumption import Policy, policy
from hsframework_quic.session import VERSION_1

RETRY_INTERVAL = 0.005
"""Seconds until a full socket is tried again, and until the kernel is asked again for a ticket."""
_GONE = frozenset({errno.ENOTCONN, errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT, errno.ESHUTDOWN})
_VERSIONS = {0: "QUICv1", 1: "QUICv1", 0x6B3343CF: "QUICv2"}


class KernelQuicHandshaker(Handshaker):
    """The handshaker for in-kernel QUIC sockets.  ``open_socket``: gives access to a socket's options and messages."""

    def __init__(self, open_socket: Callable[[socket.socket], QuicSocket] = KernelSocket) -> None:
        self._open = open_socket

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        if request.auth_mode is AuthMode.PSK:
            raise HandshakeFailed(Failure.NOT_OFFERED_HERE, "QUIC with a pre-shared key; use a certificate")
        sock = self._open(endpoint.socket)
        with _kernel_errors("reading what the socket's owner has configured"):
            config = kernel.Config.unpack(sock.get_option(kernel.CONFIG, kernel.CONFIG_SIZE))
            request = _configured(request, config, sock)
            options, kept = _options(request, config, sock)
        options = narrowed(options, request)
        if options.keep is keep_none:
            kept = None
        handshake = KernelHandshake(options, _Parameters(sock))
        await _run(handshake, sock)
        agreed = handshake.agreed
        ticket = bool(kept is not None and await _receive_ticket(handshake, sock, request, config, kept))
        return Result(
            peer=agreed.peer,
            alpn=agreed.alpn,
            in_kernel=True,
            tags={
                "version": _VERSIONS.get(config.version, f"{config.version:#x}"),
                "cipher": agreed.cipher,
                "group": agreed.group,
                "resumed": "yes" if agreed.resumed else "no",
                **({"ticket": "yes"} if ticket else {}),
            },
        )


def _configured(request: Request, config: kernel.Config, sock: QuicSocket) -> Request:
    """Return the request with the configuration of the socket's owner in it."""
    names = sock.get_option(kernel.ALPN, kernel.MAX_ALPN).rstrip(b"\0")
    try:
        alpn = tuple(name.strip() for name in names.decode("ascii").split(",") if name.strip())
    except UnicodeDecodeError:
        raise HandshakeFailed(Failure.INTERNAL, f"the socket's application protocols are {names!r}") from None
    demand = CertificateDemand(min(config.certificate_request, CertificateDemand.REQUIRE))
    return replace(request, alpn=alpn or request.alpn, client_certificate=max(demand, request.client_certificate))


def _options(request: Request, config: kernel.Config, sock: QuicSocket) -> tuple[TlsOptions, list[Resumable] | None]:
    """Return the options of the handshake, and the list that a client's ticket comes in; None: no ticket is wanted."""
    is_client = request.role is Role.CLIENT
    options = TlsOptions(
        role=request.role,
        identities=client_identities(request) if is_client else request.identities,
        server_name=request.peer_name if is_client else None,
        alpn=request.alpn,
        verify=judge_for(request),
        authorize=request.authorize,
        client_certificate=CertificateDemand.NONE if is_client else request.client_certificate,
        cipher_suites=_suites(config),
    )
    stored, binding = sock.get_option(kernel.SESSION_TICKET, kernel.MAX_TICKET), _binding(request, config)
    if not is_client:
        if len(stored) < kernel.MIN_TICKET:
            return options, None
        sealed = tickets.SealedTickets(Secret(stored), binding)
        return replace(options, issue=sealed.issue, find=sealed.find), None
    options = replace(options, resume=tickets.unpack(stored, binding, request.peer_name))
    if not config.receive_session_ticket:
        return options, None
    kept: list[Resumable] = []
    return replace(options, keep=kept.append), kept


def _binding(request: Request, config: kernel.Config) -> Policy:
    """Return the policy with the version of QUIC, as far as the socket has it (RFC 9369 section 5).

    It is the version that a client begins with; 0 is v1.
    """
    return policy(request, config.version or VERSION_1)


def _suites(config: kernel.Config) -> tuple[int, ...]:
    if not config.payload_cipher:
        return (*ALL_SUITES, AES_128_CCM_SHA256)
    suite = kernel.SUITES.get(config.payload_cipher)
    if suite is None:
        raise HandshakeFailed(Failure.NOT_OFFERED_HERE, f"the payload cipher {config.payload_cipher}")
    return (suite,)


class _Parameters:
    """The transport parameters, through the socket's options."""

    def __init__(self, sock: QuicSocket) -> None:
        self._socket = sock

    def ours(self) -> bytes:
        with _kernel_errors("reading our transport parameters"):
            return self._socket.get_option(kernel.TRANSPORT_PARAMETERS, kernel.MAX_TRANSPORT_PARAMETERS)

    def theirs(self, body: bytes) -> None:
        if len(body) > kernel.MAX_TRANSPORT_PARAMETERS:
            raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"transport parameters of {len(body)} bytes")
        try:
            self._socket.set_option(kernel.TRANSPORT_PARAMETERS, body)
        except OSError as error:
            if error.errno in _GONE:
                raise _gone(self._socket, error) from None
            raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"transport parameters: {error.strerror}") from None


async def _run(handshake: KernelHandshake, sock: QuicSocket) -> None:
    await _perform(handshake.start(), sock)
    with _Readable(sock.fileno()) as readable:
        while not handshake.finished:
            try:
                received = sock.receive()
            except BlockingIOError:
                await readable.wait()
                continue
            except OSError as error:
                raise _gone(sock, error) from None
            if not received.data:
                raise _gone(sock, None)
            if received.level is None:
                raise HandshakeFailed(Failure.UNEXPECTED_MESSAGE, "an event or data in the middle of the handshake")
            await _perform(handshake.feed(received.level, received.data), sock)


async def _perform(actions: Sequence[Action], sock: QuicSocket) -> None:
    for action in actions:
        if isinstance(action, Install):
            with _kernel_errors("handing over a secret", sock):
                sock.set_option(kernel.CRYPTO_SECRET, action.secret.pack())
        elif isinstance(action, Select):
            with _kernel_errors("writing the application protocol", sock):
                sock.set_option(kernel.ALPN, action.alpn.encode("ascii"))
        else:
            await _send(action, sock)


async def _send(action: Send, sock: QuicSocket) -> None:
    rest = action.data
    while rest:
        try:
            with _kernel_errors("sending", sock):
                rest = rest[sock.send(action.level, rest, more=action.more) :]
        except BlockingIOError:
            # Such a socket is to be polled for input alone.
            await asyncio.sleep(RETRY_INTERVAL)


async def _receive_ticket(
    handshake: KernelHandshake,
    sock: QuicSocket,
    request: Request,
    config: kernel.Config,
    kept: list[Resumable],
) -> bool:
    """Wait for the server's ticket and put the session into the socket.  False: there is none, which is no failure."""
    loop = asyncio.get_running_loop()
    until = min(loop.time() + config.receive_session_ticket, request.deadline - 0.1)
    with contextlib.suppress(OSError, HandshakeFailed):
        while not (message := sock.get_option(kernel.SESSION_TICKET, kernel.MAX_TICKET)):
            if loop.time() >= until:
                return False
            await asyncio.sleep(RETRY_INTERVAL)
        handshake.take_ticket(message)
        data = tickets.pack(kept[-1], _binding(request, config)) if kept else b""
        if tickets.fits(data):
            sock.set_option(kernel.SESSION_TICKET, data)
            return True
    return False


class _Readable:
    """A wait for input on the socket; it leaves the loop at the end, since the fd may be closed then."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def __enter__(self) -> _Readable:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._fd)

    async def wait(self) -> None:
        self._event.clear()
        self._loop.add_reader(self._fd, self._wake)
        await self._event.wait()

    def _wake(self) -> None:
        self._loop.remove_reader(self._fd)
        self._event.set()


@contextlib.contextmanager
def _kernel_errors(step: str, sock: QuicSocket | None = None) -> Iterator[None]:
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        if sock is not None and error.errno in _GONE:
            raise _gone(sock, error) from None
        raise HandshakeFailed(Failure.INTERNAL, f"{step}: {error.strerror}") from None
    except ValueError as error:
        raise HandshakeFailed(Failure.INTERNAL, f"{step}: {error}") from None


def _gone(sock: QuicSocket, error: OSError | None) -> HandshakeFailed:
    """Return the error for a connection that has ended; the socket may have the peer's code (RFC 9001 section 4.8)."""
    code = 0
    with contextlib.suppress(OSError):
        code = kernel.close_code(sock.get_option(kernel.CONNECTION_CLOSE, kernel.CLOSE_SIZE))
    if 0x100 <= code <= 0x1FF:
        return HandshakeFailed(Failure.PEER_REFUSED, describe_alert(code - 0x100), peer_alert=code - 0x100)
    detail = f"QUIC error {code:#x}" if code else (error.strerror or "" if error else "the connection was closed")
    return HandshakeFailed(Failure.PEER_GONE, detail)
