"""An agent that was written from the published text of the raw-netlink form, in whole handshakes."""

from __future__ import annotations

import errno
import socket
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hsframework.testing.certificates import Authority
from tests.kernel import raw
from tests.kernel.house import ROOT
from tests.kernel.raw import Outcome, submitted
from tests.kernel.raw_house import CLIENT, agent_files, certificate_keys, published_agent
from tests.support.running import tcp_pairs

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(scope="module", autouse=True)
def module() -> Iterator[None]:
    """In the published dialect."""
    with raw.published(protocols=5):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    agent_files(tmp_path, ROOT.issue(["server.test"]))
    return tmp_path


@pytest.fixture
def process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The agent, which has joined its group."""
    with published_agent(folder) as made:
        yield made


def peer(sock: socket.socket, folder: Path, *, server: bool, verify: bool = True) -> str | None:
    """Run OpenSSL at the other end, with a line each way; return the name in the certificate that it was shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    context.load_verify_locations(folder / "ca.pem")
    if server:
        context.num_tickets = 0
        context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    sock.settimeout(20)
    with context.wrap_socket(sock.dup(), server_side=server) as session:
        session.sendall(b"from OpenSSL")
        assert session.recv(100) == b"from the consumer"
        shown = session.getpeercert()
        return str(shown["subjectAltName"][0][1]) if shown else None


def talk(sock: socket.socket) -> None:
    """Do the consumer's side of it, in plain text as it sees it."""
    assert sock.recv(100) == b"from OpenSSL"
    sock.sendall(b"from the consumer")


@pytest.mark.usefixtures("process")
def test_an_anonymous_client(folder: Path, pair: Pair) -> None:
    """The consumer gets 0 and goes on through the kernel's TLS."""
    with ThreadPoolExecutor() as pool, submitted(pair[0], timeout=20_000) as request:
        other = pool.submit(peer, pair[1], folder, server=True, verify=False)
        assert request.outcome() == Outcome(0)
        talk(pair[0])
        assert other.result(20) is None


@pytest.mark.usefixtures("process")
def test_a_client_with_a_certificate(folder: Path, pair: Pair) -> None:
    """The consumer names its keys by serial; the server verifies what they hold."""
    with (
        ThreadPoolExecutor() as pool,
        certificate_keys(CLIENT) as keys,
        submitted(pair[0], auth=raw.X509, **keys) as request,
    ):
        other = pool.submit(peer, pair[1], folder, server=True)
        assert request.outcome() == Outcome(0)
        talk(pair[0])
        assert other.result(20) == "client.test"


@pytest.mark.usefixtures("process")
def test_a_server(folder: Path, pair: Pair) -> None:
    """With the agent's own certificate, as the published ServerHello names none."""
    with ThreadPoolExecutor() as pool, submitted(pair[0], role=raw.SERVER, auth=raw.X509) as request:
        other = pool.submit(peer, pair[1], folder, server=False)
        assert request.outcome() == Outcome(0)
        talk(pair[0])
        assert other.result(20) == "server.test"


def test_its_failures_reach_the_consumer(folder: Path, pair: Pair, process: subprocess.Popen[str]) -> None:
    """A peer that is not trusted is rejected, EACCES; keys that are not there are a fault, EIO."""
    stranger = folder / "stranger"
    stranger.mkdir()
    agent_files(stranger, Authority("Another Root").issue(["server.test"]))
    assert process.stdout is not None
    with ThreadPoolExecutor() as pool, submitted(pair[0]) as request:
        failing = pool.submit(peer, pair[1], stranger, server=True, verify=False)
        assert request.outcome() == Outcome(errno.EACCES)
        assert process.stdout.readline() == "session status 2\n"
        pair[0].close()
        with pytest.raises(OSError):
            failing.result(20)
    with tcp_pairs() as ((near, _),), submitted(near, auth=raw.X509, certificate=1, private_key=1) as request:
        assert request.outcome() == Outcome(errno.EIO)
        assert process.stdout.readline() == "session status 1\n"


def test_its_death_ends_its_request(pair: Pair, process: subprocess.Popen[str]) -> None:
    """Killed in the midst of a handshake: EIO at once."""
    with submitted(pair[0]) as request:
        assert pair[1].recv(1) == b"\x16"
        assert request.waits
        process.kill()
        assert request.outcome() == Outcome(errno.EIO)
