"""Several records at once: the engine takes what is the handshake's and leaves the rest, at every split."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key
from hypothesis import given, settings, strategies as st
from OpenSSL import SSL

from hsframework.agent.endpoint import StreamEndpoint
from hsframework.agent.readiness import Readiness
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AuthMode, Request, Result, Role, Secret
from hsframework.testing.certificates import Authority
from hsframework_tls13.ciphers import BY_CODE, BY_NAME
from hsframework_tls13.plugin import Tls13Handshaker
from hsframework_tls13.protection import Sealer
from hsframework_tls13.recordlayer import RecordLayer
from hsframework_tls13.records import APPLICATION_DATA, split_records, whole_records
from hsframework_tls13.settings import Settings

AUTHORITY = Authority("CA")
ISSUED = AUTHORITY.issue(["server.example"])
EARLY = b"said by the server before it has heard our Finished"


@cache
def handshaker() -> Tls13Handshaker:
    return Tls13Handshaker(Settings())


def bare(role: Role, secrets: dict[bytes, bytes] | None = None) -> SSL.Connection:
    """Make the library's own connection, as our peer; its secrets by label go into ``secrets``."""
    context = SSL.Context(SSL.TLS_METHOD)

    def log(_: SSL.Connection, line: bytes) -> None:
        label, _random, secret = line.split(b" ")
        if secrets is not None:
            secrets[label] = bytes.fromhex(secret.decode())

    context.set_keylog_callback(log)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    if role is Role.SERVER:
        context.use_certificate(x509.load_der_x509_certificate(ISSUED.identity.chain[0]))
        context.use_privatekey(load_der_private_key(ISSUED.identity.private_key.reveal(), None))  # type: ignore[arg-type]
    connection = SSL.Connection(context, None)
    connection.set_accept_state() if role is Role.SERVER else connection.set_connect_state()
    return connection


def step(connection: SSL.Connection) -> bytes:
    """Take one step of the handshake, and return what it gives to send."""
    with suppress(SSL.WantReadError):
        connection.do_handshake()
    try:
        return connection.bio_read(1 << 16)
    except SSL.WantReadError:
        return b""


async def run(role: Role, ours: socket.socket) -> Result:
    """Run our side of the handshake."""
    loop = asyncio.get_running_loop()
    request = Request(
        id=1,
        group="tls13",
        role=role,
        auth_mode=AuthMode.UNAUTHENTICATED if role is Role.CLIENT else AuthMode.X509,
        deadline=loop.time() + 20,
        peer_name="server.example" if role is Role.CLIENT else None,
        identities=() if role is Role.CLIENT else (ISSUED.identity,),
        trust=AUTHORITY.trust(),
    )
    endpoint = StreamEndpoint(ours, Readiness(loop))
    try:
        return await handshaker().handshake(request, endpoint)
    finally:
        endpoint.leave()


def send_split(sock: socket.socket, data: bytes, splits: list[int]) -> None:
    """Send ``data`` in the pieces that ``splits`` makes of it."""
    edges = sorted({0, len(data), *(split % (len(data) + 1) for split in splits)})
    for start, end in zip(edges, edges[1:], strict=False):
        sock.sendall(data[start:end])


def decrypted(result: Result, role: Role, data: bytes) -> bytes:
    """Decrypt the bytes that were left in the socket."""
    suite = BY_CODE[result.session["cipher"]]
    secrets = (result.session["client-traffic-secret"], result.session["server-traffic-secret"])
    layer = RecordLayer(role, suite, *secrets)
    return b"".join(getattr(event, "data", b"") for event in layer.receive_data(data))


def left_over(sock: socket.socket) -> bytes:
    """Return all that is left in a socket whose peer has closed."""
    sock.setblocking(True)
    return b"".join(iter(lambda: sock.recv(65536), b""))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=6))
def test_what_a_server_says_early_is_left_to_the_consumer(splits: list[int]) -> None:
    """Application data right behind the server's Finished, in one write with it, however the stream is cut."""
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def peer() -> None:
            secrets: dict[bytes, bytes] = {}
            connection = bare(Role.SERVER, secrets)
            connection.bio_write(theirs.recv(65536))
            flight = step(connection)
            suite = BY_NAME[connection.get_cipher_name() or ""]
            sealer = Sealer(suite, Secret(secrets[b"SERVER_TRAFFIC_SECRET_0"]))
            send_split(theirs, flight + sealer.seal(APPLICATION_DATA, EARLY), splits)
            connection.bio_write(theirs.recv(65536))
            connection.do_handshake()

        thread = threading.Thread(target=ending, args=(peer, theirs))
        thread.start()
        result = asyncio.run(run(Role.CLIENT, ours))
        thread.join()
        assert decrypted(result, Role.CLIENT, left_over(ours)) == EARLY


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=6), st.binary(min_size=1, max_size=40_000))
def test_what_a_client_says_at_once_is_left_to_the_consumer(splits: list[int], data: bytes) -> None:
    """Application data in one write with the client's Finished, short and long, however the stream is cut."""
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def peer() -> None:
            connection = bare(Role.CLIENT)
            send_split(theirs, step(connection), splits)
            finished = b""
            while not finished:
                connection.bio_write(theirs.recv(65536))
                finished = step(connection)
            connection.send(data)
            send_split(theirs, finished + drained(connection), splits)

        thread = threading.Thread(target=ending, args=(peer, theirs))
        thread.start()
        result = asyncio.run(run(Role.SERVER, ours))
        thread.join()
        assert decrypted(result, Role.SERVER, left_over(ours)) == data


def ending(peer: Callable[[], None], sock: socket.socket) -> None:
    """Run a peer; whatever it runs into ends the connection, so that nobody waits for it."""
    try:
        peer()
    finally:
        sock.shutdown(socket.SHUT_RDWR)


def drained(connection: SSL.Connection) -> bytes:
    """Return all that waits to be sent."""
    parts = []
    while True:
        try:
            parts.append(connection.bio_read(1 << 16))
        except SSL.WantReadError:
            return b"".join(parts)


def record(size: int, kind: int = 22) -> bytes:
    return bytes((kind, 3, 3)) + size.to_bytes(2, "big") + b"x" * size


@given(st.lists(st.integers(0, 200), max_size=6), st.binary(max_size=4))
def test_whole_records_are_counted_and_split(sizes: list[int], rest: bytes) -> None:
    """The sizes add up, and what is cut off at the end does not count."""
    records = [record(size) for size in sizes]
    data = b"".join(records)
    assert whole_records(data) == len(data)
    assert list(split_records(data)) == records
    assert whole_records(data + record(9)[: 5 + len(rest)]) == len(data)


def test_a_bad_header_counts_when_its_turn_comes() -> None:
    """Garbage behind a good record is left; garbage at the front is refused."""
    assert whole_records(record(3) + b"GET / HTTP/1.0") == 8
    with pytest.raises(HandshakeFailed) as caught:
        whole_records(b"GET / HTTP/1.0")
    assert caught.value.failure is Failure.GARBAGE
