"""The programs for the suites of others: what a test's arguments mean, and a whole conversation with the shim."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from benchmarks.bogo_shim import UNIMPLEMENTED, Shim, Unimplemented, parse_flags
from benchmarks.tlsfuzzer_server import SCRIPTS
from hsframework.interface import Role
from hsframework.testing.certificates import Authority
from hsframework_tls13 import driver
from hsframework_tls13.recordlayer import RecordLayer
from tests.unit.tls13.engines import client_engine
from tests.unit.tls13.support import believe


def test_flags() -> None:
    """Flags are read with their values; a flag or value of something else is not implemented."""
    flags = parse_flags(["-port", "9", "-shim-id", "7", "-server", "-curves", "29", "-advertise-alpn", "\3foo\3bar"])
    assert (flags.port, flags.shim_id, flags.server, flags.groups) == (9, 7, True, ["X25519"])
    assert flags.alpn == ("foo", "bar")
    for unknown in (["-dtls"], ["-max-version", "771"], ["-curves", "9999"], ["-verify-prefs", "1"]):
        with pytest.raises(Unimplemented):
            parse_flags(unknown)


def test_each_script_once() -> None:
    """No script counts twice."""
    names = [script.name for script in SCRIPTS]
    assert len(set(names)) == len(names)


def test_a_conversation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shim connects, says which test it is, runs the handshake as a server, and sends data back inverted."""
    monkeypatch.setattr(driver, "judge_for", driver.__dict__["judge_for"])  # the shim puts its own there
    files = Authority("Suites").issue(["server.example"]).write(tmp_path)

    async def scene() -> tuple[int, str]:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            words = ["-port", str(listening.getsockname()[1]), "-shim-id", "5", "-server"]
            words += ["-cert-file", str(files.certificate), "-key-file", str(files.private_key)]
            running = asyncio.create_task(Shim().run(words))
            await asyncio.to_thread(play_the_runner, listening)
            return await running

    assert asyncio.run(scene()) == (0, "")
    assert asyncio.run(Shim().run(["-quic"]))[0] == UNIMPLEMENTED


def play_the_runner(listening: socket.socket) -> None:
    """Play the suite's client for one test."""
    sock, _ = listening.accept()
    with sock, sock.makefile("rb") as stream:
        assert stream.read(8) == (5).to_bytes(8, "little")
        client = client_engine(verify=believe)
        while True:
            sock.sendall(client.data_to_send())
            if client.finished:
                break
            header = stream.read(5)
            client.feed(header + stream.read(int.from_bytes(header[3:], "big")))
        session = client.established
        layer = RecordLayer(Role.CLIENT, session.suite, session.client_secret, session.server_secret)
        sock.sendall(layer.encrypt(b"abc") + layer.close())
        assert layer.decrypt(stream.read()) == bytes(byte ^ 0xFF for byte in b"abc")
