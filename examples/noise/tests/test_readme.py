"""The examples of the README, run as they stand there."""

from __future__ import annotations

import contextlib
import io
import os
import pwd
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hsframework.testing.service import RunningService, running_service

from bare_noise import BarePeer
from keys import OURS, THEIRS, write_key

README = Path(__file__).parent.parent / "README.md"


def test_client(service: RunningService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python program, against a server that is not ours."""
    program = re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)[0]
    (tmp_path / "client.key").write_bytes(OURS.private)
    (tmp_path / "server.pub").write_bytes(THEIRS.public)
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as sock:
                peer = BarePeer(sock, "Noise_IK_25519_ChaChaPoly_BLAKE2s", initiator=False, static=THEIRS.private)
                peer.handshake()
                peer.send(peer.receive().upper())

        server = threading.Thread(target=serve)
        server.start()
        program = program.replace('"server.example", 4433', f'"127.0.0.1", {listener.getsockname()[1]}')
        program = program.replace("Client()", f"Client({str(service.runtime_dir)!r})")
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(program, str(README), "exec"), {})
        server.join(30)
    assert output.getvalue() == f"Noise_IK_25519_ChaChaPoly_BLAKE2s {THEIRS.public.hex()}\nb'HELLO'\n"


def test_commands(service: RunningService, tmp_path: Path) -> None:
    """`hsframework listen` and `hsframework connect` as the README has them, with keys as it makes them."""
    blocks = re.findall(r"^\$ ((?:.*\\\n)*.*)$", README.read_text("utf-8"), re.MULTILINE)
    listen, connect = (
        next(block for block in blocks if f"hsframework {word} " in block).replace("\\\n", " ").split()
        for word in ("listen", "connect")
    )
    for block in blocks:
        if "server.der" in block:
            for name in ("server", "client"):
                subprocess.run(["bash", "-c", block.replace("server", name)], cwd=tmp_path, check=True)
    with subprocess.Popen(
        _command(listen, service, port="0"), cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        port = server.stderr.readline().rpartition(":")[2].strip()
        client = subprocess.run(
            _command(connect[connect.index("hsframework") :], service, port=port),
            cwd=tmp_path,
            input="hello\n",
            capture_output=True,
            text=True,
            check=False,
        )
        server.terminate()
        server.stderr.read()
    assert (client.returncode, client.stdout) == (0, "hello\n"), client.stderr
    assert f"key {(tmp_path / 'server.pub').read_bytes().hex()}" in client.stderr


def test_configuration(tmp_path: Path) -> None:
    """The service starts with it, once the key is there."""
    text = re.findall(r"^```toml\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)[0]
    text = text.replace("/etc/hsframework/noise.key", str(tmp_path / "noise.key"))
    text = text.replace("www-data", pwd.getpwuid(os.getuid()).pw_name)
    with pytest.raises(AssertionError, match=r"plugins\.noise\.keys\.vpn: cannot read"), start(text):
        pass
    write_key(tmp_path / "noise.key", OURS)
    with start(text):
        pass


def start(configuration: str) -> contextlib.AbstractContextManager[RunningService]:
    return running_service(groups=("noise",), configuration=configuration)


def _command(words: list[str], service: RunningService, *, port: str) -> list[str]:
    words = [port if word == "4433" else "127.0.0.1" if word == "localhost" else word for word in words[1:]]
    return [sys.executable, "-m", "hsframework", *words, "--runtime-dir", str(service.runtime_dir)]
