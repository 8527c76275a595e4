"""QUIC from the command line and through the consumer's API, with aioquic's own programs at the other end."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hsframework.client import Client, HandshakeOptions, UdpListener, connect_udp
from hsframework.interface import AddressValidation
from tests.support.meetings import Pki
from tests.support.processes import Program
from tests.support.service import Service, python_path, running_service

pytestmark = pytest.mark.peers

MEBIBYTE = os.urandom(1 << 20)


@pytest.fixture(scope="module")
def house() -> Iterator[Service]:
    """The service with its QUIC agent."""
    with running_service(groups=("quic",)) as running:
        yield running


def program(*words: object, **environment: str) -> Program:
    env = {"PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1", **environment}
    return Program([sys.executable, *map(str, words)], env=env)


def hsframework(house: Service, command: str, *words: object, **environment: str) -> Program:
    fixed = ["-m", "hsframework", command, "--runtime-dir", house.runtime, "--protocol", "quic", "--alpn", "demo"]
    return program(*fixed, *words, **environment)


def aioquic_server(pki: Pki, port: int, *words: object) -> Program:
    files = pki.files("good")
    fixed = ["-m", "hsframework.cli.demo.aioquic_peer", "server", "127.0.0.1", port]
    return program(*fixed, "--cert", files.certificate, "--key", files.private_key, *words)


def aioquic_client(pki: Pki, port: int, host: str = "127.0.0.1") -> Program:
    name = ["--ca", pki.ca, "--name", "server.example"]
    return program("-m", "hsframework.cli.demo.aioquic_peer", "client", host, port, *name)


def free_port() -> int:
    with connect_udp("127.0.0.1", 9) as probe:
        port: int = probe.getsockname()[1]
        return port


def options(made: HandshakeOptions, **changes: Any) -> HandshakeOptions:
    values = {name: getattr(made, name) for name in made.__dataclass_fields__}
    return HandshakeOptions(**(values | {"group": "quic", "alpn": ("demo",)} | changes))


@pytest.mark.parametrize("words", [(), ("--retry",)], ids=["plain", "with Retry"])
def test_connect(house: Service, pki: Pki, tmp_path: Path, words: tuple[str, ...]) -> None:
    """Facts, data both ways under changed keys, our end and the server's.

    A qlog that is one, and both secrets logged.
    """
    port, keys, qlogs = free_port(), tmp_path / "keys.log", tmp_path / "new" / "qlogs"
    with aioquic_server(pki, port, *words) as server:
        server.wait_for("listening")
        flags = ["--ca", pki.ca, "--servername", "server.example", "--json", "--key-update", "--qlog", qlogs]
        with hsframework(house, "connect", *flags, "127.0.0.1", port, SSLKEYLOGFILE=str(keys)) as ours:
            facts = json.loads(ours.wait_for(r'^\{"ok": .*\}$')[0])
            assert (facts["ok"], facts["protocol"], facts["alpn"], facts["in_kernel"]) == (True, "quic", "demo", False)
            ours.send(b"from hsframework\n")
            assert server.read(17) == b"from hsframework\n"
            server.send(b"from aioquic\n")
            assert ours.read(13) == b"from aioquic\n"
            ours.close_input()
            server.close_input()
            assert ours.wait() == 0, ours.said()
    (path,) = qlogs.iterdir()
    trace = json.loads(path.read_bytes())
    assert trace["qlog_version"] == "0.3"
    (events,) = (item["events"] for item in trace["traces"])
    frames = {frame["frame_type"] for event in events for frame in event["data"].get("frames", ())}
    assert {"stream", "ack", "connection_close"} <= frames
    lines = keys.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"]
    assert all(re.fullmatch(r"\w+ [0-9a-f]{64} ([0-9a-f]{64}|[0-9a-f]{96})", line) for line in lines)


@pytest.mark.parametrize(("host", "retry"), [("127.0.0.1", "always"), ("127.0.0.1", "never"), ("::1", "load")])
def test_listen(house: Service, pki: Pki, host: str, retry: str) -> None:
    """aioquic's client sends a mebibyte and gets it back; the command ends well with its only client."""
    files = pki.files("good")
    flags = ["--cert", files.certificate, "--key", files.private_key, "--echo", "--once", "--retry", retry]
    with hsframework(house, "listen", *flags, host, 0) as ours:
        port = int(ours.wait_for(r"listening on .*:(\d+)$")[1])
        with aioquic_client(pki, port, host) as client:
            client.send_in_background(MEBIBYTE)
            assert client.read(len(MEBIBYTE)) == MEBIBYTE
            client.close_input()
            assert client.wait() == 0, client.said()
        assert ours.wait() == 0, ours.said()


@pytest.mark.parametrize(
    ("policy", "cipher", "group"),
    [
        ("NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305:-GROUP-ALL:+GROUP-X25519", "TLS_CHACHA20_POLY1305_SHA256", "X25519"),
        ("NORMAL:-CIPHER-ALL:+AES-256-GCM:-GROUP-ALL:+GROUP-SECP384R1", "TLS_AES_256_GCM_SHA384", "P-384"),
    ],
)
def test_a_tls_policy(house: Service, pki: Pki, policy: str, cipher: str, group: str) -> None:
    """``--tls-priorities``: the session with aioquic's server has the policy's cipher and group."""
    port = free_port()
    with aioquic_server(pki, port) as server:
        server.wait_for("listening")
        flags = ["--ca", pki.ca, "--servername", "server.example", "--json", "--tls-priorities", policy]
        with hsframework(house, "connect", *flags, "127.0.0.1", port) as ours:
            facts = json.loads(ours.wait_for(r'^\{"ok": .*\}$')[0])
            assert (facts["tags"]["cipher"], facts["tags"]["group"]) == (cipher, group)
            ours.send(b"from hsframework\n")
            assert server.read(17) == b"from hsframework\n"
            ours.close_input()
            server.close_input()
            assert ours.wait() == 0, ours.said()


def test_a_tls_policy_that_quic_cannot_keep(house: Service, pki: Pki) -> None:
    """AES-CCM, which aioquic does not have: refused with the reason."""
    flags = ["--ca", pki.ca, "--tls-priorities", "NORMAL:-CIPHER-ALL:+AES-128-CCM"]
    with hsframework(house, "connect", *flags, "127.0.0.1", free_port()) as ours:
        assert ours.wait() == 1
        assert "the TLS policy allows none of the ciphers of QUIC here" in ours.said()


def test_refusals(house: Service, pki: Pki) -> None:
    """QUIC's missing features, and other protocols', are refused before anything is sent, with what to change."""
    for words, said in (
        (["--protocol", "quic", "--psk", "me:00", "127.0.0.1", 1], "quic takes no pre-shared keys"),
        (["--protocol", "tls13", "--qlog", "/tmp", "127.0.0.1", 1], "writes no qlogs"),
        (["--protocol", "quic", "--qlog", "/proc/nothing", "127.0.0.1", 1], "that can be written to"),
    ):
        with hsframework(house, "connect", *words) as ours:
            assert ours.wait() in (1, 2)
            assert said in ours.said()
    with hsframework(house, "listen", "--protocol", "tls13", "--retry", "always", "--profile", "x", 0) as ours:
        assert ours.wait() == 2
        assert "come over TCP" in ours.said()


@pytest.mark.parametrize("validation", list(AddressValidation))
def test_many_clients_at_once(house: Service, pki: Pki, validation: AddressValidation) -> None:
    """Fifty clients of ours at a listener of ours, all through the service: each gets its own words back."""
    server_options, client_options = options(pki.server()), options(pki.client())
    count = 50

    def serve(newcomer: Any) -> None:
        with newcomer.socket:
            newcomer.socket.settimeout(60)
            with newcomer.handshake(client, server_options).connection() as connection:
                while (stream := connection.accept_stream()) is not None:
                    with stream:
                        while data := stream.receive():
                            stream.send(data)
                    connection.send_datagram(connection.receive_datagram())

    def visit(number: int) -> bool:
        word = b"client %d" % number
        with connect_udp("127.0.0.1", listener.address[1]) as sock:
            sock.settimeout(60)
            with client.handshake(sock, client_options).connection() as connection:
                with connection.open_stream() as stream:
                    stream.send(word * 1000)
                    stream.send_eof()
                    received = b""
                    while data := stream.receive():
                        received += data
                connection.send_datagram(word)
                return received == word * 1000 and connection.receive_datagram() == word

    with (
        Client(house.runtime) as client,
        UdpListener("127.0.0.1", 0, validation=validation) as listener,
        ThreadPoolExecutor(count) as servers,
        ThreadPoolExecutor(count) as visitors,
    ):

        def accept() -> None:
            for _ in range(count):
                servers.submit(serve, listener.accept(60))

        accepting = threading.Thread(target=accept)
        accepting.start()
        assert list(visitors.map(visit, range(count))) == [True] * count
        accepting.join()
