"""PSP in the demonstration, where hsframework-psp is installed: key exchanges with another consumer's process.

Nobody else speaks this key exchange, so the peer is ``hsframework connect`` or ``listen``, through the same service;
but for the one that must be refused, which is OpenSSL's.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hsframework.client import HandshakeOptions
from hsframework.demo.peers import OUR_CLIENT, OUR_SERVER
from hsframework.demo.scenarios import SERVER_NAME, TIMEOUT, Credentials, Scenario, identity_words
from hsframework.interface import Role
from hsframework.testing.certificates import CredentialFiles

GROUP = "psp"


def scenarios(credentials: Credentials, runtime: Path) -> list[Scenario]:
    """In the order in which they are run.  ``runtime``: where the service is."""
    device = {"device": "software"}
    server = HandshakeOptions(
        group=GROUP,
        role=Role.SERVER,
        identities=(credentials.server.identity,),
        trust=credentials.authority.trust(),
        attributes=device,
        timeout=TIMEOUT,
    )
    client = replace(server, role=Role.CLIENT, identities=(credentials.client.identity,), peer_name=SERVER_NAME)
    key = credentials.keys["sha384"]
    keys = HandshakeOptions(group=GROUP, psks=(key,), attributes=device, timeout=TIMEOUT)
    listening = _words(runtime, credentials.server_files)
    connecting = [*_words(runtime, credentials.client_files), "--servername", SERVER_NAME]
    return [
        Scenario("PSP, x509, both show certificates", client, listening, peer=OUR_SERVER),
        Scenario("PSP, x509, both show certificates", server, connecting, peer=OUR_CLIENT),
        Scenario("PSP, PSK, sha384", keys, [*_common(runtime), *_key_words(credentials)], peer=OUR_SERVER),
        Scenario(
            "refused: the peer has no PSP", client, identity_words(credentials.server_files), errno.EPROTONOSUPPORT
        ),
    ]


def _common(runtime: Path) -> list[str]:
    return ["--runtime-dir", str(runtime), "--protocol", GROUP, "--quiet"]


def _words(runtime: Path, files: CredentialFiles) -> list[str]:
    identity = ["--cert", str(files.certificate), "--key", str(files.private_key), "--ca", str(files.ca)]
    return [*_common(runtime), *identity]


def _key_words(credentials: Credentials) -> Sequence[str]:
    key = credentials.keys["sha384"]
    path = credentials.folder / "psp.psk"
    path.touch(mode=0o600)
    path.write_bytes(b"%b:%b:sha384\n" % (key.identity, key.key.reveal().hex().encode()))
    return ["--psk-file", str(path)]
