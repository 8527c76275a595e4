"""The scenarios of the demonstration: handshakes between the service and peer programs."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hsframework.cli.demo.meeting import Peers
from hsframework.cli.demo.peers import OpensslPeers, psk_words
from hsframework.cli.demo.psp_peers import PspPeers
from hsframework.cli.demo.quic_peers import AioquicPeers
from hsframework.client import HandshakeOptions
from hsframework.interface import CertificateDemand, PresharedKey, Role, Secret
from hsframework.testing.certificates import Authority, Credential, CredentialFiles

SERVER_NAME = "server.demo.example"
CLIENT_NAME = "client.demo.example"
ALPN = "sunrpc"
QUIC_ALPN = "demo"
TIMEOUT = 10.0
"""Seconds for one handshake."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One handshake.  ``peer_words``: arguments of the peer program.  ``expect``: 0, or the errno for the consumer."""

    title: str
    options: HandshakeOptions
    peer_words: Sequence[str]
    expect: int = 0
    peers: Peers = field(default_factory=OpensslPeers)

    @property
    def program(self) -> str:
        """Name of the peer program: a server if we are the client."""
        return self.peers.program(self.options.role)


class Credentials:
    """Throw-away certificates and keys, and the files of them for the peer programs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority("Demo Root")
        issuing = self.authority.intermediate("Demo Issuing")
        self.server = issuing.issue([SERVER_NAME])
        self.client = issuing.issue([CLIENT_NAME])
        self.stranger = Authority("Another Root").trust()
        self.keys = {
            name: PresharedKey(f"demo-{name}".encode(), Secret(os.urandom(size)), name)
            for name, size in (("sha256", 32), ("sha384", 48))
        }
        self.server_files = self.server.write(folder, "server")
        self.client_files = self.client.write(folder, "client")


def scenarios(credentials: Credentials, protocols: Collection[str], runtime: Path) -> list[Scenario]:
    """Return the scenarios of these protocols, in their order.  ``runtime``: the service's runtime directory."""
    found = [*_as_client(credentials), *_as_server(credentials), *_refused(credentials)]
    if "quic" in protocols:
        found += _quic(credentials)
    if "psp" in protocols:
        found += _psp(credentials, PspPeers(runtime))
    return found


def _as_client(credentials: Credentials) -> list[Scenario]:
    plain = HandshakeOptions(peer_name=SERVER_NAME, trust=credentials.authority.trust(), timeout=TIMEOUT)
    mutual = replace(plain, identities=(credentials.client.identity,))
    server = _identity_words(credentials.server_files)
    demand = ["-Verify", "2", "-verify_return_error", "-CAfile", str(credentials.client_files.ca)]
    return [
        Scenario("x509, we are anonymous", plain, server),
        Scenario("x509, both show certificates", mutual, [*server, *demand]),
        Scenario(f"x509, ALPN {ALPN}", replace(plain, alpn=(ALPN,)), [*server, "-alpn", ALPN]),
        *(
            Scenario(
                f"PSK, {name}",
                HandshakeOptions(psks=(key,), timeout=TIMEOUT),
                ["-nocert", *psk_words(key, credentials.folder)],
            )
            for name, key in credentials.keys.items()
        ),
    ]


def _as_server(credentials: Credentials) -> list[Scenario]:
    identity = _server(credentials.server)
    verify = [
        "-CAfile",
        str(credentials.server_files.ca),
        "-verify_return_error",
        "-verify_hostname",
        SERVER_NAME,
        "-servername",
        SERVER_NAME,
    ]
    mutual = replace(identity, trust=credentials.authority.trust(), client_certificate=CertificateDemand.REQUIRE)
    client = _identity_words(credentials.client_files)
    return [
        Scenario("x509, the peer is anonymous", identity, verify),
        Scenario("x509, both show certificates", mutual, [*verify, *client]),
        *(
            Scenario(
                f"PSK, {name}",
                HandshakeOptions(role=Role.SERVER, psks=(key,), timeout=TIMEOUT),
                psk_words(key, credentials.folder),
            )
            for name, key in credentials.keys.items()
        ),
    ]


def _refused(credentials: Credentials) -> list[Scenario]:
    server = _identity_words(credentials.server_files)
    trust = credentials.authority.trust()
    demanding = replace(_server(credentials.server), trust=trust, client_certificate=CertificateDemand.REQUIRE)
    known, other = credentials.keys["sha256"], PresharedKey(b"nobody", Secret(bytes(32)))
    return [
        Scenario(
            "refused: a peer of another name",
            HandshakeOptions(peer_name="other.demo.example", trust=trust, timeout=TIMEOUT),
            server,
            expect=errno.EKEYREJECTED,
        ),
        Scenario(
            "refused: an unknown authority",
            HandshakeOptions(peer_name=SERVER_NAME, trust=credentials.stranger, timeout=TIMEOUT),
            server,
            expect=errno.EKEYREJECTED,
        ),
        Scenario("refused: no client certificate", demanding, ["-servername", SERVER_NAME], expect=errno.EACCES),
        Scenario(
            "refused: an unknown PSK identity",
            HandshakeOptions(role=Role.SERVER, psks=(known,), timeout=TIMEOUT),
            psk_words(other, credentials.folder),
            expect=errno.ENOKEY,
        ),
        Scenario(
            "refused: nobody serves the group",
            HandshakeOptions(group="no-such-group", peer_name=SERVER_NAME, trust=trust, timeout=TIMEOUT),
            server,
            expect=errno.ESRCH,
        ),
    ]


def _quic(credentials: Credentials) -> list[Scenario]:
    trust = credentials.authority.trust()
    client = HandshakeOptions(peer_name=SERVER_NAME, trust=trust, group="quic", alpn=(QUIC_ALPN,), timeout=TIMEOUT)
    server = replace(_server(credentials.server), group="quic", alpn=(QUIC_ALPN,))
    mutual = replace(server, trust=trust, client_certificate=CertificateDemand.REQUIRE)
    serving = _file_words(credentials.server_files)
    visiting = ["--ca", str(credentials.server_files.ca), "--name", SERVER_NAME]
    stranger = replace(client, trust=credentials.stranger)
    found = [
        ("QUIC, we are anonymous", client, serving, 0),
        ("QUIC, with Retry", client, [*serving, "--retry"], 0),
        ("QUIC, the peer is anonymous", server, visiting, 0),
        ("QUIC, both show certificates", mutual, [*visiting, *_file_words(credentials.client_files)], 0),
        ("refused: QUIC, unknown authority", stranger, serving, errno.EKEYREJECTED),
        ("refused: QUIC, no certificate", mutual, visiting, errno.EACCES),
    ]
    return [Scenario(title, options, words, expect, AioquicPeers()) for title, options, words, expect in found]


def _psp(credentials: Credentials, ours: PspPeers) -> list[Scenario]:
    trust = credentials.authority.trust()
    server = replace(_server(credentials.server), group="psp", trust=trust, attributes={"device": "software"})
    client = replace(server, role=Role.CLIENT, identities=(credentials.client.identity,), peer_name=SERVER_NAME)
    anchor = ["--ca", str(credentials.server_files.ca)]
    listening = [*_file_words(credentials.server_files), *anchor]
    connecting = [*_file_words(credentials.client_files), *anchor, "--servername", SERVER_NAME]
    key = credentials.keys["sha384"]
    file = credentials.folder / "psp.psk"
    file.touch(mode=0o600)
    file.write_bytes(b"%b:%b:sha384\n" % (key.identity, key.key.reveal().hex().encode()))
    keyed = replace(client, identities=(), trust=None, peer_name=None, psks=(key,))
    return [
        Scenario("PSP, both show certificates", client, listening, peers=ours),
        Scenario("PSP, both show certificates", server, connecting, peers=ours),
        Scenario("PSP, PSK, sha384", keyed, ["--psk-file", str(file)], peers=ours),
        Scenario(
            "refused: the peer has no PSP", client, _identity_words(credentials.server_files), errno.EPROTONOSUPPORT
        ),
    ]


def _file_words(files: CredentialFiles) -> list[str]:
    return ["--cert", str(files.certificate), "--key", str(files.private_key)]


def _server(credential: Credential) -> HandshakeOptions:
    return HandshakeOptions(role=Role.SERVER, identities=(credential.identity,), timeout=TIMEOUT)


def _identity_words(files: CredentialFiles) -> list[str]:
    return ["-cert", str(files.certificate), "-cert_chain", str(files.certificate), "-key", str(files.private_key)]
