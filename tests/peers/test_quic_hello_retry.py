"""HelloRetryRequest: a server of ours asks ngtcp2's client for a key share that it has not sent."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsframework.client import Client, HandshakeOptions
from hsframework.errors import HandshakeError
from tests.support.meetings import Pki
from tests.support.processes import Program
from tests.support.quic_consumer import Http, first_datagram, hand_over, listening_udp
from tests.support.service import running_service

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A service whose server takes P-384 alone."""
    if shutil.which("gtlsclient", path=os.environ.get("PATH", "") + ":/usr/sbin") is None:
        pytest.skip("the program gtlsclient is not installed")
    configuration = '[plugins.quic]\ngroups = ["P-384"]\nkey-shares = ["P-384"]\n'
    with running_service(configuration=configuration, groups=("quic",)) as running, Client(running.runtime) as consumer:
        yield consumer


def ngtcp2(sock: socket.socket, groups: str, *words: str) -> Program:
    port = sock.getsockname()[1]
    command = ["gtlsclient", "-q", "--exit-on-all-streams-close", f"--groups=-GROUP-ALL:{groups}", *words]
    return Program([*command, "127.0.0.1", str(port), f"https://server.example:{port}/file"])


def options(pki: Pki, first: bytes) -> HandshakeOptions:
    values = {name: getattr(pki.server(), name) for name in HandshakeOptions.__dataclass_fields__}
    return HandshakeOptions(**(values | {"group": "quic", "alpn": ("h3",), "attributes": {"datagram": [first]}}))


def test_another_key_share(client: Client, pki: Pki, tmp_path: Path) -> None:
    """The client sends shares of groups that we do not take; the second ClientHello has the one that we ask for."""
    groups = "+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1"
    with listening_udp() as sock, ngtcp2(sock, groups, "--download", str(tmp_path)) as program:
        consumer = hand_over(client, sock, options(pki, first_datagram(sock)))
        assert consumer.session.tags["group"] == "P-384"
        Http(consumer).serve(b"hello")
        consumer.until(lambda: consumer.ended is not None)
        program.wait()
    assert (tmp_path / "file").read_bytes() == b"hello"


def test_no_group_in_common(client: Client, pki: Pki) -> None:
    """There is nothing to ask for: handshake_failure."""
    with listening_udp() as sock, ngtcp2(sock, "+GROUP-X25519:+GROUP-SECP256R1"):
        with pytest.raises(HandshakeError) as refused:
            client.handshake(sock, options(pki, first_datagram(sock)))
        assert "no cipher, group or signature" in str(refused.value)
