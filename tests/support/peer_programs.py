"""OpenSSL's and GnuTLS's own programs as peers: what starts them, and how they say the same thing in two ways.

Data goes through their standard input and output, undisturbed: what they have to say besides goes to standard error
(OpenSSL) or to a log file (GnuTLS), and no letter of the input is a command unless a test wants that.
"""

from __future__ import annotations

import itertools
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hsframework.cli.demo.peers import psk_words
from hsframework.interface import PresharedKey
from hsframework.testing.certificates import CredentialFiles
from tests.support.processes import PATIENCE, Program, listening_port

Kind = Literal["openssl", "gnutls"]

_log_names = itertools.count(1)


class Peer(Program):
    """One of the four programs.  ``port`` is a server's.  ``log``: a file in which it says what it has to say too.

    ``echoes_itself``: what it receives it sends back, and nothing else; the others move their input and output.
    """

    def __init__(self, kind: Kind, command: Sequence[str | Path], log: Path | None) -> None:
        super().__init__(command)
        self.kind = kind
        self.echoes_itself = command[0] == "gnutls-serv"
        self.port = 0
        self._log = log

    def said(self) -> str:
        """Return its output, its errors and its log file."""
        return super().said() + (self._log.read_text(errors="replace") if self._log and self._log.exists() else "")

    def connect(self) -> socket.socket:
        """Connect to a server."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def saw(self, pattern: str) -> re.Match[str]:
        """Wait until it has said something that matches, wherever it says it.

        gnutls-cli writes its log when it ends: it is told to.
        """
        expression = re.compile(pattern, re.MULTILINE)
        if self.kind == "gnutls" and not self.echoes_itself:
            self.close_input()
            self.wait()
        while (found := expression.search(self.said())) is None and self.running:
            self.poll_until(lambda: not self.running or bool(expression.search(self.said())), repr(pattern))
        if found is None:
            self.wait()
            found = expression.search(self.said())
        assert found is not None, f"{pattern!r} is not in {self.said()}"
        return found

    def alert(self) -> int:
        """Wait for the fatal alert that it has received, and return it."""
        found = self.saw(_ALERT[self.kind])
        return int(found[found.lastindex or 0], 10 if self.kind == "gnutls" else 16)

    def saw_close_notify(self) -> None:
        """Wait until it has received close_notify."""
        self.saw(_CLOSE_NOTIFY[self.kind])


_ALERT = {
    "openssl": r"^<<< .*, Alert \[length 0002\], fatal .*\n +02 ([0-9a-f]{2})$",
    "gnutls": r"Alert\[2\|(\d+)\] - .* - was received|Received alert \[(\d+)\]",
}
_CLOSE_NOTIFY = {
    "openssl": r"^<<< .*, Alert \[length 0002\], warning close_notify",
    "gnutls": r"Alert\[1\|0\] - .* - was received|Peer has closed the GnuTLS connection",
}


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Instructions for a peer, in words that both implementations understand.

    ``trust``: PEM file of authorities; a server with it demands a certificate.  ``psk``: its own key.  ``priority``
    and ``version``: only these.  ``openssl`` and ``gnutls``: further options of the one and the other.
    ``name``: a client's, the name that it asks for and verifies.  ``commands``: words of the input are commands (K and
    k, ^rekey^).
    """

    identity: CredentialFiles | None = None
    trust: Path | None = None
    psk: PresharedKey | None = None
    name: str | None = None
    alpn: Sequence[str] = ()
    priority: str = "NORMAL:-VERS-ALL:+VERS-TLS1.3"
    version: str = "-tls1_3"
    openssl: Sequence[str | Path] = field(default=())
    gnutls: Sequence[str | Path] = field(default=())
    commands: bool = False


def start_server(kind: Kind, setup: Setup, folder: Path) -> Peer:
    """Start a server that listens when this returns."""
    log = folder / f"{kind}-{next(_log_names)}.log"
    words = _openssl_server(setup, folder, log) if kind == "openssl" else _gnutls_server(setup, folder)
    peer = Peer(kind, words, log if kind == "openssl" else None)
    try:
        peer.poll_until(lambda: listening_port(peer.pid) is not None, "listening")
        port = listening_port(peer.pid)
        assert port is not None
        peer.port = port
    except BaseException:
        peer.end()
        raise
    return peer


def start_client(kind: Kind, setup: Setup, folder: Path, port: int) -> Peer:
    """Start a client that connects to a port of this machine."""
    log = folder / f"{kind}-{next(_log_names)}.log"
    words = _openssl_client(setup, folder, log, port) if kind == "openssl" else _gnutls_client(setup, log, port)
    return Peer(kind, words, log)


def accepted(kind: Kind, setup: Setup, folder: Path) -> tuple[Peer, socket.socket]:
    """Start a client, and accept our end of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        peer = start_client(kind, setup, folder, listener.getsockname()[1])
        try:
            sock, _ = listener.accept()
        except BaseException:
            peer.end()
            raise
    return peer, sock


def _openssl_common(setup: Setup, folder: Path, log: Path) -> list[str | Path]:
    words: list[str | Path] = [setup.version, "-msg", "-msgfile", log]
    if setup.identity:
        files = setup.identity
        words += ["-cert", files.certificate, "-cert_chain", files.certificate, "-key", files.private_key]
    if setup.psk:
        words += psk_words(setup.psk, folder)
    if setup.alpn:
        words += ["-alpn", ",".join(setup.alpn)]
    return words


def _openssl_server(setup: Setup, folder: Path, log: Path) -> list[str | Path]:
    words: list[str | Path] = ["openssl", "s_server", "-accept", "127.0.0.1:0", *_openssl_common(setup, folder, log)]
    if not setup.commands:
        words.append("-quiet")
    if not setup.identity:
        words.append("-nocert")
    if setup.trust:
        words += ["-Verify", "4", "-verify_return_error", "-CAfile", setup.trust]
    return [*words, *setup.openssl]


def _openssl_client(setup: Setup, folder: Path, log: Path, port: int) -> list[str | Path]:
    words: list[str | Path] = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}"]
    words += _openssl_common(setup, folder, log)
    words += ["-brief"] if setup.commands else ["-brief", "-nocommands"]
    if setup.trust:
        words += ["-CAfile", setup.trust, "-verify_return_error"]
    if setup.name:
        words += ["-servername", setup.name, "-verify_hostname", setup.name]
    else:
        words += ["-noservername"]
    return [*words, *setup.openssl]


def _gnutls_common(setup: Setup) -> list[str | Path]:
    words: list[str | Path] = ["--priority", setup.priority]
    if setup.identity:
        words += ["--x509certfile", setup.identity.certificate, "--x509keyfile", setup.identity.private_key]
    if setup.trust:
        words += ["--x509cafile", setup.trust]
    for name in setup.alpn:
        words += ["--alpn", name]
    return words


def _gnutls_server(setup: Setup, folder: Path) -> list[str | Path]:
    words: list[str | Path] = ["gnutls-serv", "--echo", "--crlf", "-p", "0", "-d", "5", *_gnutls_common(setup)]
    if setup.alpn:
        words.append("--alpn-fatal")
    if setup.trust:
        words += ["--require-client-cert", "--verify-client-cert"]
    else:
        words.append("--disable-client-cert")
    if setup.psk:
        path = folder / "gnutls.psk"
        path.touch(mode=0o600)
        path.write_bytes(_gnutls_identity(setup.psk) + b":" + setup.psk.key.reveal().hex().encode() + b"\n")
        words += ["--pskpasswd", path]
    return [*words, *setup.gnutls]


def _gnutls_client(setup: Setup, log: Path, port: int) -> list[str | Path]:
    words: list[str | Path] = ["gnutls-cli", "--logfile", log, "-p", str(port), *_gnutls_common(setup)]
    if setup.commands:
        words.append("--inline-commands")
    if not setup.trust:
        words.append("--no-ca-verification")
    if setup.name:
        words += ["--sni-hostname", setup.name, "--verify-hostname", setup.name]
    else:
        words.append("--disable-sni")
    if setup.psk:
        words += ["--pskusername", setup.psk.identity.decode(), "--pskkey", setup.psk.key.reveal().hex()]
    return [*words, *setup.gnutls, "127.0.0.1"]


def _gnutls_identity(key: PresharedKey) -> bytes:
    """Write the identity of a key: in hexadecimal digits behind a ``#`` where the file format cannot hold it."""
    if re.fullmatch(rb"[\w.@-]+", key.identity):
        return key.identity
    return b"#" + key.identity.hex().encode()
