"""A consumer that is no Python and none of our code: compiled with cc, against the real service.

The messages that docs/reference/consumers-socket.md shows byte by byte are what went over the socket.
"""

from __future__ import annotations

import contextlib
import re
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsframework.local.channel import LOCAL_MESSAGE_TYPE
from hsframework.netlink.messages import MessageCodec
from hsframework.netlink.spec import builtin_specification
from hsframework.testing.certificates import Authority
from tests.foreign.test_agent_in_c import BLOCK, BYTES, FLAGS, HERE
from tests.support.service import Service, running_service

PAGE = HERE.parents[1] / "docs" / "reference" / "consumers-socket.md"
ROOT = Authority("Consumers Root")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The consumer, compiled without a warning, with sanitizers that stop it at its first wrong step."""
    result = tmp_path_factory.mktemp("c") / "consumer"
    subprocess.run(["cc", *FLAGS, "-o", str(result), str(HERE / "consumer.c")], check=True)
    return result


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with the profile ``web``, whose trust is ours."""
    folder = tmp_path_factory.mktemp("trust")
    folder.chmod(0o755)
    trust = ROOT.write(folder, "root")
    configuration = f'[trust.ours]\nbundle = ["{trust}"]\n[profiles.web]\ntrust = "ours"\n'
    with running_service(configuration=configuration) as running:
        yield running


@contextlib.contextmanager
def server(folder: Path, name: str) -> Iterator[int]:
    """Run a TLS server of Python's ssl, with a certificate for ``name``, and yield its port."""
    files = ROOT.issue([name]).write(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.private_key)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError), context.wrap_socket(self.request, server_side=True) as sock:
                sock.recv(1)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield listening.server_address[1]
        listening.shutdown()
        thread.join()


def consume(
    program: Path, service: Service, port: int, *words: str, options: tuple[str, ...] = ()
) -> tuple[int, str, str]:
    """Run the consumer; its exit status, output and errors."""
    path = str(service.runtime / "consumer.sock")
    command = [str(program), *options, path, "127.0.0.1", str(port), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "Sanitizer" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def test_a_thousand_handshakes(program: Path, service: Service, tmp_path: Path) -> None:
    """Over one link, one after another: each has a certificate and a session, and nothing is lost."""
    with server(tmp_path, "server.example") as port:
        status, output, _ = consume(program, service, port, "server.example", "web", options=("-n", "1000"))
    assert status == 0
    for line in ("status: 0 success", "protocol: tls13"):
        assert output.count(line) == 1000, line
    # The leaf and its authority.
    assert len(re.findall(r"^certificate: \d+ bytes of DER$", output, re.MULTILINE)) == 2000
    assert len(re.findall(r"^(?:session: \d+ bytes|in the kernel)", output, re.MULTILINE)) >= 1000


def test_refusals_and_failures(program: Path, service: Service, tmp_path: Path) -> None:
    """A profile that is not there is refused in words; a server with another name is a failure, in words too."""
    with server(tmp_path, "other.example") as port:
        status, output, _ = consume(program, service, port, "server.example", "nowhere")
        assert (status, output.startswith("refused: ")) == (1, True)
        status, output, _ = consume(program, service, port, "server.example", "web")
        assert status == 1
        assert "name" in output
        assert "status: 129 Key was rejected by service" in output


def test_the_page_shows_what_goes_over_the_socket(program: Path, service: Service, tmp_path: Path) -> None:
    """The request and its refusal byte by byte; of the result, the attributes that are there."""
    shown = {name: b"".join(bytes.fromhex(match[1]) for line in lines.splitlines() if (match := BYTES.fullmatch(line)))
             for _, name, lines in BLOCK.findall(PAGE.read_text("utf-8"))}  # fmt: skip
    with server(tmp_path, "server.example") as port:
        _, _, said = consume(program, service, port, "server.example", "web", options=("-x",))
        _, _, refused = consume(program, service, port, "server.example", "nowhere", options=("-x",))
    messages = [bytes.fromhex(line[2:]) for line in (said + refused).splitlines() if line[:2] in ("> ", "< ")]
    assert list(shown) == ["SUBMIT", "the refusal"]
    assert all(message in messages for message in shown.values())
    codec = MessageCodec(builtin_specification("local"), message_type=LOCAL_MESSAGE_TYPE, receives=("reply", "event"))
    result = codec.decode(messages[1])
    assert result.operation == "result"
    rows = set(re.findall(r"^\| \d+ \| `([\w-]+)` \|", PAGE.read_text("utf-8"), re.MULTILINE))
    outcome = builtin_specification("local").sets["outcome"]
    assert set(result.values) <= rows
    assert rows == set(outcome.attributes) - {"request-id"}
