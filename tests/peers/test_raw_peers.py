"""Peers that are no TLS programs at all: a plain socket sends bytes and reads the alert, which is in the clear."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from hsframework.client import HandshakeOptions
from hsframework.errors import HandshakeError, RequestRefused
from hsframework.failures import Failure
from hsframework.interface import Identity, Role
from hsframework.testing.network import tcp_pair
from tests.support.doors import Door
from tests.support.meetings import SHA256, Pki
from tests.support.processes import PATIENCE

pytestmark = pytest.mark.peers
ROLES = pytest.mark.parametrize("role", list(Role))


@contextlib.contextmanager
def plain_connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Connect two sockets, ours and theirs."""
    ours, theirs = tcp_pair(PATIENCE)
    with ours, theirs:
        yield ours, theirs


def options(role: Role, pki: Pki, timeout: float = PATIENCE) -> HandshakeOptions:
    return pki.client(timeout=timeout) if role is Role.CLIENT else pki.server(timeout=timeout)


def received(theirs: socket.socket) -> bytes:
    """Receive everything until the end."""
    parts = bytearray()
    while data := theirs.recv(65536):
        parts += data
    return bytes(parts)


def last_alert(data: bytes) -> int | None:
    """Return the description of the fatal alert that ends these records; None: they do not end in one."""
    records = []
    while data:
        end = 5 + int.from_bytes(data[3:5], "big")
        records.append(data[:end])
        data = data[end:]
    if records and records[-1][0] == 21:
        assert records[-1][:6] == b"\x15\x03\x03\x00\x02\x02"
        return records[-1][6]
    return None


def record(content_type: int, body: bytes) -> bytes:
    return struct.pack("!BHH", content_type, 0x0303, len(body)) + body


# legacy_version 1.2, random, empty session id, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, no compression, no extension
SERVER_HELLO_12 = b"\x02\x00\x00\x28\x03\x03" + bytes(range(32)) + b"\x00\xc0\x2f\x00\x00\x00"
# The same list of a client of 2008: without supported_versions it speaks TLS 1.2 at most
CLIENT_HELLO_12 = b"\x01\x00\x00\x2b\x03\x03" + bytes(range(32)) + b"\x00\x00\x02\xc0\x2f\x01\x00\x00\x00"
# TLS_AES_128_GCM_SHA256, TLS 1.3, an empty key share, and a session id that is not ours
OTHER_SESSION = (
    b"\x02\x00\x00\x32\x03\x03" + bytes(range(32)) + b"\x00\x13\x01\x00\x00\x0a\x00\x2b\x00\x02\x03\x04\x00\x33\x00\x00"
)

FROM_A_SERVER = {
    "a web server": (b"HTTP/1.0 400 Bad Request\r\n\r\n", Failure.GARBAGE),
    "a mail server": (b"220 mail.example ESMTP ready\r\n", Failure.GARBAGE),
    "random bytes": (b"\xf7" + os.urandom(200), Failure.GARBAGE),
    "a record that is too long": (b"\x16\x03\x03\xff\xff" + bytes(100), Failure.RECORD_OVERFLOW),
    "a ServerHello of TLS 1.2": (record(22, SERVER_HELLO_12), Failure.VERSION),
    "a ServerHello for somebody else": (record(22, OTHER_SESSION), Failure.ILLEGAL_PARAMETER),
    "data before the ServerHello": (record(23, b"x" * 40), Failure.UNEXPECTED_MESSAGE),
    "a Finished before the ServerHello": (record(22, b"\x14\x00\x00\x20" + bytes(32)), Failure.UNEXPECTED_MESSAGE),
    "an alert": (record(21, b"\x02\x28"), Failure.PEER_REFUSED),
}

FROM_A_CLIENT = {
    "a web browser": (b"GET / HTTP/1.1\r\nHost: server.example\r\n\r\n", Failure.GARBAGE),
    "random bytes": (b"\xf7" + os.urandom(200), Failure.GARBAGE),
    "a record that is too long": (b"\x16\x03\x01\x48\x00" + bytes(100), Failure.RECORD_OVERFLOW),
    "a ClientHello of TLS 1.2": (record(22, CLIENT_HELLO_12), Failure.VERSION),
    "a ClientHello that is cut off": (record(22, b"\x01\x00\x00\x04\x03\x03\x00\x00"), Failure.GARBAGE),
    "data before the ClientHello": (record(23, b"x" * 40), Failure.UNEXPECTED_MESSAGE),
    "an alert": (record(21, b"\x02\x50"), Failure.PEER_REFUSED),
}


@pytest.mark.parametrize("what", FROM_A_SERVER)
def test_servers_that_are_none(what: str, door: Door, pki: Pki) -> None:
    """We are the client of something else: the errno is the table's, and so is the alert behind our ClientHello."""
    sent, failure = FROM_A_SERVER[what]
    check(Role.CLIENT, sent, failure, door, pki)


@pytest.mark.parametrize("what", FROM_A_CLIENT)
def test_clients_that_are_none(what: str, door: Door, pki: Pki) -> None:
    """We are the server of something else: the errno is the table's, and so is the alert, all that is sent."""
    sent, failure = FROM_A_CLIENT[what]
    check(Role.SERVER, sent, failure, door, pki)


def check(role: Role, sent: bytes, failure: Failure, door: Door, pki: Pki) -> None:
    with plain_connection() as (ours, theirs):
        theirs.sendall(sent)
        with pytest.raises(HandshakeError) as caught:
            door.handshake(ours, options(role, pki))
        assert str(caught.value).startswith(failure.meaning)
        assert caught.value.errno == failure.errno
        ours.shutdown(socket.SHUT_WR)
        answer = received(theirs)
        assert last_alert(answer) == failure.alert
        assert (answer[:1] == b"\x16") is (role is Role.CLIENT)


def test_key_exchange_with_a_server_of_keys_alone(door: Door) -> None:
    """A ClientHello without a key, which must have one, is answered by an alert before OpenSSL is asked."""
    with plain_connection() as (ours, theirs):
        theirs.sendall(record(22, CLIENT_HELLO_12))
        with pytest.raises(HandshakeError) as caught:
            door.handshake(ours, HandshakeOptions(role=Role.SERVER, psks=(SHA256,), timeout=PATIENCE))
        assert caught.value.errno == Failure.VERSION.errno
        ours.shutdown(socket.SHUT_WR)
        assert last_alert(received(theirs)) == Failure.VERSION.alert


@ROLES
def test_our_key_does_not_fit(role: Role, door: Door, pki: Pki) -> None:
    """A request whose own key is of no use fails before a ClientHello is sent or read; the peer is told."""
    identity = Identity(pki.leaf("good").chain, pki.leaf("expired").identity.private_key)
    wanted = pki.client(identities=(identity,)) if role is Role.CLIENT else pki.server(identities=(identity,))
    with plain_connection() as (ours, theirs):
        theirs.sendall(record(22, CLIENT_HELLO_12))
        with pytest.raises(HandshakeError) as caught:
            door.handshake(ours, wanted)
        assert caught.value.errno == Failure.NO_KEY.errno
        ours.shutdown(socket.SHUT_WR)
        assert received(theirs) == record(21, bytes((2, 80)))


@ROLES
@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x03\x00\x7a\x02\x00\x00"], ids=["nothing", "byte", "part"])
def test_gone_in_the_middle(role: Role, sent: bytes, door: Door, pki: Pki) -> None:
    """The connection ends before the first record is whole."""
    with plain_connection() as (ours, theirs):
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(HandshakeError) as caught:
            door.handshake(ours, options(role, pki))
        assert caught.value.errno == Failure.PEER_GONE.errno


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_reset_in_the_middle(door: Door, pki: Pki) -> None:
    """A server that resets the connection when it has seen our ClientHello."""

    def answer(theirs: socket.socket) -> None:
        assert theirs.recv(1) == b"\x16"
        reset(theirs)

    with plain_connection() as (ours, theirs):
        peer = threading.Thread(target=answer, args=(theirs,))
        peer.start()
        with pytest.raises(HandshakeError) as caught:
            door.handshake(ours, pki.client())
        peer.join()
        assert caught.value.errno == Failure.PEER_GONE.errno


@ROLES
def test_reset_before(role: Role, door: Door, pki: Pki) -> None:
    """A connection that is gone before the service has it: refused, since nothing can begin."""
    with plain_connection() as (ours, theirs):
        reset(theirs)
        with pytest.raises(RequestRefused) as caught:
            door.handshake(ours, options(role, pki))
        assert caught.value.errno == errno.ENOTCONN


@ROLES
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x03\x00\x7a\x02\x00\x00"], ids=["from-the-start", "in-a-record"])
def test_silence(role: Role, sent: bytes, door: Door, pki: Pki) -> None:
    """A peer that stops speaking: ETIMEDOUT at the request's deadline, and no alert, which nobody would read."""
    with plain_connection() as (ours, theirs):
        theirs.sendall(sent)
        with pytest.raises(HandshakeError) as caught:
            door.handshake(ours, options(role, pki, timeout=0.3))
        assert caught.value.errno == Failure.SILENCE.errno
        ours.shutdown(socket.SHUT_WR)
        assert last_alert(received(theirs)) is None
