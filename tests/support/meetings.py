"""Meetings with a peer: credentials for both sides, and a peer with our end of a connection to it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hsframework.client import HandshakeOptions
from hsframework.interface import PresharedKey, Role, Secret
from hsframework.testing.certificates import CLIENT, SERVER, Authority, Credential, CredentialFiles, self_signed
from tests.support import toy_plugin
from tests.support.doors import Talk
from tests.support.peer_programs import Kind, Peer, Setup, accepted, start_server
from tests.support.processes import PATIENCE

TIMEOUT = 20.0
"""Seconds for a handshake that is to succeed."""

NVME = "nqn.2014-08.org.nvmexpress:uuid:0f01fb42-9f7f-4856-b0b3-51e60b8de349 nqn.2024-01.example:subsystem 1"
SHA256 = PresharedKey(f"NVMe1R01 {NVME}".encode(), Secret(bytes(range(32))), "sha256")
SHA384 = PresharedKey(f"NVMe1R02 {NVME}".encode(), Secret(bytes(range(100, 148))), "sha384")
GNUTLS_PSK = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK:+DHE-PSK:+PSK"


class Pki:
    """Credentials.  Everything is made when it is first asked for, and once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[int, CredentialFiles] = {}
        self._leaves: dict[str, Credential] = {}
        self.root = Authority("Example Root")
        self.issuing = self.root.intermediate("Example Issuing")
        self.retired = self.root.intermediate("Retired Issuing")
        self.stranger = Authority("Another Root")
        self.ca = self.root.write(folder, "root")
        self.strange_ca = self.stranger.write(folder, "stranger")
        self.trust = self.root.trust()

    def leaf(self, what: str) -> Credential:
        """Return a certificate with a property, all for ``server.example`` or ``client.example`` and 127.0.0.1."""
        if what not in self._leaves:
            self._leaves[what] = self._make(what)
        return self._leaves[what]

    def _make(self, what: str) -> Credential:
        names = ["server.example", "client.example", "127.0.0.1"]
        now = datetime.now(UTC)
        match what:
            case "expired":
                return self.issuing.issue(names, not_after=now - timedelta(days=1))
            case "not yet valid":
                return self.issuing.issue(names, not_before=now + timedelta(days=1), not_after=now + timedelta(days=9))
            case "for clients":
                return self.issuing.issue(names, usages=(CLIENT,))
            case "for servers":
                return self.issuing.issue(names, usages=(SERVER,))
            case "spoilt":
                return self.issuing.issue(names, spoil_signature=True)
            case "below retired":
                return self.retired.issue(names)
            case "self-signed":
                return self_signed(names)
            case "a stranger's":
                return self.stranger.issue(names)
            case "unwelcome":
                return self.issuing.issue([toy_plugin.UNWELCOME, *names])
            case "good":
                return self.issuing.issue(names)
        return self.issuing.issue(names, what)

    def files(self, credential: Credential | str) -> CredentialFiles:
        """Return the files of a certificate."""
        if isinstance(credential, str):
            credential = self.leaf(credential)
        key = id(credential)
        if key not in self._files:
            self._leaves.setdefault(f"kept {key}", credential)
            self._files[key] = credential.write(self._folder, f"identity-{len(self._files)}")
        return self._files[key]

    def client(self, **changes: object) -> HandshakeOptions:
        """Return options of an anonymous client that trusts the root and wants server.example."""
        values = {"peer_name": "server.example", "trust": self.trust, "timeout": TIMEOUT, **changes}
        return HandshakeOptions(**values)  # type: ignore[arg-type]

    def server(self, **changes: object) -> HandshakeOptions:
        """Return options of a server with a good certificate that asks its client for none."""
        values = {"role": Role.SERVER, "timeout": TIMEOUT, **changes}
        if "psks" not in values:
            values.setdefault("identities", (self.leaf("good").identity,))
        return HandshakeOptions(**values)  # type: ignore[arg-type]


@contextlib.contextmanager
def meeting(role: Role, kind: Kind, setup: Setup, folder: Path) -> Iterator[tuple[Peer, socket.socket]]:
    """Run a peer, with our end of a connection to it; both are gone afterwards.  ``role`` is ours."""
    if role is Role.CLIENT:
        peer = start_server(kind, setup, folder)
        try:
            with peer.connect() as sock:
                yield peer, sock
        finally:
            peer.end()
    else:
        peer, sock = accepted(kind, setup, folder)
        try:
            with sock:
                sock.settimeout(PATIENCE)
                yield peer, sock
        finally:
            peer.end()


def chat(talk: Talk, peer: Peer) -> None:
    """Send a line to the peer and receive one back."""
    talk.send(b"to the peer\n")
    if peer.echoes_itself:
        assert talk.receive_exactly(12) == b"to the peer\n"
        return
    assert peer.read(12) == b"to the peer\n"
    peer.send(b"from the peer\n")
    assert talk.receive_exactly(14) == b"from the peer\n"
