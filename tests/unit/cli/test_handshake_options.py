"""Options that ``connect`` and ``listen`` share, and the handshake that they ask for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hsframework.cli.commands.connect import client_options
from hsframework.cli.commands.listen import server_options
from hsframework.cli.main import build_parser
from hsframework.client import HandshakeOptions
from hsframework.interface import Role
from hsframework.testing.certificates import self_signed

WITHOUT_AN_OPTION = {"auth_mode", "urgency"}
"""Fields for programs alone: the first follows from the credentials, the second is of no use to a single request."""


def changed(options: HandshakeOptions) -> set[str]:
    """Return the fields that differ from the default."""
    plain = HandshakeOptions()
    return {
        field.name for field in dataclasses.fields(plain) if getattr(options, field.name) != getattr(plain, field.name)
    }


def test_every_field_has_an_option(tmp_path: Path) -> None:
    """A new field of HandshakeOptions gets an option of both commands, or a place in the list above."""
    files = self_signed(["server.example"]).write(tmp_path)
    keys = tmp_path / "keys.psk"
    keys.touch(0o600)
    keys.write_text(f"me:{bytes(range(32)).hex()}\n")
    own = ["--protocol", "psp", "--profile", "web", "--ca", str(files.certificate), "--alpn", "h2", "--timeout", "2"]
    own += ["--tls-priorities", "SECURE192", "--attribute", "device=software"]
    proof = ["--cert", str(files.certificate), "--key", str(files.private_key)]
    connecting = ["connect", *own, *proof, "--psk-file", str(keys), "--any-name", "server.example", "4433"]
    client = client_options(build_parser("connect").parse_args(connecting))
    listening = ["listen", *own, *proof, "--client-certificate", "require", "4433"]
    server = server_options(build_parser("listen").parse_args(listening))
    fields = {field.name for field in dataclasses.fields(HandshakeOptions)} - WITHOUT_AN_OPTION
    assert changed(client) == fields - {"role", "client_certificate"}
    assert changed(server) == fields - {"peer_name", "any_peer_name", "psks"}
    assert (client.role, server.role) == (Role.CLIENT, Role.SERVER)
