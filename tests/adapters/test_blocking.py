"""Blocking libraries over a session: http.server, http.client, urllib3, requests, httpx and smtplib as they are."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import os
import smtplib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import requests.adapters
import urllib3

from hsframework.adapters.context import SessionContext
from hsframework.adapters.sockets import SessionSocket
from hsframework.client import Client, HandshakeOptions
from hsframework.errors import ConfigurationError, HandshakeError, StreamError
from hsframework.testing.network import tcp_pair
from tests.adapters.conftest import STRANGER

pytestmark = pytest.mark.peers

Ends = tuple[SessionSocket, SessionSocket]
BODY = os.urandom(1 << 20)


class Handler(http.server.BaseHTTPRequestHandler):
    """Returns the body that it gets; GET returns BODY."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(BODY)

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Server(http.server.ThreadingHTTPServer):
    """The recipe of docs/howto/programs.md: the handshake runs in the connection's thread."""

    request_queue_size = 128
    daemon_threads = True
    client: Client
    options: HandshakeOptions

    def finish_request(self, request: Any, client_address: Any) -> None:
        with contextlib.suppress(OSError), SessionSocket.wrap(self.client, request, self.options) as sock:
            super().finish_request(sock, client_address)  # type: ignore[arg-type]

    def shutdown_request(self, request: Any) -> None:
        self.close_request(request)


@pytest.fixture
def web(client: Client, server: HandshakeOptions) -> Iterator[int]:
    """A port with http.server behind it."""
    with Server(("127.0.0.1", 0), Handler) as listening:
        listening.client, listening.options = client, server
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield listening.server_address[1]
        listening.shutdown()
        thread.join()


@pytest.fixture
def ends(client: Client, server: HandshakeOptions, context: Any) -> Iterator[Ends]:
    """Both ends of a session."""
    near, far = tcp_pair()
    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(SessionSocket.wrap, client, far, server)
        with context.wrap_socket(near, server_hostname="localhost") as here, other.result() as there:
            yield here, there


def test_http_client(web: int, context: Any) -> None:
    """A request with a body and one without, over one connection that is kept."""
    connection = http.client.HTTPSConnection("localhost", web, context=context)
    connection.request("POST", "/", BODY)
    assert connection.getresponse().read() == BODY
    connection.request("GET", "/")
    assert connection.getresponse().read() == BODY
    connection.close()


def test_urllib3_and_a_hundred_at_once(web: int, context: Any) -> None:
    """A pool with a hundred threads; each answer is its own."""
    with (
        urllib3.PoolManager(ssl_context=context, maxsize=100, block=True, retries=False) as pool,
        ThreadPoolExecutor(100) as threads,
    ):

        def ask(number: int) -> bytes:
            return pool.request("POST", f"https://localhost:{web}/", body=b"%d" % number).data

        assert list(threads.map(ask, range(100))) == [b"%d" % number for number in range(100)]


def test_requests(web: int, context: Any) -> None:
    """An adapter with our context; its own list of authorities has no say."""

    class Adapter(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, ssl_context=context, **options)

    with requests.Session() as session:
        session.mount("https://", Adapter())
        assert session.get(f"https://localhost:{web}/").content == BODY


def test_httpx(web: int, context: Any) -> None:
    """httpx's blocking client takes the context."""
    with httpx.Client(verify=context, trust_env=False) as session:
        assert session.post(f"https://localhost:{web}/", content=BODY).content == BODY


@pytest.mark.parametrize("verify", [True, False])
def test_a_refused_peer(web: int, client: Client, verify: bool) -> None:
    """A server under another authority is an error of the library's, also with verify=False."""
    context: Any = SessionContext(client, trust=STRANGER.trust())
    connection = http.client.HTTPSConnection("localhost", web, context=context)
    with pytest.raises(HandshakeError, match="trusted"):
        connection.request("GET", "/")
    with (
        urllib3.PoolManager(ssl_context=context, retries=False, cert_reqs="REQUIRED" if verify else "NONE") as pool,
        pytest.raises(urllib3.exceptions.HTTPError, match="trusted"),
    ):
        pool.request("GET", f"https://localhost:{web}/")
    with httpx.Client(verify=context, trust_env=False) as session, pytest.raises(httpx.ConnectError, match="trusted"):
        session.get(f"https://localhost:{web}/")


def test_a_peer_with_another_name(web: int, context: Any) -> None:
    """The host that the library connects to is the name that the certificate must have."""
    with pytest.raises(HandshakeError, match=r"127\.0\.0\.1"):
        http.client.HTTPSConnection("127.0.0.1", web, context=context).connect()


def test_a_slow_peer(context: Any) -> None:
    """A server that accepts and is silent: the library's own timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"https://localhost:{silent.getsockname()[1]}/"
        with (
            urllib3.PoolManager(ssl_context=context, retries=False, timeout=0.2) as pool,
            pytest.raises(urllib3.exceptions.TimeoutError),
        ):
            pool.request("GET", address)
        with httpx.Client(verify=context, trust_env=False, timeout=0.2) as session, pytest.raises(httpx.ConnectTimeout):
            session.get(address)


def test_smtplib_starttls(client: Client, server: HandshakeOptions, context: Any) -> None:
    """STARTTLS over a connection that has been used in plain text, on both sides by blocking sockets."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:
        serving = threads.submit(_one_mail, listener, client, server)
        with smtplib.SMTP("localhost", listener.getsockname()[1]) as mail:
            assert mail.starttls(context=context)[0] == 220
            mail.sendmail("a@example", ["b@example"], b"Subject: hello\r\n\r\nbody\r\n")
        assert b"body" in serving.result(30)


def _one_mail(listener: socket.socket, client: Client, options: HandshakeOptions) -> bytes:
    plain, _ = listener.accept()
    plain.sendall(b"220 here\r\n")
    while (line := plain.recv(1000)) != b"STARTTLS\r\n":
        plain.sendall(b"250-here\r\n250 STARTTLS\r\n" if line.startswith(b"ehlo") else b"250 yes\r\n")
    plain.sendall(b"220 go on\r\n")
    with SessionSocket.wrap(client, plain, options) as sock, sock.makefile("rb") as lines:
        body = b""
        for line in lines:
            if line.lower().startswith(b"data"):
                sock.sendall(b"354 go on\r\n")
                for text in iter(lines.readline, b".\r\n"):
                    body += text
            sock.sendall(b"221 bye\r\n" if line.lower().startswith(b"quit") else b"250 yes\r\n")
        return body


def test_what_ssl_tells(ends: Ends) -> None:
    """Certificate, cipher, version, and the same channel binding on both sides."""
    here, there = ends
    certificate: Any = here.getpeercert()
    assert ("DNS", "localhost") in certificate["subjectAltName"]
    assert ("IP Address", "127.0.0.3") in certificate["subjectAltName"]
    assert certificate["issuer"][-1][0] == ("commonName", "Adapters Root")
    assert here.getpeercert(binary_form=True) == here.session.peer.certificates[0]
    assert there.getpeercert() is None
    assert here.version() == "TLSv1.3"
    cipher = here.cipher()
    assert cipher is not None
    assert cipher[0].startswith("TLS_")
    assert (here.server_hostname, here.server_side, there.server_side) == ("localhost", False, True)
    assert here.get_channel_binding() == there.get_channel_binding()
    assert here.export_keying_material("one", 40) != here.export_keying_material("two", 40)
    with pytest.raises(ValueError, match="tls-unique"):
        here.get_channel_binding("tls-unique")


def test_as_a_socket(ends: Ends) -> None:
    """Pieces, files, timeouts, and the number of bytes that wait without the connection."""
    here, there = ends
    there.sendall(memoryview(b"hello"))
    assert here.recv(1) == b"h"
    assert here.pending() == 4
    buffer = bytearray(10)
    assert (here.recv_into(buffer), bytes(buffer[:4])) == (4, b"ello")
    here.settimeout(0.01)
    with pytest.raises(TimeoutError):
        here.recv()
    here.settimeout(0)
    with pytest.raises(BlockingIOError):
        here.recv()
    here.settimeout(20)
    with there.makefile("rwb") as file:
        file.write(b"a line\n")
        file.flush()
        there.close()  # the file goes on
        with here.makefile("r") as lines:
            assert lines.readline() == "a line\n"
        here.sendall(b"back\n")
        assert file.readline() == b"back\n"
    assert here.recv() == b""
    with pytest.raises(ValueError, match="flags"):
        here.recv(1, socket.MSG_PEEK)


def test_sending_without_waiting(ends: Ends) -> None:
    """send() of a non-blocking socket takes all or nothing: nothing is lost, repeated or turned around."""
    here, there = ends
    here.settimeout(0)
    sent, blocked = b"", 0
    piece = os.urandom(50_000)
    while blocked < 3:
        try:
            sent += piece[: here.send(piece)]
        except BlockingIOError:
            blocked += 1
    with ThreadPoolExecutor(1) as threads:
        here.settimeout(20)
        reading = threads.submit(lambda: b"".join(iter(there.recv, b"")))
        here.shutdown(socket.SHUT_WR)
        assert reading.result(30) == sent


def test_sendfile(ends: Ends, tmp_path: Path) -> None:
    """A part of a file, by the kernel where the session is there and by us where it is not."""
    here, there = ends
    path = tmp_path / "file"
    path.write_bytes(BODY)
    with path.open("rb") as file, ThreadPoolExecutor(1) as threads:
        reading = threads.submit(lambda: b"".join(iter(there.recv, b"")))
        assert here.sendfile(file, 10, 500_000) == 500_000
        assert file.tell() == 500_010
        assert here.sendfile(file, 500_010) == len(BODY) - 500_010
        here.shutdown(socket.SHUT_WR)
        assert reading.result(30) == BODY[10:]


def test_a_connection_that_is_cut(ends: Ends) -> None:
    """An end without close_notify is an OSError, and no end of file."""
    here, there = ends
    there._socket.shutdown(socket.SHUT_RDWR)
    with pytest.raises(StreamError) as caught:
        here.recv()
    assert isinstance(caught.value, OSError)


def test_unwrap(ends: Ends) -> None:
    """Both ends go on in plain text, where the session is in user space."""
    here, there = ends
    if here.session.in_kernel:
        with pytest.raises(ValueError, match="in the kernel"):
            here.unwrap()
        return
    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(there.unwrap)
        near = here.unwrap()
        with near, other.result(30) as far:
            near.sendall(b"plain")
            assert far.recv(10) == b"plain"


def test_what_a_context_refuses(context: Any) -> None:
    """A certificate that would not be shown, and the wrong side."""
    with pytest.raises(ConfigurationError, match="identities"):
        context.load_cert_chain("me.pem")
    near, far = tcp_pair()
    with near, far, pytest.raises(ConfigurationError, match="the other side"):
        context.wrap_socket(near, server_side=True)


def test_no_way_around_the_session() -> None:
    """No method is there that would write plain text into the connection."""
    for name in ("sendto", "sendmsg", "recvmsg", "recvfrom", "dup", "detach", "ioctl"):
        assert not hasattr(SessionSocket, name), name
