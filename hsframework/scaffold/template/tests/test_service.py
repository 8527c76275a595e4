"""Both ends through the real service, over a real connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from hsframework.client import Client, HandshakeOptions
from hsframework.errors import HandshakeError
from hsframework.interface import Role
from hsframework.testing.network import tcp_pair
from hsframework.testing.service import running_service


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with running_service(groups=("knock",)) as service, Client(service.runtime_dir) as opened:
        yield opened


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = tcp_pair(timeout=30)
    with near, far:
        yield near, far


def options(role: Role, word: str) -> HandshakeOptions:
    return HandshakeOptions(group="knock", role=role, timeout=30, attributes={"word": word})


def test_session(client: Client, pair: tuple[socket.socket, socket.socket]) -> None:
    """Both ends get a session and carry data over it."""
    near, far = pair
    heard = []

    def serve() -> None:
        stream = client.handshake(far, options(Role.SERVER, "friend")).stream()
        heard.append(stream.receive())
        stream.close()

    server = threading.Thread(target=serve)
    server.start()
    stream = client.handshake(near, options(Role.CLIENT, "friend")).stream()
    stream.send(b"hello")
    assert stream.receive() == b""
    server.join(30)
    assert heard == [b"hello"]


def test_a_peer_that_is_not_ours(client: Client, pair: tuple[socket.socket, socket.socket]) -> None:
    """A peer of a few lines of socket code gets a session."""
    near, far = pair
    far.sendall(b"\6friend" + b"\0\5hello" + b"\0\0")
    stream = client.handshake(near, options(Role.CLIENT, "friend")).stream()
    assert (stream.receive(), stream.receive()) == (b"hello", b"")
    assert far.recv(100) == b"\6friend"


def test_refused(client: Client, pair: tuple[socket.socket, socket.socket]) -> None:
    """The consumer gets the reason of a refusal."""
    near, far = pair
    far.sendall(b"\5enemy")
    with pytest.raises(HandshakeError, match="another word"):
        client.handshake(near, options(Role.CLIENT, "friend"))
