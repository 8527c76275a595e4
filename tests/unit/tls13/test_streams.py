"""Streams over real connections: synchronous and asynchronous, the record layer ours or the kernel's, in all pairs."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from hsframework.errors import StreamError
from hsframework.failures import Failure
from hsframework.interface import EstablishedSession, PeerIdentity, Role, Secret
from hsframework.testing.network import tcp_pair
from hsframework.tls.kernel import SOL_TLS, TLS_RX, TLS_TX
from hsframework_tls13.channel import Channel, UserSpaceChannel
from hsframework_tls13.ciphers import AES_128_GCM
from hsframework_tls13.events import SessionBroken, SessionTruncated
from hsframework_tls13.ktls import crypto_info
from hsframework_tls13.ktls_stream import KernelChannel
from hsframework_tls13.protection import Sealer
from hsframework_tls13.recordlayer import RecordLayer
from hsframework_tls13.session import channel_for
from hsframework_tls13.streams import AsyncTlsStream, TlsStream
from tests.unit.tls13.kernel_socket import KernelTlsSocket

SECRETS = CLIENT_SECRET, SERVER_SECRET = Secret(b"c" * 32), Secret(b"s" * 32)
MakeChannel = Callable[[socket.socket, Role], Channel]


def user_space(sock: socket.socket, role: Role) -> Channel:
    return UserSpaceChannel(sock, role, AES_128_GCM, CLIENT_SECRET, SERVER_SECRET)


def in_kernel(sock: socket.socket, role: Role, **options: Any) -> Channel:
    kernel = KernelTlsSocket(sock, **options)
    ours, theirs = (CLIENT_SECRET, SERVER_SECRET) if role is Role.CLIENT else (SERVER_SECRET, CLIENT_SECRET)
    kernel.setsockopt(SOL_TLS, TLS_TX, crypto_info(AES_128_GCM, ours))
    kernel.setsockopt(SOL_TLS, TLS_RX, crypto_info(AES_128_GCM, theirs))
    return KernelChannel(cast(socket.socket, kernel), role, AES_128_GCM, CLIENT_SECRET, SERVER_SECRET)


def old_kernel(sock: socket.socket, role: Role) -> Channel:
    return in_kernel(sock, role, can_rekey=False)


@pytest.fixture(params=[user_space, in_kernel], ids=["user space", "kernel"])
def channel(request: pytest.FixtureRequest) -> MakeChannel:
    return cast(MakeChannel, request.param)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = tcp_pair(timeout=20)
    with near, far:
        yield near, far


def read_all(stream: TlsStream) -> bytes:
    return b"".join(iter(stream.receive, b""))


Pair = tuple[socket.socket, socket.socket]


def test_a_megabyte_there_and_back(pair: Pair, channel: MakeChannel) -> None:
    """1 MiB echoed, with key updates on the way, and a clean end in both directions."""
    client, server = TlsStream(channel(pair[0], Role.CLIENT)), TlsStream(user_space(pair[1], Role.SERVER))
    payload = os.urandom(1 << 20)

    def echo() -> None:
        while data := server.receive(7000):
            server.send(data)
            server.update_keys(request_peer=len(data) % 2 == 0)
        server.close()

    with ThreadPoolExecutor(2) as pool:
        echoing = pool.submit(echo)
        reading = pool.submit(read_all, client)
        for start in range(0, len(payload), 100_000):
            client.send(payload[start : start + 100_000])
            client.update_keys(request_peer=start % 3 == 0)
        client.write(client._channel.queue_close)
        assert reading.result(30) == payload
        echoing.result(30)
    assert client.peer_closed
    assert server.peer_closed


def test_the_same_in_asyncio(pair: Pair, channel: MakeChannel) -> None:
    """Reading and writing at once in one task each, on one loop."""
    payload = os.urandom(1 << 20)

    async def echo(stream: AsyncTlsStream) -> None:
        while data := await stream.receive(9000):
            await stream.send(data)
            await stream.update_keys(request_peer=True)
        await stream.close()

    async def write(stream: AsyncTlsStream) -> None:
        for start in range(0, len(payload), 100_000):
            await stream.send(payload[start : start + 100_000])
            await stream.update_keys(request_peer=True)
        await stream.write(stream._channel.queue_close)

    async def read(stream: AsyncTlsStream) -> bytes:
        parts = []
        while data := await stream.receive():
            parts.append(data)
        return b"".join(parts)

    async def scene() -> bytes:
        client, server = (AsyncTlsStream(make(sock, role)) for make, sock, role in
                          zip((channel, user_space), pair, Role, strict=True))  # fmt: skip
        async with asyncio.timeout(30):
            return (await asyncio.gather(read(client), write(client), echo(server)))[0]

    assert asyncio.run(scene()) == payload


def test_receive_gives_what_there_is(pair: Pair, channel: MakeChannel) -> None:
    """At least one byte, at most what was asked for, nothing lost in between."""
    client, server = TlsStream(channel(pair[0], Role.CLIENT)), TlsStream(user_space(pair[1], Role.SERVER))
    server.send(b"0123456789")
    assert [client.receive(3) for _ in range(4)] == [b"012", b"345", b"678", b"9"]
    server.close()
    assert client.receive() == client.receive() == b""
    with pytest.raises(ValueError, match="at least 1"):
        client.receive(0)


def test_truncation(pair: Pair, channel: MakeChannel) -> None:
    """The connection ends without close_notify: an error, after all data, and not an end."""
    client, server = TlsStream(channel(pair[0], Role.CLIENT)), TlsStream(user_space(pair[1], Role.SERVER))
    server.send(b"all of it")
    pair[1].shutdown(socket.SHUT_WR)
    assert client.receive() == b"all of it"
    for _ in range(2):
        with pytest.raises(SessionTruncated):
            client.receive()


def test_a_spoilt_record(pair: Pair, channel: MakeChannel) -> None:
    """bad_record_mac reaches the peer; our side has failed for good."""
    client, server = TlsStream(channel(pair[0], Role.CLIENT)), TlsStream(user_space(pair[1], Role.SERVER))
    pair[1].sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
    for _ in range(2):
        with pytest.raises(SessionBroken) as caught:
            client.receive()
        assert caught.value.failure is Failure.BAD_RECORD_MAC
    with pytest.raises(SessionBroken):
        client.send(b"more")
    with pytest.raises(SessionBroken) as heard:
        server.receive()
    assert heard.value.peer_alert == 20


def test_data_before_an_error_is_delivered(pair: Pair, channel: MakeChannel) -> None:
    """Good records in front of a bad one, in one segment."""
    client = TlsStream(channel(pair[0], Role.CLIENT))
    good = Sealer(AES_128_GCM, SERVER_SECRET).seal(23, b"good")
    pair[1].sendall(good + b"\x17\x03\x03\x00\x20" + bytes(32))
    assert client.receive() == b"good"
    with pytest.raises(SessionBroken):
        client.receive()


def test_a_key_update_is_answered_while_reading(pair: Pair, channel: MakeChannel) -> None:
    """A stream that only reads answers too; both directions go on under new keys."""
    client, server = TlsStream(channel(pair[0], Role.CLIENT)), TlsStream(user_space(pair[1], Role.SERVER))
    server.update_keys(request_peer=True)
    server.send(b"under new keys")
    assert client.receive() == b"under new keys"
    client.send(b"so am I")
    assert server.receive() == b"so am I"


def test_nothing_is_said_after_the_peers_fatal_alert(pair: Pair, channel: MakeChannel) -> None:
    """It ends the session for both directions, so that closing sends no byte (RFC 8446 section 6.2)."""
    client, server = TlsStream(channel(pair[0], Role.CLIENT)), RecordLayer(Role.SERVER, AES_128_GCM, *SECRETS)
    pair[1].sendall(server.abort(40))
    with pytest.raises(SessionBroken) as caught:
        client.receive()
    assert caught.value.peer_alert == 40
    client.close()
    pair[0].shutdown(socket.SHUT_WR)
    assert pair[1].recv(1) == b""


def test_an_old_kernel_cannot_change_keys(pair: Pair) -> None:
    """Before Linux 6.14 a KeyUpdate ends a session in the kernel, with a word about why; the peer gets an alert."""
    client, server = TlsStream(old_kernel(pair[0], Role.CLIENT)), TlsStream(user_space(pair[1], Role.SERVER))
    server.update_keys()
    with pytest.raises(SessionBroken) as caught:
        client.receive()
    assert caught.value.failure is Failure.NO_KERNEL_SESSION
    assert "cannot change keys" in caught.value.detail
    with pytest.raises(SessionBroken) as heard:
        server.receive()
    assert heard.value.peer_alert == 80


def test_timeouts(pair: Pair, channel: MakeChannel) -> None:
    """``settimeout`` ends a wait; the session goes on afterwards."""
    client, server = TlsStream(channel(pair[0], Role.CLIENT)), TlsStream(user_space(pair[1], Role.SERVER))
    pair[0].settimeout(0.01)
    with pytest.raises(TimeoutError):
        client.receive()
    pair[0].setblocking(False)
    with pytest.raises(BlockingIOError):
        client.receive()
    pair[0].setblocking(True)
    server.send(b"late")
    assert client.receive() == b"late"


def test_a_send_that_timed_out_goes_on(pair: Pair) -> None:
    """A record that a full socket did not take goes first next time; none is cut or sent twice."""
    client, server = TlsStream(user_space(pair[0], Role.CLIENT)), TlsStream(user_space(pair[1], Role.SERVER))
    for end in pair:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
    pair[0].settimeout(0.01)
    payload = os.urandom(4 << 20)
    with pytest.raises(TimeoutError):
        client.send(payload)
    pair[0].settimeout(20)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_all, server)
        client.send(b"and the end")
        client.close()
        assert reading.result(30) == payload + b"and the end"


def test_blocking_without_a_timeout(pair: Pair, channel: MakeChannel) -> None:
    """A socket that blocks for ever: receive waits for what another thread sends."""
    for end in pair:
        end.settimeout(None)
    client, server = TlsStream(channel(pair[0], Role.CLIENT)), TlsStream(user_space(pair[1], Role.SERVER))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.receive)
        server.send(b"here it is")
        assert waiting.result(20) == b"here it is"


def test_closing(pair: Pair, channel: MakeChannel) -> None:
    """close_notify once; a second close is harmless, anything else is refused; the socket stays open."""
    server = TlsStream(user_space(pair[1], Role.SERVER))
    with TlsStream(channel(pair[0], Role.CLIENT)) as client:
        client.send(b"bye")
    client.close()
    assert (server.receive(), server.receive()) == (b"bye", b"")
    for call in (lambda: client.send(b"x"), client.receive, client.update_keys):
        with pytest.raises(StreamError):
            call()
    assert pair[0].fileno() >= 0


def test_closing_in_asyncio(pair: Pair, channel: MakeChannel) -> None:
    """The same; and a receive that waits is cancelled without harm."""

    async def scene() -> None:
        server = AsyncTlsStream(user_space(pair[1], Role.SERVER))
        async with AsyncTlsStream(channel(pair[0], Role.CLIENT)) as client:
            waiting = asyncio.ensure_future(client.receive())
            await client.send(b"bye")
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await client.close()
        assert [await server.receive(), await server.receive()] == [b"bye", b""]
        with pytest.raises(StreamError):
            await client.send(b"x")
        with pytest.raises(ValueError, match="at least 1"):
            await server.receive(0)

    asyncio.run(asyncio.wait_for(scene(), 20))


def test_closing_a_dead_connection(pair: Pair, channel: MakeChannel) -> None:
    """No error: there is nobody left to tell."""
    client = TlsStream(channel(pair[0], Role.CLIENT))
    pair[0].shutdown(socket.SHUT_RDWR)
    client.close()


def test_two_threads_send(pair: Pair) -> None:
    """Several senders: each send arrives whole."""
    client, server = TlsStream(user_space(pair[0], Role.CLIENT)), TlsStream(user_space(pair[1], Role.SERVER))
    lines = [b"%04d" % number * 500 + b"\n" for number in range(40)]
    threads = [threading.Thread(target=client.send, args=(line,)) for line in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    client.close()
    assert sorted(read_all(server).splitlines(keepends=True)) == lines


def established(in_kernel: bool, **changes: Any) -> EstablishedSession:
    parameters = {
        "version": 0x0304,
        "cipher": AES_128_GCM.code,
        "client-traffic-secret": CLIENT_SECRET,
        "server-traffic-secret": SERVER_SECRET,
        "read-sequence": 0,
        "write-sequence": 0,
        **changes,
    }
    return EstablishedSession(
        protocol="tls13",
        role=Role.CLIENT,
        peer=PeerIdentity(),
        alpn=None,
        in_kernel=in_kernel,
        parameters=parameters,
        tags={},
    )


def test_parameters_make_the_channel(pair: Pair) -> None:
    """From what the consumer was given to the right kind of channel, at the right sequence numbers."""
    channel = channel_for(established(False, **{"write-sequence": 5}), pair[0])
    TlsStream(channel).send(b"fifth")
    late = UserSpaceChannel(pair[1], Role.SERVER, AES_128_GCM, CLIENT_SECRET, SERVER_SECRET, read_sequence=5)
    assert TlsStream(late).receive() == b"fifth"


def test_a_session_that_is_not_in_the_socket(pair: Pair) -> None:
    """A session that should be in the kernel is looked for there: else everything would be sent in plain text."""
    with pytest.raises(StreamError, match="plain text"):
        channel_for(established(True), pair[0])


@pytest.mark.parametrize(
    "changes",
    [{"version": 0x0303}, {"cipher": 0x1305}, {"cipher": None}, {"client-traffic-secret": None},
     {"server-traffic-secret": Secret(b"short")}, {"client-traffic-secret": b"c" * 32}],
)  # fmt: skip
def test_parameters_that_make_no_session(pair: Pair, changes: dict[str, Any]) -> None:
    """Anything amiss is a StreamError before the socket is touched."""
    with pytest.raises(StreamError):
        channel_for(established(False, **changes), pair[0])


@pytest.mark.parametrize("alert", range(256))
def test_the_errno_of_an_alert_in_a_session(alert: int) -> None:
    """EACCES for alerts about our certificate or key (RFC 8446, section 6.2), ECONNABORTED for all others."""
    about_us = {42, 43, 44, 45, 46, 48, 49, 115, 116}
    error = SessionBroken(Failure.PEER_REFUSED, peer_alert=alert)
    assert error.errno == (errno.EACCES if alert in about_us else errno.ECONNABORTED)
    assert error.fresh().errno == error.errno
