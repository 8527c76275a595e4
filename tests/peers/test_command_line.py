"""`hsframework connect` and `hsframework listen` as consumers, with OpenSSL at the other end."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from hsframework.interface import PresharedKey
from tests.support.meetings import SHA256, SHA384, TIMEOUT, Pki
from tests.support.peer_programs import Peer, Setup, start_client, start_server
from tests.support.processes import Program
from tests.support.service import Service, python_path

pytestmark = pytest.mark.peers


def hsframework(service: Service, *words: object) -> Program:
    fixed = ["--runtime-dir", str(service.runtime), "--timeout", str(TIMEOUT)]
    command = [sys.executable, "-m", "hsframework", str(words[0]), *fixed]
    return Program([*command, *map(str, words[1:])], env={"PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1"})


def facts(program: Program, *, ok: bool = True) -> dict[str, Any]:
    """Return the line of --json, which must report a success, or a failure."""
    found: dict[str, Any] = json.loads(program.wait_for(r'^\{"ok": .*\}$')[0])
    assert found["ok"] is ok, found
    return found


def psk_file(folder: Path, *keys: PresharedKey) -> Path:
    path = folder / "keys.psk"
    path.touch(mode=0o600)
    path.write_bytes(b"".join(b"%b:%b\n" % (key.identity, key.key.reveal().hex().encode()) for key in keys))
    return path


def talk(program: Program, peer: Peer) -> None:
    """Check both ways: standard input of one is standard output of the other."""
    program.send(b"from hsframework\n")
    assert peer.read(17) == b"from hsframework\n"
    peer.send(b"from openssl\n")
    assert program.read(13) == b"from openssl\n"


def test_connect(service: Service, pki: Pki, tmp_path: Path) -> None:
    """A server's name that is not its host's, facts as JSON, data, and the end: our input ends, the server answers."""
    peer = start_server("openssl", Setup(identity=pki.files("good"), alpn=("sunrpc",)), tmp_path)
    words = ["--ca", pki.ca, "--servername", "server.example", "--alpn", "sunrpc", "--json"]
    try:
        with hsframework(service, "connect", *words, "127.0.0.1", peer.port) as program:
            said = facts(program)
            assert (said["ok"], said["role"], said["alpn"], said["in_kernel"]) == (True, "client", "sunrpc", False)
            assert "server.example" in said["certificates"][0]["names"]
            talk(program, peer)
            program.close_input()
            assert program.wait() == 0, program.said()
            peer.saw_close_notify()
    finally:
        peer.end()


def test_connect_with_a_certificate(service: Service, pki: Pki, tmp_path: Path) -> None:
    """--cert and --key, to a server that demands them; new keys first."""
    peer = start_server("openssl", Setup(identity=pki.files("good"), trust=pki.ca), tmp_path)
    ours = pki.files("rsa-2048")
    words = ["--ca", pki.ca, "--servername", "server.example", "--cert", ours.certificate, "--key", ours.private_key]
    try:
        with hsframework(service, "connect", *words, "--key-update", "127.0.0.1", peer.port) as program:
            talk(program, peer)
            peer.saw(r"<<< .*, KeyUpdate")
            program.close_input()
            assert program.wait() == 0, program.said()
    finally:
        peer.end()


def test_connect_without_a_certificate(service: Service, pki: Pki, tmp_path: Path) -> None:
    """A server that demands one says so after the handshake: the options that give one are named."""
    peer = start_server("openssl", Setup(identity=pki.files("good"), trust=pki.ca), tmp_path)
    words = ["--ca", pki.ca, "--servername", "server.example"]
    try:
        with hsframework(service, "connect", *words, "127.0.0.1", peer.port) as program:
            assert program.wait() == 1
            assert "certificate_required" in program.said()
            assert "give ours with --cert FILE and --key FILE" in program.said()
    finally:
        peer.end()


@pytest.mark.parametrize("key", [SHA256, SHA384], ids=["sha256", "sha384"])
def test_connect_with_a_key(key: PresharedKey, service: Service, tmp_path: Path) -> None:
    """--psk-file with an NVMe name, whose hash is in it; neither key nor file is shown."""
    peer = start_server("openssl", Setup(psk=key), tmp_path)
    try:
        with hsframework(
            service, "connect", "--psk-file", psk_file(tmp_path, key), "--json", "127.0.0.1", peer.port
        ) as program:
            said = facts(program)
            assert said["psk_identity"] == key.identity.decode()
            assert said["tags"]["cipher"].lower().endswith(key.hash)
            talk(program, peer)
            program.close_input()
            assert program.wait() == 0
            assert key.key.reveal().hex() not in program.said()
    finally:
        peer.end()


def test_connect_refuses(service: Service, pki: Pki, tmp_path: Path) -> None:
    """A wrong name: status 1, the errno by name and as JSON, and the alert at the server."""
    peer = start_server("openssl", Setup(identity=pki.files("good")), tmp_path)
    words = ["--ca", pki.ca, "--servername", "other.example", "--json"]
    try:
        with hsframework(service, "connect", *words, "127.0.0.1", peer.port) as program:
            assert program.wait() == 1
            assert facts(program, ok=False)["error"] == "EKEYREJECTED"
            assert "expected 'other.example'" in program.said()
            assert peer.alert() == 42
    finally:
        peer.end()


def test_listen(service: Service, pki: Pki, tmp_path: Path) -> None:
    """--once with a certificate, and a client that shows one: facts, data both ways, the client's goodbye."""
    ours = pki.files("ecdsa-p384")
    words = ["--cert", ours.certificate, "--key", ours.private_key, "--ca", pki.ca, "--client-certificate", "require"]
    with hsframework(service, "listen", *words, "--once", "--json", "0") as program:
        port = int(program.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1])
        setup = Setup(trust=pki.ca, name="server.example", identity=pki.files("good"))
        peer = start_client("openssl", setup, tmp_path, port)
        try:
            said = facts(program)
            assert (said["role"], said["in_kernel"]) == ("server", False)
            assert "client.example" in said["certificates"][0]["names"]
            talk(program, peer)
            peer.saw("Verified peername: server.example")
            peer.close_input()
            assert program.wait() == 0, program.said()
        finally:
            peer.end()


@pytest.mark.parametrize("key", [SHA256, SHA384], ids=["sha256", "sha384"])
def test_listen_with_keys(key: PresharedKey, service: Service, tmp_path: Path) -> None:
    """--psk-file with two keys: the client names one."""
    words = ["--psk-file", psk_file(tmp_path, SHA256, SHA384), "--once", "--json"]
    with hsframework(service, "listen", *words, "0") as program:
        port = int(program.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1])
        peer = start_client("openssl", Setup(psk=key), tmp_path, port)
        try:
            assert facts(program)["psk_identity"] == key.identity.decode()
            talk(program, peer)
        finally:
            peer.end()


def test_listen_echo(service: Service, pki: Pki, tmp_path: Path) -> None:
    """--echo for several clients at once, one of which is refused and harms nobody; 1 MiB comes back."""
    ours = pki.files("good")
    with hsframework(
        service, "listen", "--cert", ours.certificate, "--key", ours.private_key, "--echo", "0"
    ) as program:
        port = int(program.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1])
        peers = []
        try:
            for name in ("server.example", "client.example"):
                peers.append(start_client("openssl", Setup(trust=pki.ca, name=name), tmp_path, port))
            peers.append(start_client("openssl", Setup(version="-tls1_2"), tmp_path, port))
            assert peers[2].alert() == 70
            program.wait_for(r"no session with .*\[EPROTONOSUPPORT\]")
            data = os.urandom(1024 * 1024)
            for peer in peers[:2]:
                peer.send_in_background(data)
                assert peer.read(len(data)) == data
        finally:
            for peer in peers:
                peer.end()
