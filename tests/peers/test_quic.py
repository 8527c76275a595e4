"""QUIC through the whole house, with peers that are not ours: ngtcp2's programs and aioquic's own client and server."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.tls import Epoch, SessionTicket

from hsframework.client import Client, HandshakeOptions
from hsframework.errors import HandshakeError
from hsframework.interface import AuthMode, CertificateDemand
from hsframework_quic.session import VERSION_1, VERSION_2
from tests.support.meetings import Pki
from tests.support.processes import Program
from tests.support.quic_consumer import (
    PATIENCE,
    Consumer,
    Http,
    connected_udp,
    first_datagram,
    hand_over,
    listening_udp,
)
from tests.support.service import Service, running_service

pytestmark = pytest.mark.peers

MEBIBYTE = random.Random(9000).randbytes(1 << 20)
Made = TypeVar("Made")


@pytest.fixture(scope="module", params=["v1 first", "v2 first"])
def house(request: pytest.FixtureRequest) -> Iterator[Service]:
    """The service with its QUIC agent, for each order of preference."""
    for program in ("gtlsclient", "gtlsserver"):
        if shutil.which(program, path=_PATH) is None:
            pytest.skip(f"the program {program} is not installed")
    versions = '["v1", "v2"]' if request.param == "v1 first" else '["v2", "v1"]'
    with running_service(configuration=f"[plugins.quic]\nversions = {versions}\n", groups=("quic",)) as running:
        yield running


@pytest.fixture
def client(house: Service) -> Iterator[Client]:
    with Client(house.runtime) as consumer:
        yield consumer


_PATH = os.environ.get("PATH", "") + ":/usr/sbin"


def quic(options: HandshakeOptions, **changes: Any) -> HandshakeOptions:
    """Return the same options in the group of QUIC."""
    values = {name: getattr(options, name) for name in options.__dataclass_fields__}
    return HandshakeOptions(**(values | {"group": "quic", "alpn": ("h3",)} | changes))


# ngtcp2


@contextmanager
def ngtcp2_server(pki: Pki, folder: Path, *words: str, identity: str = "good") -> Iterator[tuple[str, int]]:
    """Run gtlsserver, which serves the folder over HTTP/3."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    files = pki.files(identity)
    program = shutil.which("gtlsserver", path=_PATH)
    assert program is not None
    command: list[str | Path] = [program, "-q", "-d", folder, *words, "127.0.0.1", str(port)]
    command += [files.private_key, files.certificate]
    with Program(command) as running:
        running.poll_until(lambda: _listens(port), "a UDP socket")
        yield "127.0.0.1", port
        running.end()


def _listens(port: int) -> bool:
    return f":{port:04X} " in Path("/proc/net/udp").read_text()


@contextmanager
def ngtcp2_client(sock: socket.socket, *words: str, path: str = "/file") -> Iterator[Program]:
    """Run gtlsclient on its way to a socket of ours."""
    port = sock.getsockname()[1]
    command = ["gtlsclient", "-q", "--exit-on-all-streams-close", *words, "127.0.0.1", str(port)]
    with Program([*command, f"https://server.example:{port}{path}"]) as running:
        yield running


@pytest.mark.parametrize("words", [(), ("-V",)], ids=["plain", "with Retry"])
def test_client_against_ngtcp2(client: Client, pki: Pki, tmp_path: Path, words: tuple[str, ...]) -> None:
    """ALPN, a mebibyte down a stream of the handed-over session, a key update in the middle, a close.

    ngtcp2 of Debian 12 knows no v2: the client that would rather have it is told by Version Negotiation.
    """
    (tmp_path / "file").write_bytes(MEBIBYTE)
    with ngtcp2_server(pki, tmp_path, *words) as address, connected_udp(address) as sock:
        consumer = hand_over(client, sock, quic(pki.client()))
        assert consumer.session.alpn == "h3"
        assert consumer.handed_over.version == VERSION_1
        assert consumer.session.peer.certificates[0] == pki.leaf("good").certificate
        http = Http(consumer)
        assert http.get("/file") == MEBIBYTE
        consumer.quic.request_key_update()
        assert http.get("/file") == MEBIBYTE
        consumer.close()


def test_server_against_ngtcp2(client: Client, pki: Pki, tmp_path: Path) -> None:
    """A mebibyte up and one down; the client updates its keys in between, and closes."""
    upload = tmp_path / "upload"
    upload.write_bytes(MEBIBYTE)
    with (
        listening_udp() as sock,
        ngtcp2_client(sock, "-d", str(upload), "--download", str(tmp_path), "--key-update=1ms") as program,
    ):
        first = first_datagram(sock)
        consumer = hand_over(client, sock, quic(pki.server(), attributes={"datagram": [first]}))
        assert consumer.session.alpn == "h3"
        http = Http(consumer)
        assert http.serve(MEBIBYTE) == MEBIBYTE
        consumer.until(lambda: consumer.ended is not None)
        program.wait()
    assert (tmp_path / "file").read_bytes() == MEBIBYTE


def test_a_session_with_ngtcp2_is_resumed(client: Client, pki: Pki, tmp_path: Path) -> None:
    """The second handshake uses the ticket of the first, and reports the certificates of then."""
    (tmp_path / "file").write_bytes(b"hello")
    with ngtcp2_server(pki, tmp_path) as address:
        resumed = []
        for name in ("server.example", "server.example", "127.0.0.1"):
            with connected_udp(address) as sock:
                consumer = hand_over(client, sock, quic(pki.client(peer_name=name)))
                resumed.append(consumer.handed_over.resumed)
                assert consumer.session.peer.certificates[0] == pki.leaf("good").certificate
                assert Http(consumer).get("/file") == b"hello"
                consumer.close()
        assert resumed == [False, True, False]


@pytest.mark.parametrize("shown", [None, "self-signed", "good"])
def test_a_client_certificate_is_verified(client: Client, pki: Pki, shown: str | None) -> None:
    """Required: none, or one that nobody has signed, is refused before the session is there; a good one is reported."""
    words = [] if shown is None else ["--key", pki.files(shown).private_key, "--cert", pki.files(shown).certificate]
    demand = {"client_certificate": CertificateDemand.REQUIRE, "trust": pki.trust}
    with listening_udp() as sock, ngtcp2_client(sock, *map(str, words)):
        options = quic(pki.server(**demand), attributes={"datagram": [first_datagram(sock)]})
        if shown == "good":
            consumer = hand_over(client, sock, options)
            assert consumer.session.peer.certificates[0] == pki.leaf("good").certificate
            Http(consumer).serve(b"hello")
        else:
            with pytest.raises(HandshakeError) as refused:
                client.handshake(sock, options)
            assert refused.value.errno == (errno.EACCES if shown is None else errno.EKEYREJECTED)


@pytest.mark.parametrize(("entry", "status"), [("dns:server.example", 0), ("dns:another.example", errno.EACCES)])
def test_an_admission_list(client: Client, pki: Pki, tmp_path: Path, entry: str, status: int) -> None:
    """A trusted peer that is not on the list is refused before the session is there, in either role."""
    trust = replace(pki.trust, admit=(entry,))
    words = ["--key", pki.files("good").private_key, "--cert", pki.files("good").certificate]
    with listening_udp() as sock, ngtcp2_client(sock, *map(str, words)):
        demand = pki.server(trust=trust, client_certificate=CertificateDemand.REQUIRE)
        check_status(client, sock, quic(demand, attributes={"datagram": [first_datagram(sock)]}), status)
    with ngtcp2_server(pki, tmp_path, identity="good") as address, connected_udp(address) as sock:
        check_status(client, sock, quic(pki.client(trust=trust)), status)


def check_status(client: Client, sock: socket.socket, options: HandshakeOptions, status: int) -> None:
    if not status:
        client.handshake(sock, options)
        return
    with pytest.raises(HandshakeError, match="admission list") as refused:
        client.handshake(sock, options)
    assert refused.value.errno == status


def test_a_server_that_is_not_believed(client: Client, pki: Pki, tmp_path: Path) -> None:
    """Another authority's, expired, for another name: each its errno."""
    for what, name, expected in (
        ("a stranger's", "server.example", errno.EKEYREJECTED),
        ("expired", "server.example", errno.EKEYEXPIRED),
        ("for clients", "server.example", errno.EKEYREJECTED),
        ("good", "elsewhere.example", errno.EKEYREJECTED),
    ):
        with ngtcp2_server(pki, tmp_path, identity=what) as address, connected_udp(address) as sock:
            with pytest.raises(HandshakeError) as refused:
                client.handshake(sock, quic(pki.client(peer_name=name)))
            assert refused.value.errno == expected


def test_nobody_there(client: Client, pki: Pki) -> None:
    """No socket at the peer's port: told at once, not at the deadline."""
    with listening_udp() as sock:
        address = sock.getsockname()
    with connected_udp(address) as sock, pytest.raises(HandshakeError) as refused:
        client.handshake(sock, quic(pki.client()))
    assert refused.value.errno == errno.ECONNRESET


def test_a_peer_that_says_nothing(client: Client, pki: Pki) -> None:
    """The deadline; what the peer then finds in its socket are Initials and nothing after them."""
    with listening_udp() as silent, connected_udp(silent.getsockname()) as sock:
        with pytest.raises(HandshakeError) as refused:
            client.handshake(sock, quic(pki.client(timeout=0.4)))
        assert refused.value.errno == errno.ETIMEDOUT
        silent.setblocking(False)
        datagrams = []
        while True:
            try:
                datagrams.append(silent.recv(65535))
            except BlockingIOError:
                break
        assert len(datagrams) >= 2
        assert all(len(item) >= 1200 for item in datagrams)


# aioquic


class Echo(QuicConnectionProtocol):
    """Sends back what it gets on each stream."""

    def quic_event_received(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.StreamDataReceived):
            self._quic.send_stream_data(event.stream_id, event.data, event.end_stream)
            self.transmit()


class Loop:
    """aioquic's asyncio side on a loop in a thread of its own."""

    def __enter__(self) -> Loop:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def run(self, coroutine: Coroutine[Any, Any, Made]) -> Made:
        made: Made = self.begin(coroutine).result(PATIENCE)
        return made

    def begin(self, coroutine: Coroutine[Any, Any, Made]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)


def test_client_against_aioquic(client: Client, pki: Pki) -> None:
    """A mebibyte up and down the same stream, a key update on the way."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
    files = pki.files("good")
    configuration.load_cert_chain(files.certificate, files.private_key)
    with Loop() as loop:
        server = loop.run(serve("127.0.0.1", 0, configuration=configuration, create_protocol=Echo, retry=True))
        assert server._transport is not None
        address = server._transport.get_extra_info("sockname")
        with connected_udp(address) as sock:
            consumer = hand_over(client, sock, quic(pki.client()))
            assert consumer.session.alpn == "h3"
            assert consumer.handed_over.version in (VERSION_1, VERSION_2)
            _echo(consumer)
            consumer.close()
        loop.run(_close(server))


async def _close(server: Any) -> None:
    server.close()
    await asyncio.sleep(0)


def _echo(consumer: Consumer) -> None:
    stream = consumer.quic.get_next_available_stream_id()
    got = bytearray()

    def take(event: events.QuicEvent) -> None:
        if isinstance(event, events.StreamDataReceived):
            got.extend(event.data)

    consumer.on_event = take
    consumer.quic.send_stream_data(stream, MEBIBYTE)
    consumer.until(lambda: len(got) >= len(MEBIBYTE) // 2)
    consumer.quic.request_key_update()
    consumer.quic.send_stream_data(stream, b"more", end_stream=True)
    consumer.until(lambda: len(got) == len(MEBIBYTE) + 4)
    assert bytes(got) == MEBIBYTE + b"more"


def test_server_against_aioquic(client: Client, pki: Pki) -> None:
    """A mebibyte from the client, echoed by the consumer, and the client's close; then once more, resumed.

    The client changes the keys on the way, and the second time the consumer does.
    """
    tickets: list[SessionTicket] = []

    async def speak(port: int) -> bytes:
        configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name="server.example")
        configuration.load_verify_locations(cadata=pki.root.certificate_pem)
        configuration.session_ticket = tickets[0] if tickets else None
        async with connect(
            "127.0.0.1", port, configuration=configuration, session_ticket_handler=tickets.append
        ) as protocol:
            reader, writer = await protocol.create_stream()
            writer.write(MEBIBYTE)
            received = await reader.readexactly(len(MEBIBYTE) // 2)
            if not resumed:
                protocol.request_key_update()
            writer.write(b"more")
            writer.write_eof()
            return received + await reader.read()

    resumed = []
    for _ in range(2):
        with Loop() as loop, listening_udp() as sock:
            answer = loop.begin(speak(sock.getsockname()[1]))
            options = quic(pki.server(auth_mode=AuthMode.X509), attributes={"datagram": [first_datagram(sock)]})
            consumer = hand_over(client, sock, options)
            assert consumer.session.alpn == "h3"
            phase = consumer.quic._cryptos[Epoch.ONE_RTT].key_phase
            if consumer.handed_over.resumed:
                consumer.quic.request_key_update()
            _echo_back(consumer)
            consumer.until(lambda: consumer.ended is not None)  # noqa: B023
            resumed.append(consumer.handed_over.resumed)
            assert answer.result(PATIENCE) == MEBIBYTE + b"more"
            assert consumer.quic._cryptos[Epoch.ONE_RTT].key_phase != phase
    assert resumed == [False, True]


def _echo_back(consumer: Consumer) -> None:
    def echo(event: events.QuicEvent) -> None:
        if isinstance(event, events.StreamDataReceived):
            consumer.quic.send_stream_data(event.stream_id, event.data, event.end_stream)

    for event in consumer.events:
        echo(event)
    consumer.on_event = echo
