"""The socket-option boundary: structures, system calls, and what each error of the kernel means for the request."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, strategies as st

from hsframework.dispatcher import planted
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Role, Secret
from hsframework.tls import kernel_quic
from hsframework_quic.hooks import hsframework_protocols
from hsframework_quic.kernel import structs as kernel, tickets as kernel_tickets
from hsframework_quic.kernel.plugin import KernelQuicHandshaker
from hsframework_quic.kernel.socket import KernelSocket, Received
from tests.unit.quic.kernel_doors import Endpoint, request
from tests.unit.quic.kernel_stand_in import StandIn, config
from tests.unit.quic.test_tls_resumption import Store, ticket
from tests.unit.quic.tls_support import ROOT, SERVER

POLICY = b"p" * 32


def test_sizes() -> None:
    """The structures have the sizes that the kernel has for them."""
    assert len(config()) == kernel.CONFIG_SIZE == 28
    assert kernel.CLOSE_SIZE == 72
    secret = kernel.CryptoSecret(True, kernel.APPLICATION, 0x1302, Secret(b"k" * 48))
    assert secret.pack() == struct.pack("=BBHI48s", 1, 0, 0, 52, b"k" * 48)
    assert len(secret.pack()) == 56
    assert "kkk" not in repr(secret)


def test_a_configuration() -> None:
    """Each field at its place."""
    read = kernel.Config.unpack(config(cipher=54, ticket=3, certificate=2, version=7))
    assert read == kernel.Config(version=7, payload_cipher=54, receive_session_ticket=3, certificate_request=2)
    with pytest.raises(ValueError):
        kernel.Config.unpack(bytes(27))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.setblocking(False)
    with one, other:
        yield one, other


def test_system_calls_raise_what_the_kernel_says(pair: tuple[socket.socket, socket.socket]) -> None:
    """A socket that is no QUIC socket knows neither level nor options; nothing waits."""
    sock = KernelSocket(pair[0])
    for call in (lambda: sock.get_option(kernel.CONFIG, 28), lambda: sock.set_option(kernel.ALPN, b"smb")):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno in (errno.EOPNOTSUPP, errno.ENOPROTOOPT)
    with pytest.raises(BlockingIOError):
        sock.receive()
    pair[1].send(b"application data")
    assert sock.receive() == Received(None, b"application data")


def test_options_through_libc() -> None:
    """Written and read back, with a buffer larger than Python's own 1024 bytes, on an option that every kernel has."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        view = KernelSocket(sock, socket.IPPROTO_TCP)
        view.set_option(socket.TCP_CONGESTION, b"reno")
        assert view.get_option(socket.TCP_CONGESTION, 4096).rstrip(b"\0") == b"reno"


def test_it_is_registered_for_its_sockets_alone() -> None:
    """In ``tlshd``, for SO_PROTOCOL 261: TCP sockets stay TLS's."""
    protocols = {protocol.name: protocol for protocol in hsframework_protocols()}
    assert protocols["kernel-quic"].groups == ("tlshd",)
    assert protocols["kernel-quic"].socket_protocols == frozenset({261})
    assert isinstance(protocols["kernel-quic"].prepare(None), KernelQuicHandshaker)


def test_the_dispatcher_has_the_same_numbers() -> None:
    """The row of ``planted`` is for the sockets that this protocol is registered for, and asks at their level."""
    assert kernel_quic.SOL_QUIC == kernel.SOL_QUIC
    assert planted.CHECKS["tlshd"][kernel.IPPROTO_QUIC] is planted.has_kernel_quic


class Broken:
    """A socket whose calls fail as they are told to; ``fail``: an option, "receive" or "send" → the errno."""

    def __init__(self, fail: dict[int | str, int], *, options: dict[int, bytes] | None = None) -> None:
        self._fail = fail
        self._options = {kernel.CONFIG: config(), kernel.ALPN: b"smb", kernel.SESSION_TICKET: b"", **(options or {})}
        self._fd, self._other = os.pipe()
        self.messages: list[Received] = []

    def close(self) -> None:
        os.close(self._fd)
        os.close(self._other)

    def fileno(self) -> int:
        return self._fd

    def _check(self, what: int | str) -> None:
        if what in self._fail:
            raise OSError(self._fail[what], os.strerror(self._fail[what]))

    def get_option(self, option: int, size: int) -> bytes:
        self._check(option)
        if option == kernel.TRANSPORT_PARAMETERS:
            return b"\x01"
        return self._options.get(option, b"")

    def set_option(self, option: int, value: bytes) -> None:
        self._check(option)

    def receive(self) -> Received:
        self._check("receive")
        return self.messages.pop(0)

    def send(self, level: int, data: bytes, *, more: bool) -> int:
        self._check("send")
        return len(data)


def outcome(sock: Broken) -> HandshakeFailed:
    async def whole() -> HandshakeFailed:
        handshaker = KernelQuicHandshaker(lambda found: found)  # type: ignore[arg-type, return-value]
        wanted = request(Role.CLIENT, ROOT.trust(), peer_name="server.example", identities=(SERVER.identity,))
        with pytest.raises(HandshakeFailed) as caught:
            await asyncio.wait_for(handshaker.handshake(wanted, Endpoint(sock)), 5)  # type: ignore[arg-type]
        return caught.value

    try:
        return asyncio.run(whole())
    finally:
        sock.close()


@pytest.mark.parametrize(
    ("fail", "failure"),
    [
        ({kernel.CONFIG: errno.ENOPROTOOPT}, Failure.INTERNAL),
        ({kernel.ALPN: errno.EINVAL}, Failure.INTERNAL),
        ({kernel.TRANSPORT_PARAMETERS: errno.EINVAL}, Failure.INTERNAL),
        ({"send": errno.EPIPE}, Failure.PEER_GONE),
        ({"send": errno.EINVAL}, Failure.INTERNAL),
        ({"receive": errno.ENOTCONN}, Failure.PEER_GONE),
        ({"receive": errno.ECONNRESET}, Failure.PEER_GONE),
    ],
)
def test_what_the_kernel_refuses(fail: dict[int | str, int], failure: Failure) -> None:
    """Each step's refusal has its row of the table."""
    assert outcome(Broken(fail)).failure is failure


@pytest.mark.parametrize(
    ("options", "failure"),
    [
        ({kernel.CONFIG: bytes(20)}, Failure.INTERNAL),
        ({kernel.CONFIG: config(cipher=99)}, Failure.NOT_OFFERED_HERE),
        ({kernel.ALPN: b"\xff\xfe"}, Failure.INTERNAL),
        ({kernel.ALPN: b"x" * 300}, Failure.INTERNAL),
    ],
)
def test_what_an_owner_may_not_configure(options: dict[int, bytes], failure: Failure) -> None:
    """Nonsense in an option is told as such."""
    assert outcome(Broken({}, options=options)).failure is failure


def test_the_peers_own_words() -> None:
    """A connection that the peer has closed with an alert is told with that alert."""
    sock = Broken(
        {"receive": errno.ENOTCONN}, options={kernel.CONNECTION_CLOSE: struct.pack("=IB3x64s", 0x100 + 42, 6, b"")}
    )
    error = outcome(sock)
    assert (error.failure, error.peer_alert, error.errno) == (Failure.PEER_REFUSED, 42, errno.EACCES)
    sock = Broken({"receive": errno.ENOTCONN}, options={kernel.CONNECTION_CLOSE: struct.pack("=IB3x64s", 12, 0, b"")})
    assert "0xc" in str(outcome(sock))


@pytest.mark.parametrize(
    ("received", "failure"),
    [
        (Received(None, b"an event"), Failure.UNEXPECTED_MESSAGE),
        (Received(kernel.INITIAL, b""), Failure.PEER_GONE),
        (Received(9, b"\x02"), Failure.UNEXPECTED_MESSAGE),
        (Received(kernel.HANDSHAKE, b"\x02"), Failure.UNEXPECTED_MESSAGE),
        (Received(kernel.INITIAL, b"\x02\xff\xff\xff"), Failure.GARBAGE),
        (Received(kernel.INITIAL, b"\x02\0\0\x04\x03\x03\0\0"), Failure.GARBAGE),
    ],
)
def test_what_may_not_come(received: Received, failure: Failure) -> None:
    """Events, application data, other levels, and messages that are none."""
    sock = Broken({})
    sock.messages = [received]
    assert outcome(sock).failure is failure


# Tickets.


def test_a_ticket_comes_back() -> None:
    """Through an option and through a server's seal; another policy, another key and damage find nothing."""
    session = ticket(Store())
    data = kernel_tickets.pack(session, POLICY)
    assert kernel_tickets.fits(data)
    found = kernel_tickets.unpack(data, POLICY)
    assert found is not None
    assert found.chain == session.chain
    assert found.ticket.resumption_secret == session.ticket.resumption_secret
    assert found.ticket.ticket == session.ticket.ticket
    assert kernel_tickets.unpack(data, b"q" * 32) is None
    sealed = kernel_tickets.SealedTickets(Secret(b"k" * 64), POLICY)
    name = sealed.issue(session)
    assert name is not None
    assert session.ticket.resumption_secret not in name
    assert sealed.find(name) is not None
    assert kernel_tickets.SealedTickets(Secret(b"l" * 64), POLICY).find(name) is None
    assert kernel_tickets.SealedTickets(Secret(b"k" * 64), b"q" * 32).find(name) is None
    assert sealed.find(name[:-1] + bytes([name[-1] ^ 1])) is None


@given(st.binary(max_size=200))
def test_a_ticket_that_is_none(data: bytes) -> None:
    """Any bytes in the option are a session, or nothing."""
    assert kernel_tickets.unpack(data, POLICY) is None
    kernel_tickets.unpack(b"hsfquic1" + POLICY + data, POLICY)
    assert kernel_tickets.SealedTickets(Secret(b"k" * 64), POLICY).find(data) is None


# The stand-in keeps the contract.


def test_the_stand_in_refuses_what_the_kernel_refuses() -> None:
    """Options out of their time or size, messages without keys."""

    async def whole() -> None:
        sock = StandIn(is_client=True)
        secret = kernel.CryptoSecret(True, kernel.HANDSHAKE, 0x1301, Secret(bytes(32)))
        refused(errno.EINVAL, lambda: sock.get_option(kernel.TRANSPORT_PARAMETERS, 512))  # not connected
        refused(errno.EINVAL, lambda: sock.set_option(kernel.CRYPTO_SECRET, secret.pack()))
        refused(errno.EINVAL, lambda: sock.set_option(kernel.ALPN, b""))
        refused(errno.EINVAL, lambda: sock.set_option(kernel.ALPN, b"x" * 129))
        refused(errno.EINVAL, lambda: sock.set_option(kernel.SESSION_TICKET, bytes(63)))
        refused(errno.EINVAL, lambda: sock.set_option(kernel.SESSION_TICKET, bytes(4097)))
        refused(errno.ENOPROTOOPT, lambda: sock.set_option(99, b"x"))
        await sock.connect(("127.0.0.1", 9))
        assert sock.get_option(kernel.TRANSPORT_PARAMETERS, 512)
        refused(errno.EINVAL, lambda: sock.get_option(kernel.TRANSPORT_PARAMETERS, 4))
        refused(errno.EINVAL, lambda: sock.set_option(kernel.TRANSPORT_PARAMETERS, bytes(513)))
        refused(errno.EINVAL, lambda: sock.set_option(kernel.CRYPTO_SECRET, secret.pack()[:-1]))
        refused(errno.EINVAL, lambda: sock.send(kernel.HANDSHAKE, b"x", more=False))  # no key yet
        refused(errno.EINVAL, lambda: sock.send(3, b"x", more=False))
        refused(errno.EMSGSIZE, lambda: sock.send(kernel.INITIAL, b"", more=False))
        early = kernel.CryptoSecret(True, kernel.APPLICATION, 0x1301, Secret(bytes(32)))
        refused(errno.EINVAL, lambda: sock.set_option(kernel.CRYPTO_SECRET, early.pack()))
        refused(errno.EAGAIN, sock.receive)
        sock.close()
        refused(errno.EPIPE, lambda: sock.send(kernel.INITIAL, b"x", more=False))
        refused(errno.ENOTCONN, sock.receive)

    asyncio.run(whole())


def refused(number: int, call: Any) -> None:
    with pytest.raises(OSError) as caught:
        call()
    assert caught.value.errno == number
