"""The examples of docs/howto/quic.md, run as they stand, with aioquic's own programs at the other end."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsframework.client import connect_udp
from tests.peers.test_examples import Place, example
from tests.support.meetings import Pki
from tests.support.processes import Program
from tests.support.service import python_path, running_service

PAGE = "docs/howto/quic.md"
PEER = (sys.executable, "-m", "hsframework.cli.demo.aioquic_peer")
WAIT = 30

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def place(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Certificates where the examples look for them, and `hsframework run`."""
    folder = tmp_path_factory.mktemp("examples")
    files = pki.files("good")
    for source, name in ((pki.ca, "ca.pem"), (files.certificate, "server.pem"), (files.private_key, "server.key")):
        shutil.copy(source, folder / name)
    (folder / "server.key").chmod(0o600)
    with running_service(groups=("quic",)) as service:
        yield Place(folder, service.runtime)


def peer(place: Place, role: str, port: int, *words: str) -> Program:
    command = [*PEER, role, "127.0.0.1", str(port), "--alpn", "echo"]
    paths = [str(place.folder / word) if re.fullmatch(r"\w+\.(pem|key)", word) else word for word in words]
    return Program([*command, *paths], env={"PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1"})


def free_port() -> int:
    with connect_udp("127.0.0.1", 9) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_client(place: Place) -> None:
    """It sends its word to aioquic's server, and prints what comes back."""
    port = free_port()
    with peer(place, "server", port, "--cert", "server.pem", "--key", "server.key") as server:
        server.wait_for("listening")
        with place.start(example(PAGE, "client"), port=port) as program:
            assert server.read(5) == b"hello"
            server.send(b"good day")
            server.close_input()
            output, _ = program.communicate(timeout=WAIT)
    assert (program.returncode, output) == (0, "good day\n")


def server_example(place: Place, port: int) -> subprocess.Popen[str]:
    code = example(PAGE, "server").replace('UdpListener("::", 4433)', f'UdpListener("127.0.0.1", {port})')
    return place.start(code)


def test_server(place: Place) -> None:
    """Two of aioquic's clients one after the other, then the asynchronous example, all of them echoed."""
    port = free_port()
    with server_example(place, port) as program:
        try:
            while f":{port:04X} " not in Path("/proc/net/udp").read_text():
                assert program.poll() is None
            for word in (b"one", b"another"):
                with peer(place, "client", port, "--ca", "ca.pem", "--name", "server.example") as client:
                    client.send(word)
                    assert client.read(len(word)) == word
                    client.close_input()
                    assert client.wait() == 0
            with place.start(example(PAGE, "asynchronous"), port=port) as ours:
                output, _ = ours.communicate(timeout=WAIT)
            assert (ours.returncode, output) == (0, "['one', 'two']\n")
            assert program.poll() is None
        finally:
            program.kill()
