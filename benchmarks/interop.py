"""Table of peers: a handshake and a line there and back with each TLS and QUIC implementation that is here.

    python -m benchmarks.interop [--python PYTHON]

Each row is a real run of ``hsframework connect`` or ``hsframework listen --echo`` against another's program; a peer
that is not installed has a row that says so.  ``--python``: an interpreter with further peers of PyPI: ``rtls``
(rustls), ``qh3``.  Exit status 1 if a peer that is here fails.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from hsframework.testing.certificates import Authority
from hsframework.testing.service import running_service

NAME = "server.example"
LINE = b"there and back\n"
PATIENCE = 20.0
"""Seconds for one program."""

PYTHON_TLS = """
import socket, sys
import {module} as tls
role, port, ca, certificate, key = sys.argv[1:]
context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT if role == "client" else tls.PROTOCOL_TLS_SERVER)
context.minimum_version = tls.TLSVersion.TLSv1_3
if role == "client":
    context.load_verify_locations(ca)
    with context.wrap_socket(socket.create_connection(("127.0.0.1", int(port))), server_hostname="server.example") as s:
        s.sendall(b"there and back\\n")
        print(s.recv(100).decode(), s.version(), flush=True)
else:
    context.load_cert_chain(certificate, key)
    listening = socket.create_server(("127.0.0.1", int(port)))
    with context.wrap_socket(listening.accept()[0], server_side=True) as s:
        s.sendall(s.recv(100))
        s.recv(100)
"""
QH3 = """
import asyncio, sys
from qh3.asyncio import connect
from qh3.quic.configuration import QuicConfiguration
async def main():
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["echo"], server_name="server.example")
    configuration.load_verify_locations(sys.argv[3])
    async with asyncio.timeout(10), connect("127.0.0.1", int(sys.argv[2]), configuration=configuration) as connection:
        reader, writer = await connection.create_stream()
        writer.write(b"there and back\\n")
        writer.write_eof()
        print((await reader.read()).decode(), flush=True)
asyncio.run(main())
"""


class Peer(NamedTuple):
    """One program in one role.  ``command``: with ``{port}``, ``{ca}``, ``{certificate}`` and ``{key}``."""

    name: str
    protocol: str
    role: str
    command: tuple[str, ...]
    version: tuple[str, ...]
    needs: str = ""
    """Python module that the command's interpreter must have."""


def peers(python: str) -> list[Peer]:
    """Return all peers of the table."""
    tls13 = "NORMAL:-VERS-ALL:+VERS-TLS1.3"
    openssl, gnutls = ("openssl", "version"), ("gnutls-cli", "--version")
    found = [
        Peer("OpenSSL", "tls13", "client", ("openssl", "s_client", "-quiet", "-tls1_3", "-verify_return_error",
             "-CAfile", "{ca}", "-servername", NAME, "-connect", "127.0.0.1:{port}"), openssl),
        Peer("OpenSSL", "tls13", "server", ("openssl", "s_server", "-quiet", "-tls1_3", "-rev", "-accept",
             "127.0.0.1:{port}", "-cert", "{certificate}", "-key", "{key}"), openssl),
        Peer("GnuTLS", "tls13", "client", ("gnutls-cli", "--x509cafile", "{ca}", "--sni-hostname", NAME,
             "--verify-hostname", NAME, "--priority", tls13, "-p", "{port}", "127.0.0.1"), gnutls),
        Peer("GnuTLS", "tls13", "server", ("gnutls-serv", "--echo", "--disable-client-cert", "--priority", tls13,
             "-p", "{port}", "--x509certfile", "{certificate}", "--x509keyfile", "{key}"), gnutls),
        Peer("ngtcp2", "quic", "client", ("gtlsclient", "-q", "--exit-on-first-stream-close", "--timeout=5s",
             "127.0.0.1", "{port}", f"https://{NAME}:{{port}}/"), ("gtlsclient", "--version")),
        Peer("qh3", "quic", "client", (python, "-c", QH3, "client", "{port}", "{ca}", "", ""),
             (python, "-c", "import qh3; print(qh3.__version__)"), "qh3"),
    ]  # fmt: skip
    for name, module in (("Python's ssl", "ssl"), ("rustls (rtls)", "rtls")):
        script = PYTHON_TLS.replace("{module}", module)
        version = (python, "-c", f"import {module} as tls; print(tls.OPENSSL_VERSION)")
        found += [
            Peer(name, "tls13", role, (python, "-c", script, role, "{port}", "{ca}", "{certificate}", "{key}"),
                 version, module) for role in ("client", "server")
        ]  # fmt: skip
    return found


def version_of(peer: Peer) -> str | None:
    """Return the peer's version; None: it is not here."""
    if shutil.which(peer.command[0]) is None:
        return None
    run = subprocess.run(peer.version, capture_output=True, text=True, check=False)
    if peer.needs and run.returncode:
        return None
    said = re.search(r"\d+\.\d+[\w.]*", run.stdout + run.stderr)
    return said.group() if said else "?"


@contextlib.contextmanager
def program(command: Sequence[str], output: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program with a pipe for input until the end of the block."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(output: Path, *words: bytes) -> bool:
    """Return True once the output has one of the words; False after :data:`PATIENCE`."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if any(word in output.read_bytes() for word in words):
            return True
        time.sleep(0.02)
    return False


def free_port(kind: int) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def meet(peer: Peer, folder: Path, places: dict[str, str], runtime: Path) -> bool:
    """Run one row; True if the line came back, or for ngtcp2, which speaks HTTP alone, if the handshake succeeded."""
    port = free_port(socket.SOCK_STREAM if peer.protocol == "tls13" else socket.SOCK_DGRAM)
    theirs = [word if "\n" in word else word.format(port=port, **places) for word in peer.command]
    ours = [sys.executable, "-m", "hsframework"]
    options = ["--protocol", peer.protocol, "--runtime-dir", str(runtime)]
    options += [] if peer.protocol == "tls13" else ["--alpn", "h3" if peer.name == "ngtcp2" else "echo"]
    if peer.role == "client":
        server = [
            *ours,
            "listen",
            str(port),
            "--echo",
            "--cert",
            places["certificate"],
            "--key",
            places["key"],
            *options,
        ]
        first, second, expected = server, theirs, LINE.strip()
    else:
        client = [*ours, "connect", "127.0.0.1", str(port), "--servername", NAME, "--ca", places["ca"], *options]
        first, second, expected = theirs, client, LINE.strip()[::-1] if "-rev" in theirs else LINE.strip()
    outputs = folder / "first", folder / "second"
    with outputs[0].open("wb") as one, outputs[1].open("wb") as other, program(first, one):
        if peer.role == "client" and not wait_for(outputs[0], b"listening"):
            return False
        if peer.role == "server" and not _listens(port):
            return False
        with program(second, other) as process:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(LINE)
                process.stdin.flush()
            if peer.name == "ngtcp2":
                return wait_for(outputs[0], b"session with")
            return wait_for(outputs[1], expected)


def _listens(port: int) -> bool:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        tables = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        if re.search(rf":{port:04X} [0-9A-F]+:0000 0A ", tables):
            return True
        time.sleep(0.02)
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="interpreter with rtls and qh3")
    options = parser.parse_args(arguments)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="hsframework-interop-") as name:
        folder = Path(name)
        files = Authority("Interop", key_type="rsa-2048").issue([NAME], key_type="rsa-2048").write(folder)
        places = {"ca": str(files.ca), "certificate": str(files.certificate), "key": str(files.private_key)}
        with running_service(groups=("tls13", "quic")) as service:
            print("| peer | version | protocol | its role | outcome |\n| --- | --- | --- | --- | --- |")
            for peer in peers(options.python):
                version, outcome = version_of(peer), "not here"
                if version is not None:
                    works = meet(peer, folder, places, service.runtime_dir)
                    failed += not works
                    outcome = "works" if works else "**fails**"
                print(f"| {peer.name} | {version or ''} | {peer.protocol} | {peer.role} | {outcome} |", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
