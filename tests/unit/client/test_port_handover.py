"""A listening port is handed over: to a successor beside which old connections live, or as a socket."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys

import pytest

from hsframework.client import UdpListener
from hsframework.client.ports import is_listened_at
from hsframework.errors import HsframeworkError
from tests.unit.client.test_udp_listener import ToyGate, client, listen, registry

HOSTS = pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::"])


def again(host: str, port: int) -> UdpListener:
    return UdpListener(host, port, protocol="toy", registry=registry(ToyGate()))


@HOSTS
def test_a_successor_listens_beside_old_connections(host: str) -> None:
    """The old connection goes on, and new clients reach the new listener alone."""
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    first = listen(host)
    with client(first, near) as old, client(first, near) as new:
        old.send(b"new 1 a")
        taken = first.accept(20)
        first.close()
        with again(host, first.address[1]) as second, taken.socket as kept:
            new.send(b"new 2 a")
            newcomer = second.accept(20)
            with newcomer.socket:
                assert newcomer.attributes["datagrams"] == (b"new 2 a",)
                old.send(b"still here")
                assert kept.recv(100) == b"still here"


def test_another_process_listens_beside_old_connections() -> None:
    """The same as another process of the same user."""
    first = listen()
    with client(first) as old:
        old.send(b"new 1 a")
        with first.accept(20).socket:
            first.close()
            words = f"from hsframework.client.udp import Port; print(Port('127.0.0.1', {first.address[1]}).address)"
            said = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
            assert str(first.address[1]) in said.stdout


@HOSTS
def test_a_port_that_is_listened_at_is_refused(host: str) -> None:
    """EADDRINUSE, also with old connections at the port."""
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    with listen(host) as first, client(first, near) as old:
        old.send(b"new 1 a")
        with first.accept(20).socket, pytest.raises(HsframeworkError) as caught:
            again(host, first.address[1])
        assert caught.value.errno == errno.EADDRINUSE
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        assert is_listened_at(family, first.address)
    assert not is_listened_at(family, first.address)


@HOSTS
def test_a_listener_on_a_socket_that_was_bound_before(host: str) -> None:
    """As a service manager or a predecessor passes it; clients are served as ever."""
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    with UdpListener(sock=sock, protocol="toy", registry=registry(ToyGate())) as listener:
        clients = [client(listener, near) for _ in range(3)]
        for number, one in enumerate(clients):
            one.send(b"new %d a" % number)
        seen = set()
        for _ in clients:
            newcomer = listener.accept(20)
            with newcomer.socket as own:
                seen.add(newcomer.attributes["datagrams"])
                own.send(b"back")
        assert seen == {(b"new %d a" % number,) for number in range(3)}
        for one in clients:
            with one:
                assert one.recv(100) == b"back"
    assert sock.fileno() == -1


@pytest.mark.parametrize(
    ("kind", "bound"), [(socket.SOCK_STREAM, True), (socket.SOCK_DGRAM, False)], ids=["TCP", "not bound"]
)
def test_a_socket_that_cannot_be_listened_at(kind: socket.SocketKind, bound: bool) -> None:
    """EINVAL with what to pass."""
    with socket.socket(socket.AF_INET, kind) as sock:
        if bound:
            sock.bind(("127.0.0.1", 0))
        with pytest.raises(HsframeworkError) as caught:
            UdpListener(sock=sock, protocol="toy", registry=registry(ToyGate()))
        assert caught.value.errno == errno.EINVAL
