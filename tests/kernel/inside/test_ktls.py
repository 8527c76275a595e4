"""kTLS by the kernel itself: our handshakes, planted by :mod:`hsframework_tls13.ktls`, against each other and against
our own record layer, over the loopback interface.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from hsframework.failures import Failure
from hsframework.interface import EstablishedSession, Role, Secret
from hsframework.tls.kernel import SOL_TLS, TLS_RX, TLS_TX
from hsframework_tls13 import ktls
from hsframework_tls13.channel import Channel, UserSpaceChannel
from hsframework_tls13.ciphers import SUITES, CipherSuite
from hsframework_tls13.engine import ClientEngine, Engine, Established, ServerEngine
from hsframework_tls13.events import SessionBroken, SessionTruncated
from hsframework_tls13.ktls_stream import KernelChannel
from hsframework_tls13.recordlayer import RecordLayer
from hsframework_tls13.session import channel_for, to_parameters
from hsframework_tls13.streams import AsyncTlsStream, TlsStream
from tests.kernel.machine import NOBODY, in_a_child
from tests.kernel.traffic import both_ways, receive
from tests.unit.tls13.support import CONTEXTS, SERVER, believe

Where = Literal["kernel", "user"]
MIB = os.urandom(1 << 20)
each_suite = pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
each_pair = pytest.mark.parametrize(
    ("client_in", "server_in"), [("kernel", "kernel"), ("kernel", "user"), ("user", "kernel")]
)


@dataclass
class Session:
    """A connection after its handshake; nothing planted yet."""

    near: socket.socket
    far: socket.socket
    client: Established
    server: Established

    def client_stream(self, where: Where) -> TlsStream:
        return TlsStream(_channel(self.near, self.client, where))

    def server_stream(self, where: Where) -> TlsStream:
        return TlsStream(_channel(self.far, self.server, where))

    def in_kernel(self) -> None:
        for sock, end in ((self.near, self.client), (self.far, self.server)):
            ktls.install(sock, end.role, end.suite, end.client_secret, end.server_secret)


def _channel(sock: socket.socket, end: Established, where: Where) -> Channel:
    """Make a channel as a consumer makes it, from the agent's report."""
    if where == "kernel":
        ktls.install(sock, end.role, end.suite, end.client_secret, end.server_secret)
    established = EstablishedSession(
        protocol="tls13",
        role=end.role,
        peer=end.peer,
        alpn=end.alpn,
        in_kernel=where == "kernel",
        parameters=to_parameters(end),
        tags={},
    )
    channel = channel_for(established, sock)
    assert isinstance(channel, KernelChannel if where == "kernel" else UserSpaceChannel)
    return channel


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, "the connection ended"
        data += piece
    return data


def _shake_hands(sock: socket.socket, engine: Engine) -> Established:
    """Run one end to its end: one record at a time, nothing read beyond the last."""
    while True:
        sock.sendall(engine.data_to_send())
        if engine.finished:
            return engine.established
        header = _exactly(sock, 5)
        engine.feed(header + _exactly(sock, int.from_bytes(header[3:], "big")))


@contextmanager
def session(suite: CipherSuite) -> Iterator[Session]:
    """Run a real handshake over a real connection."""
    client = ClientEngine(CONTEXTS, server_name="server.example", verify=believe, suites=(suite,))
    server = ServerEngine(CONTEXTS, identities=(SERVER,), verify=believe)
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        near = stack.enter_context(socket.create_connection(listener.getsockname(), timeout=15))
        far = stack.enter_context(listener.accept()[0])
        far.settimeout(15)
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(_shake_hands, far, server)
            end = _shake_hands(near, client)
            yield Session(near, far, end, other.result())


def _counters() -> dict[str, int]:
    lines = Path("/proc/net/tls_stat").read_text().splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}


@contextmanager
def counting(**expected: int) -> Iterator[None]:
    """Assert that /proc/net/tls_stat's counters grow by this much, and none of its errors."""
    before = _counters()
    yield
    grown = {name: value - before[name] for name, value in _counters().items()}
    assert {name: grown[name] for name in expected} == expected
    errors = ("TlsDecryptError", "TlsRxRekeyError", "TlsTxRekeyError", "TlsRxDeviceResync", "TlsDecryptRetry")
    assert not any(grown.get(name) for name in errors if name not in expected)


def test_all_four_are_supported() -> None:
    """supported_suites tries them on this kernel, and loads what they need as it does (AES-CCM: built in since 7.3)."""
    assert ktls.supported_suites() == frozenset(SUITES)
    modules = Path("/proc/modules").read_text()
    assert all(f"{name} " in modules for name in ("tls", "chacha20poly1305"))


@each_suite
def test_plain_sockets_after_the_handshake(suite: CipherSuite) -> None:
    """A kernel consumer can read and write the socket.  The kernel tells version and cipher, and no key."""
    with session(suite) as made, counting(TlsTxSw=2, TlsRxSw=2), ThreadPoolExecutor(1) as pool:
        made.in_kernel()
        for sock, other in ((made.near, made.far), (made.far, made.near)):
            for direction in (TLS_TX, TLS_RX):
                told = sock.getsockopt(SOL_TLS, direction, 4)
                assert struct.unpack("=HH", told) == (0x0304, ktls.CIPHER_TYPES[suite.code])
            sending = pool.submit(sock.sendall, MIB)
            assert _exactly(other, len(MIB)) == MIB
            sending.result()


@each_suite
@each_pair
def test_a_mebibyte_each_way(suite: CipherSuite, client_in: Where, server_in: Where) -> None:
    """The kernel's records and our record layer's are the same, in both roles; close_notify both ways at the end."""
    in_kernel = (client_in, server_in).count("kernel")
    with session(suite) as made, counting(TlsTxSw=in_kernel, TlsRxSw=in_kernel):
        client, server = made.client_stream(client_in), made.server_stream(server_in)
        both_ways(client, server, MIB)
        client.close()
        assert server.receive() == b""
        assert server.peer_closed
        server.send(b"what was still to be said")
        server.close()
        assert made.near.recv(1, socket.MSG_PEEK)


@each_suite
@each_pair
def test_key_update(suite: CipherSuite, client_in: Where, server_in: Where) -> None:
    """Each side changes its keys, asks the other to, three times, with data in between."""
    with session(suite) as made:
        client, server = made.client_stream(client_in), made.server_stream(server_in)
        for _ in range(3):
            client.update_keys(request_peer=True)
            both_ways(client, server, MIB[:50_000])
            server.update_keys(request_peer=True)
            both_ways(client, server, MIB[:50_000])
            server.update_keys()
            both_ways(client, server, MIB[:50_000])


def test_key_update_in_asyncio() -> None:
    """The same with both ends on one loop, each reading and writing at once."""

    async def write(stream: AsyncTlsStream) -> None:
        for start in range(0, len(MIB), 50_000):
            await stream.send(MIB[start : start + 50_000])
            await stream.update_keys(request_peer=True)

    async def read(stream: AsyncTlsStream) -> bytes:
        data = bytearray()
        while len(data) < len(MIB):
            data += await stream.receive()
        return bytes(data)

    async def scene(*streams: AsyncTlsStream) -> None:
        async with asyncio.timeout(60):
            works = await asyncio.gather(*map(read, streams), *map(write, streams))
        assert works[:2] == [MIB, MIB]

    with session(SUITES[0]) as made:
        asyncio.run(
            scene(
                AsyncTlsStream(_channel(made.near, made.client, "kernel")),
                AsyncTlsStream(_channel(made.far, made.server, "kernel")),
            )
        )


def test_key_updates_are_counted() -> None:
    """Three of the client's updates that ask for an answer: six changes of keys in each direction's owner."""
    with session(SUITES[0]) as made, counting(TlsTxRekeyOk=6, TlsRxRekeyOk=6, TlsRxRekeyReceived=6):
        client, server = made.client_stream("kernel"), made.server_stream("kernel")
        for _ in range(3):
            client.update_keys(request_peer=True)
            client.send(b"question")
            assert receive(server, 8) == b"question"
            server.send(b"answer")
            assert receive(client, 6) == b"answer"


def test_a_broken_record_is_told() -> None:
    """A bit turned in a record: the kernel refuses it, the reader gets the failure, the peer bad_record_mac."""
    with session(SUITES[0]) as made, counting(TlsDecryptError=1):
        layer = RecordLayer(Role.SERVER, SUITES[0], made.server.client_secret, made.server.server_secret)
        client = made.client_stream("kernel")
        record = bytearray(layer.encrypt(b"data"))
        record[-1] ^= 1
        made.far.sendall(record)
        with pytest.raises(SessionBroken) as broken:
            client.receive()
        assert broken.value.failure is Failure.BAD_RECORD_MAC
        with pytest.raises(SessionBroken) as heard:
            layer.receive_data(made.far.recv(100))
        assert heard.value.failure is Failure.PEER_REFUSED


def test_an_end_without_close_notify_is_told() -> None:
    """TCP's end alone is a truncation."""
    with session(SUITES[0]) as made:
        client = made.client_stream("kernel")
        made.far.shutdown(socket.SHUT_WR)
        with pytest.raises(SessionTruncated):
            client.receive()


def test_an_unprivileged_process_can_plant_a_session() -> None:
    """With the modules loaded, a process without capabilities does it on a socket that it was handed."""
    ktls.supported_suites()
    with session(SUITES[1]) as made:
        in_a_child(made.in_kernel, NOBODY)
        made.near.sendall(b"data")
        assert _exactly(made.far, 4) == b"data"


def test_what_follows_the_handshake_is_the_consumers() -> None:
    """Data that the peer sent before TLS_RX was in place is decrypted all the same."""
    with session(SUITES[0]) as made:
        server = made.server_stream("kernel")
        server.send(MIB[:100_000])
        client = made.client_stream("kernel")
        assert receive(client, 100_000) == MIB[:100_000]


def test_install_refuses_a_socket_that_is_not_connected() -> None:
    """KernelRefused with the kernel's errno; nothing is half done."""
    with socket.socket() as sock, pytest.raises(ktls.KernelRefused) as refused:
        secret = Secret(bytes(32))
        ktls.install(sock, Role.CLIENT, SUITES[0], secret, secret)
    assert refused.value.errno == errno.ENOTCONN
