"""TLS over byte streams that are not TCP, through the whole service: unix sockets and MPTCP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from hsframework.client import Client, HandshakeOptions
from hsframework.interface import Role
from hsframework.testing.certificates import Authority
from hsframework.testing.service import RunningService, running_service
from hsframework_tls13.protocol import IPPROTO_MPTCP

pytestmark = pytest.mark.peers
ROOT = Authority("Other Sockets Root")
SERVER = ROOT.issue(["server.example"]).identity


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    with running_service(groups=("tls13",)) as running:
        yield running


def connected(protocol: int) -> tuple[socket.socket, socket.socket]:
    """Make two sockets that are connected over loopback.  Skips where the kernel has no such protocol."""
    try:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    except OSError as error:
        pytest.skip(f"this kernel has no socket protocol {protocol}: {error.strerror}")
    with listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        near = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
        near.connect(listening.getsockname())
        return near, listening.accept()[0]


@pytest.mark.parametrize("kind", ["unix", "MPTCP"])
def test_a_session_in_user_space(kind: str, service: RunningService) -> None:
    """The kernel's TLS takes TCP alone, so the session is the consumer's; data goes both ways."""
    near, far = socket.socketpair() if kind == "unix" else connected(IPPROTO_MPTCP)
    with near, far, Client(service.runtime_dir) as client, Client(service.runtime_dir) as other:

        def serve() -> None:
            session = other.handshake(far, HandshakeOptions(role=Role.SERVER, identities=(SERVER,)))
            stream = session.stream()
            stream.send(stream.receive()[::-1])

        thread = threading.Thread(target=serve)
        thread.start()
        session = client.handshake(near, HandshakeOptions(peer_name="server.example", trust=ROOT.trust()))
        assert not session.in_kernel
        stream = session.stream()
        stream.send(b"abc")
        assert stream.receive() == b"cba"
        thread.join()
