"""Both ends through the real service, over a real connection."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator

import pytest
from hsframework.client import Client, HandshakeOptions
from hsframework.errors import HandshakeError
from hsframework.interface import PeerIdentity, PresharedKey, Role, Secret
from hsframework.testing.network import tcp_pair
from hsframework.testing.service import running_service


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with running_service(groups=("spake2",)) as service, Client(service.runtime_dir) as opened:
        yield opened


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = tcp_pair(timeout=30)
    with near, far:
        yield near, far


def options(role: Role, password: bytes = b"correct horse", identity: bytes = b"alice") -> HandshakeOptions:
    """Return the options of one end."""
    return HandshakeOptions(group="spake2", role=role, timeout=30, psks=(PresharedKey(identity, Secret(password)),))


def test_session(client: Client, pair: tuple[socket.socket, socket.socket]) -> None:
    """Both ends get a session under the client's name, and carry data over it, at the cost of a real password."""
    near, far = pair
    heard: list[object] = []

    def serve() -> None:
        session = client.handshake(far, options(Role.SERVER))
        stream = session.stream()
        heard.extend((session.peer, stream.receive()))
        stream.close()

    server = threading.Thread(target=serve)
    server.start()
    stream = client.handshake(near, options(Role.CLIENT)).stream()
    stream.send(b"hello")
    assert stream.receive() == b""
    server.join(30)
    assert heard == [PeerIdentity(psk_identity=b"alice"), b"hello"]


@pytest.mark.parametrize(
    "theirs", [options(Role.SERVER, b"battery staple"), options(Role.SERVER, identity=b"bob")], ids=["password", "name"]
)
def test_refused(client: Client, pair: tuple[socket.socket, socket.socket], theirs: HandshakeOptions) -> None:
    """A server with another password, or none for the name, refuses the confirmation; the client sees no difference."""
    near, far = pair
    errnos: list[int | None] = []

    def serve() -> None:
        with pytest.raises(HandshakeError) as caught:
            client.handshake(far, theirs)
        errnos.append(caught.value.errno)
        far.close()

    server = threading.Thread(target=serve)
    server.start()
    with pytest.raises(HandshakeError) as caught:
        client.handshake(near, options(Role.CLIENT))
    server.join(30)
    assert (caught.value.errno, errnos) == (errno.ECONNRESET, [errno.EKEYREJECTED])


@pytest.mark.parametrize("identity", [b"a" * 256], ids=["256 bytes"])
def test_identities_that_are_refused(
    client: Client, pair: tuple[socket.socket, socket.socket], identity: bytes
) -> None:
    """A client's own mistakes are EINVAL, and EOPNOTSUPP without a password, before anything is sent."""
    for wrong, number in (
        (options(Role.CLIENT, identity=identity), errno.EINVAL),
        (HandshakeOptions(group="spake2", timeout=30), errno.EOPNOTSUPP),
    ):
        with pytest.raises(HandshakeError) as caught:
            client.handshake(pair[0], wrong)
        assert caught.value.errno == number
