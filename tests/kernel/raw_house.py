"""For tests of the raw form through our own processes: a configuration, toys beside TLS, and their peers."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from hsframework.dispatcher.namespaces import network_namespace
from hsframework.testing.certificates import Credential
from tests.kernel import uml
from tests.kernel.house import ROOT
from tests.support.running import Running

QUIC, PSP = "toyquic", "toypsp"
RAW = f"[kernel.raw]\nenabled = true\nprotocols = {{tlshd = 1, {QUIC} = 2, {PSP} = 3, further = 4}}\n"
"""With the toys in place of the two plugins."""
SOURCE = "kernel-raw"
TOY = Path(__file__).with_name("toy_plugin.py").read_text()
SERVER, CLIENT = ROOT.issue(["server.test"]), ROOT.issue(["client.test"])
Pair = tuple[socket.socket, socket.socket]


def await_joined(process: Running, group: str = "tlshd", source: str = SOURCE, since: int = 0) -> None:
    """Wait until requests of the group are taken."""
    process.log.wait("joined the kernel's group", group=group, source=source, since=since)


def peer_context(folder: Path, *, server: bool) -> ssl.SSLContext:
    """Return the TLS context for :func:`tls_peer`, made from files in the folder."""
    files = (SERVER if server else CLIENT).write(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(files.ca)
    context.load_cert_chain(files.certificate, files.private_key)
    if server:
        context.num_tickets = 0
    return context


def tls_peer(sock: socket.socket, context: ssl.SSLContext) -> str:
    """Run OpenSSL at the other end, a handshake and a line each way, and return its cipher suite."""
    sock.settimeout(20)
    server = context.protocol == ssl.PROTOCOL_TLS_SERVER
    with context.wrap_socket(sock.dup(), server_side=server) as session:
        session.sendall(b"from OpenSSL")
        assert session.recv(100) == b"from the consumer"
        cipher = session.cipher()
        assert cipher is not None
        return cipher[0]


def talk(sock: socket.socket) -> None:
    """Carry out the consumer's side, in plain text as it sees it."""
    sock.settimeout(20)
    assert sock.recv(100) == b"from OpenSSL"
    sock.sendall(b"from the consumer")


def toy_peer(sock: socket.socket, name: str) -> bytes:
    """Play the other end of a toy's handshake, and return what the agent sent."""
    sock.settimeout(20)
    said = sock.recv(100)
    sock.send(f"{name} SERVER\n".encode())
    return said


def agent_files(folder: Path, credential: Credential) -> None:
    """Write the files of the published agent and its peers: a server's certificate and key, and whom to trust."""
    (folder / "ca.pem").write_bytes(ROOT.write(folder).read_bytes())
    (folder / "certificate.pem").write_bytes(credential.certificate_pem)
    (folder / "key.pem").write_bytes(credential.private_key_pem)


@contextlib.contextmanager
def published_agent(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run :mod:`tests.kernel.raw_published` in the caller's network namespace, once it has joined its group."""
    command = [sys.executable, "-m", "tests.kernel.raw_published", str(folder)]
    with subprocess.Popen(command, cwd=uml.CHECKOUT, stdout=subprocess.PIPE, text=True) as made:
        assert made.stdout is not None
        try:
            assert made.stdout.readline() == "joined\n"
            yield made
        finally:
            made.kill()


@contextlib.contextmanager
def dialect(number: int, namespace: str | None = None) -> Iterator[None]:
    """Set the dialect of a network namespace, and put the old one back: 0 is ours, 1 the published one."""
    before = set_dialect(number, namespace)
    try:
        yield
    finally:
        set_dialect(before, namespace)


def set_dialect(number: int, namespace: str | None = None) -> int:
    """Set the dialect of a network namespace; return the one before."""
    with contextlib.nullcontext() if namespace is None else network_namespace(namespace):
        setting = Path("/proc/sys/net/hsframework_handshake/dialect")
        before = int(setting.read_text())
        setting.write_text(str(number))
        return before
