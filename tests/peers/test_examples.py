"""The examples of the documentation that are marked ``<!-- example: NAME -->``, run as they stand.

A service of its own runs for them (``hsframework run``), and OpenSSL is at the other end.  What is changed in an
example is where things are: the address, and the folder of the dispatcher's sockets.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.support.service import running_service

ROOT = Path(__file__).parents[2]
EXAMPLE = re.compile(r"<!-- example: (\w+) -->\n```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
WAIT = 30
HERE = """import socket
_found = socket.getaddrinfo
socket.getaddrinfo = lambda host, *arguments, **options: _found("127.0.0.1", *arguments, **options)
"""

pytestmark = pytest.mark.peers


def example(page: str, name: str) -> str:
    """Return the code of an example."""
    found = dict(EXAMPLE.findall((ROOT / page).read_text("utf-8")))
    code: str = found[name]
    return code


@dataclass
class Place:
    """A folder with ca.pem, server.pem and server.key, and a service whose sockets are in ``runtime``."""

    folder: Path
    runtime: Path

    def start(self, code: str, *, port: int = 0, listener: socket.socket | None = None) -> subprocess.Popen[str]:
        """Start an example as a program; ``port``: of its server; ``listener``: on which it accepts."""
        fds = [] if listener is None else [listener.fileno()]
        code = code.replace('("server.example", 4433)', f'("127.0.0.1", {port})')
        # By name, where the name is the peer's too: every name is this host.
        code = code.replace('"server.example", 4433, ', f'"server.example", {port}, ')
        code = code.replace('socket.create_server(("127.0.0.1", 0))', f"socket.socket(fileno={fds and fds[0]})")
        code = re.sub(r"\b((?:Async)?Client)\(\)", rf"\1({str(self.runtime)!r})", code)
        command = [sys.executable, "-W", "error", "-c", HERE + code]
        return subprocess.Popen(command, cwd=self.folder, pass_fds=fds, stdout=subprocess.PIPE, text=True)


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Certificates by OpenSSL, and `hsframework run`."""
    folder = tmp_path_factory.mktemp("examples")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    openssl(folder, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Example CA")
    openssl(
        folder, "req", "-x509", *key, "-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=server",
        "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:false",
        "-addext", "subjectAltName=DNS:server.example", "-addext", "extendedKeyUsage=serverAuth",
    )  # fmt: skip
    (folder / "server.key").chmod(0o600)
    with running_service() as service:
        yield Place(folder, service.runtime)


@contextlib.contextmanager
def s_server(place: Place, what: str) -> Iterator[int]:
    """Run OpenSSL's s_server and yield its port.  ``what``: its option for what it does with a client."""
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", "server.pem", "-key", "server.key", what]
    with subprocess.Popen(command, cwd=place.folder, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        found = next(filter(None, (re.fullmatch(r"ACCEPT .*:(\d+)\n", line) for line in server.stdout)))
        yield int(found[1])
        server.terminate()


@pytest.mark.parametrize(
    ("page", "name", "printed"),
    [
        ("README.md", "client", "HTTP/1.0 200 ok"),
        ("docs/howto/consumer.md", "client", "HTTP/1.0 200 ok"),
        ("docs/howto/consumer.md", "asynchronous", "HTTP/1.0 200 ok"),
        ("docs/howto/programs.md", "blocking", "200 b'<HTML>"),
        ("docs/howto/programs.md", "streams", "HTTP/1.0 200 ok"),
        ("docs/howto/programs.md", "anyio", "HTTP/1.0 200 ok"),
    ],
)
def test_clients(place: Place, page: str, name: str, printed: str) -> None:
    """The example gets a page from OpenSSL's server over TLS 1.3."""
    with s_server(place, "-www") as port, place.start(example(page, name), port=port) as program:
        output, _ = program.communicate(timeout=WAIT)
    assert program.returncode == 0
    assert printed in output


def test_a_stream_of_tls(place: Place) -> None:
    """OpenSSL's server reverses what it reads, and renews its keys when it is asked to."""
    code = example("plugins/tls13/README.md", "client")
    with s_server(place, "-rev") as port, place.start(code, port=port) as program:
        output, _ = program.communicate(timeout=WAIT)
    assert (program.returncode, output) == (0, "b'olleh\\n'\n")


@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_gunicorn(place: Place, worker: str) -> None:
    """The example's configuration: twenty requests of Python's ssl at once; a client that hangs up ends nothing."""
    code = example("docs/howto/programs.md", "gunicorn")
    files = 'identities=(load_identity("server.pem", "server.key"),)'
    code = "from hsframework.credentials.identities import load_identity\n" + code.replace('profile="web"', files)
    (place.folder / "gunicorn.conf.py").write_text(code.replace("Client()", f"Client({str(place.runtime)!r})"))
    (place.folder / "web.py").write_text(WEB)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, fd = listener.getsockname()[1], listener.fileno()
        command = [sys.executable, "-m", "gunicorn", "--worker-class", worker, "--workers=2",
                   f"--threads={4 if worker == 'gthread' else 1}", f"--bind=fd://{fd}", "web:application"]  # fmt: skip
        environment = {**os.environ, "HOME": str(place.folder)}
        with (
            subprocess.Popen(
                command, env=environment, cwd=place.folder, pass_fds=[fd], stderr=PIPE, text=True
            ) as server,
            ThreadPoolExecutor(20) as threads,
        ):
            context = ssl.create_default_context(cafile=place.folder / "ca.pem")
            socket.create_connection(("127.0.0.1", port)).close()
            bodies = list(threads.map(lambda _: get(context, port), range(20)))
            server.terminate()
            _, log = server.communicate(timeout=WAIT)
    assert bodies == [(200, b"https")] * 20, log
    assert server.returncode == 0


WEB = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [environ["wsgi.url_scheme"].encode()]
"""


def get(context: ssl.SSLContext, port: int) -> tuple[int, bytes]:
    """Get the page of a server on this host."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
    with context.wrap_socket(plain, server_hostname="server.example") as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: server.example\r\nConnection: close\r\n\r\n")
        with sock.makefile("rb") as file:
            response = file.read()
    head, _, body = response.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def test_server(place: Place) -> None:
    """OpenSSL's client trusts the example's server, and is sent its greeting."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code = example("docs/howto/consumer.md", "server")
        with place.start(code, listener=listener) as program:
            client = subprocess.run(
                ["openssl", "s_client", "-connect", f"127.0.0.1:{listener.getsockname()[1]}", "-quiet", "-CAfile",
                 "ca.pem", "-verify_return_error", "-verify_hostname", "server.example"],
                cwd=place.folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=WAIT, check=False,
            )  # fmt: skip
            program.communicate(timeout=WAIT)
    assert program.returncode == 0
    assert client.stdout == b"hello\n"
