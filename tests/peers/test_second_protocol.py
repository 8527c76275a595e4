"""A stranger's protocol beside TLS: its own distribution and group, served by the same `hsframework run`, through the
same door, with attributes of its own."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from hsframework.client import Client, HandshakeOptions
from hsframework.errors import HandshakeError, HsframeworkError, RequestRefused
from hsframework.interface import Role, Secret
from hsframework.registry.plugins import Registry
from tests.support.doors import Door
from tests.support.meetings import Pki, chat, meeting
from tests.support.peer_programs import Setup
from tests.support.processes import PATIENCE
from tests.support.service import Service
from tests.support.toy_plugin import GROUP, shifted

pytestmark = pytest.mark.peers


def toy(role: Role, **attributes: object) -> HandshakeOptions:
    return HandshakeOptions(group=GROUP, role=role, attributes=attributes, timeout=PATIENCE)


@pytest.mark.parametrize("count", [0, 1, 250])
def test_as_client(count: int, door: Door) -> None:
    """A request attribute goes to the peer, session attributes come back, the stream is the plugin's own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname(), PATIENCE)
        theirs, _ = listener.accept()
    with ours, theirs:
        theirs.settimeout(PATIENCE)
        # The data comes in the same segment as the handshake's last line.
        theirs.sendall(f"YOT theirs {count}\n".encode() + shifted(b"hello", count))
        talk = door.handshake(ours, toy(Role.CLIENT, word="ours"))
        assert theirs.recv(100) == b"TOY ours\n"
        assert talk.session.protocol == "toy"
        assert dict(talk.session.parameters) == {"count": count, "pepper": Secret(b"theirs")}
        assert talk.session.peer.psk_identity == b"theirs"
        assert talk.session.tags["word"] == "theirs"
        assert talk.receive_exactly(5) == b"hello"
        talk.send(b"back")
        assert theirs.recv(100) == shifted(b"back", count)


def test_both_ends_are_ours(service: Service, registry: Registry) -> None:
    """Client and server, both through the service."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname(), PATIENCE)
        two, _ = listener.accept()
    found: list[object] = []
    with one, two, Client(service.runtime, registry=registry) as client:
        two.settimeout(PATIENCE)

        def serve() -> None:
            stream = client.handshake(two, toy(Role.SERVER, word="server", count=7)).stream()
            found.append(stream.receive())

        server = threading.Thread(target=serve)
        server.start()
        session = client.handshake(one, toy(Role.CLIENT, word="client"))
        assert session.parameters["count"] == 7
        session.stream().send(b"hello")
        server.join(PATIENCE)
        assert found == [b"hello"]


def test_beside_tls(door: Door, pki: Pki, tmp_path: Path) -> None:
    """Sessions of both protocols at the same time, one door."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname(), PATIENCE)
        theirs, _ = listener.accept()
    with ours, theirs, meeting(Role.CLIENT, "openssl", Setup(identity=pki.files("good")), tmp_path) as (peer, sock):
        theirs.sendall(b"YOT theirs 3\n")
        secure = door.handshake(sock, pki.client())
        plain = door.handshake(ours, toy(Role.CLIENT, word="ours"))
        assert (secure.session.protocol, plain.session.protocol) == ("tls13", "toy")
        chat(secure, peer)
        theirs.sendall(shifted(b"x", 3))
        assert plain.receive() == b"x"


def test_its_failures(door: Door) -> None:
    """A stranger's protocol fails by the same table; an attribute that its specification does not list is refused."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname(), PATIENCE)
        theirs, _ = listener.accept()
    with ours, theirs:
        with pytest.raises(HsframeworkError, match="no-such") as refused:
            door.handshake(ours, toy(Role.CLIENT, **{"no-such": 1}))
        assert refused.value.errno == errno.EINVAL
        theirs.sendall(b"something else\n")
        with pytest.raises(HandshakeError) as caught:
            door.handshake(ours, toy(Role.CLIENT, word="ours"))
        assert caught.value.errno == errno.EPROTO


def test_a_group_that_nobody_serves(door: Door) -> None:
    """ESRCH at once, and the socket is as it was."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname(), PATIENCE)
        theirs, _ = listener.accept()
    with ours, theirs:
        with pytest.raises(RequestRefused) as caught:
            door.handshake(ours, HandshakeOptions(group="no-such-group", timeout=PATIENCE))
        assert caught.value.errno == errno.ESRCH
        ours.sendall(b"still mine")
        assert theirs.recv(100) == b"still mine"


def test_plugins_of_the_service(service: Service) -> None:
    """Each protocol has an agent of its own, with its own user when root started them."""
    joined = service.log.events("an agent joins")
    users = {group: event["uid"] for event in joined for group in event["groups"]}
    assert users.keys() >= {"tls13", "tlshd", "toy"}
    if os.geteuid() == 0:
        assert len({os.geteuid(), users["tls13"], users["toy"]}) == 3
