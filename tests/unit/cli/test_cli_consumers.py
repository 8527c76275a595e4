"""``connect`` and ``listen`` as processes: a plugin whose sessions are plain text, a dispatcher that plays along."""

from __future__ import annotations

import contextlib
import errno
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hsframework.cli.commands.listen import NO_GROUP
from hsframework.interface import AuthMode, Role, Secret
from hsframework.netlink.attributes import attribute_codec
from hsframework.testing.certificates import CredentialFiles, self_signed
from tests.support.running import running, write_configuration
from tests.unit.cli.conftest import SESSION, Command
from tests.unit.cli.tiny_plugin import SPECIFICATION
from tests.unit.client.fake_dispatcher import FakeDispatcher

pytestmark = pytest.mark.usefixtures("tiny")
LEAF = self_signed(["peer.example"])


@contextlib.contextmanager
def reversing_server() -> Iterator[int]:
    """Run a server that reads one connection to its end, sends it back reversed, and closes; yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection, connection.makefile("rb") as reader:
                    connection.sendall(reader.read()[::-1])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


@contextlib.contextmanager
def listening(command: Command, *words: object) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run ``hsframework listen``, and yield it once it listens, with its port."""
    process = command.start("listen", 0, *words)
    try:
        assert process.stderr is not None
        found = re.fullmatch(rb"hsframework: listening on 127\.0\.0\.1:(\d+)\n", process.stderr.readline())
        assert found is not None
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate()


def exchange(port: int, data: bytes) -> bytes:
    """Send, half-close, and read to the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock, sock.makefile("rb") as reader:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return reader.read()


def test_connect_pumps_both_ways(command: Command, dispatcher: FakeDispatcher) -> None:
    """Input reaches the server whole, the end of input half-closes, the answer reaches output, the end is status 0."""
    data = bytes(range(256)) * 4096
    with reversing_server() as port:
        words = ("connect", "127.0.0.1", port, "--protocol", "tiny", "--runtime-dir", dispatcher.directory)
        status, output, messages = command.run(*words, given=data)
    assert (status, output) == (0, data[::-1])
    assert messages.startswith(f"hsframework: session with 127.0.0.1:{port} (anonymous): tiny, in user space")


@pytest.mark.parametrize(
    ("closed", "status", "said"),
    [
        ("<&-", 0, "session with"),
        (">&-", 1, "hsframework: output: Bad file descriptor"),
        (">/dev/full", 1, "hsframework: output: No space left on device"),
        ("2>&-", 0, ""),
    ],
)
def test_connect_with_a_stream_closed(
    command: Command, dispatcher: FakeDispatcher, tmp_path: Path, closed: str, status: int, said: str
) -> None:
    """No socket takes its place: input is at its end, output fails, and messages do not get among the data."""
    output, messages = tmp_path / "output", tmp_path / "messages"
    with reversing_server() as port:
        words = f"connect 127.0.0.1 {port} --protocol tiny --runtime-dir {dispatcher.directory}"
        shell = f"{sys.executable} -m hsframework {words} >{output} 2>{messages} {closed}"
        done = subprocess.run(
            ["bash", "-c", shell], cwd=command.plugins, env=command.environment(), input=b"abc", timeout=60, check=False
        )
    assert done.returncode == status
    assert said in messages.read_text()
    assert "Traceback" not in messages.read_text()
    if status == 0:
        assert output.read_bytes() == (b"" if closed == "<&-" else b"cba")


def test_connect_submits_what_the_options_say(
    command: Command, dispatcher: FakeDispatcher, files: CredentialFiles
) -> None:
    """Name, identity, trust, ALPN, TLS policy, profile and timeout are in the request."""
    with reversing_server() as port:
        status, _, messages = command.run(
            "connect", "localhost", port, "--protocol", "tiny", "--runtime-dir", dispatcher.directory, "--ca", files.ca,
            "--cert", files.certificate, "--key", files.private_key, "--alpn", "a,b", "--timeout", "2.5",
            "--profile", "p", "--servername", "server.example", "--tls-priorities", "SECURE192", "--quiet",
        )  # fmt: skip
    assert (status, messages) == (0, "")
    values = dispatcher.seen.get(timeout=10).message.values
    assert values["peername"] == "server.example"
    assert (values["group"], values["profile"], values["alpn"], values["timeout"]) == ("tiny", "p", ["a", "b"], 2500)
    assert (values["message-type"], values["auth-mode"]) == (Role.CLIENT, AuthMode.X509)
    assert values["tls-priorities"] == ["SECURE192"]
    assert len(values["identity"][0]["certificate"]) == len(values["trust-anchor"]) == 1


def test_connect_with_psks(command: Command, dispatcher: FakeDispatcher) -> None:
    """A key from the command line, its hash behind it, with a warning."""
    with reversing_server() as port:
        status, _, messages = command.run(
            "connect", "localhost", port, "--protocol", "tiny", "--runtime-dir", dispatcher.directory,
            "--psk", "a:b:" + "ab" * 48 + ":sha384",
        )  # fmt: skip
    assert status == 0
    assert "abab" not in messages
    values = dispatcher.seen.get(timeout=10).message.values
    assert values["psk"] == [{"identity": b"a:b", "key": Secret(b"\xab" * 48), "hash": "sha384"}]
    assert values["auth-mode"] == AuthMode.PSK


def test_attributes(command: Command, dispatcher: FakeDispatcher, tmp_path: Path) -> None:
    """Each type of attribute, typed by the plugin's specification; a key in the command line is warned about."""
    key = tmp_path / "key"
    key.write_bytes(b"from a file")
    words = ("--attribute", "word=a=b", "--attribute", "number=0x10", "--attribute", "open", "--attribute", "peer=00ff",
             "--attribute", f"peer=@{key}")  # fmt: skip
    for way, warned in ((f"key=@{key}", False), ("key=abcd", True)):
        with reversing_server() as port:
            status, _, messages = command.run(
                "connect", "localhost", port, "--protocol", "tiny", "--runtime-dir", dispatcher.directory,
                *words, "--attribute", way,
            )  # fmt: skip
        assert status == 0, messages
        assert ("can see key" in messages) is warned
        assert "abcd" not in messages
        encoded = dispatcher.seen.get(timeout=10).message.values["attributes"]
        assert attribute_codec(SPECIFICATION, "request").decode(encoded) == {
            "word": "a=b", "number": 16, "open": True, "peer": [b"\x00\xff", b"from a file"],
            "key": Secret(b"\xab\xcd" if warned else b"from a file"),
        }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none=1"], "--attribute none: tiny knows word, number, open, peer, key, inner"),
        (["word"], "give a value: word="),
        (["word=a", "word=b"], "give it once"),
        (["number=ten"], "'ten' is not a whole number"),
        (["open=1"], "it is a flag"),
        (["peer=xyz"], "'xyz' is not hexadecimal"),
        (["key=secret!"], "the value is not hexadecimal"),
        (["peer=@/no/such/file"], "cannot read /no/such/file"),
        (["inner=1"], "cannot be given on the command line"),
    ],
)
def test_wrong_attributes(command: Command, words: list[str], message: str) -> None:
    """Status 2 before anything is connected, and what to change; no part of a key."""
    options = [part for word in words for part in ("--attribute", word)]
    status, _, messages = command.run("connect", "localhost", 1, "--protocol", "tiny", *options)
    assert status == 2
    assert message in messages
    assert "secret!" not in messages


def test_connect_json(command: Command, dispatcher: FakeDispatcher) -> None:
    """The facts as JSON, with the peer's certificate explained; no secret among them."""
    facts: dict[str, Any] = {
        **SESSION, "alpn": "h2", "remote-certificate": [LEAF.certificate, b"junk"],
        "tag": [{"name": "cipher", "value": "PLAIN"}],
    }  # fmt: skip
    dispatcher.on_submit = lambda submission: submission.result(facts)
    with reversing_server() as port:
        words = ("connect", "127.0.0.1", port, "--protocol", "tiny", "--runtime-dir", dispatcher.directory, "--json")
        status, _, messages = command.run(*words)
    assert status == 0
    told = json.loads(messages)
    assert told.pop("milliseconds") >= 0
    certificate, junk = told.pop("certificates")
    assert (certificate["subject"], certificate["names"]) == ("CN=peer.example", ["peer.example"])
    assert "unreadable" in junk
    assert told == {
        "ok": True, "peer_address": f"127.0.0.1:{port}", "protocol": "tiny", "role": "client", "in_kernel": False,
        "alpn": "h2", "tags": {"cipher": "PLAIN"}, "psk_identity": None, "public_key": None,
    }  # fmt: skip


@pytest.mark.parametrize("json_wanted", [False, True])
def test_connect_fails(command: Command, dispatcher: FakeDispatcher, json_wanted: bool) -> None:
    """Status 1, the dispatcher's words, the errno, and that no trust was named."""
    failure = {"status": errno.EKEYREJECTED, "message": "the chain leads nowhere"}
    dispatcher.on_submit = lambda submission: submission.result(failure)
    with reversing_server() as port:
        words = ["connect", "127.0.0.1", port, "--protocol", "tiny", "--runtime-dir", dispatcher.directory]
        status, output, messages = command.run(*words, *(["--json"] if json_wanted else []))
    lines = messages.splitlines()
    if json_wanted:
        assert json.loads(lines.pop(0)) == {
            "ok": False, "peer_address": f"127.0.0.1:{port}", "errno": errno.EKEYREJECTED, "error": "EKEYREJECTED",
            "message": "the chain leads nowhere",
        }  # fmt: skip
    assert (status, output) == (1, b"")
    assert lines[0] == f"hsframework: no session with 127.0.0.1:{port}: the chain leads nowhere [EKEYREJECTED]"
    assert "--ca FILE" in lines[1]


def test_connect_refused(command: Command, dispatcher: FakeDispatcher) -> None:
    """A group that nobody serves: status 1 and what to start."""
    dispatcher.on_submit = lambda submission: submission.refuse(errno.ESRCH)
    with reversing_server() as port:
        words = ("connect", "127.0.0.1", port, "--protocol", "tiny", "--runtime-dir", dispatcher.directory)
        status, _, messages = command.run(*words)
    assert status == 1
    assert "no agent serves the group 'tiny'" in messages
    assert messages.endswith("[ESRCH]\n")


def test_connect_key_update_of_a_protocol_without(command: Command, dispatcher: FakeDispatcher) -> None:
    """A feature that the protocol has not is reported, not passed over."""
    with reversing_server() as port:
        words = ("connect", "127.0.0.1", port, "--protocol", "tiny", "--runtime-dir", dispatcher.directory)
        status, _, messages = command.run(*words, "--key-update", "--quiet")
    assert status == 1
    assert "leave --key-update out" in messages


def test_connect_without_the_plugin(command: Command, dispatcher: FakeDispatcher) -> None:
    """A session of a protocol whose plugin is not installed here: which package to install."""
    dispatcher.on_submit = lambda submission: submission.result({**SESSION, "protocol": "quic"})
    with reversing_server() as port:
        words = ("connect", "127.0.0.1", port, "--protocol", "quic", "--runtime-dir", dispatcher.directory)
        status, _, messages = command.run(*words, "--quiet")
    assert status == 1
    assert "install the package hsframework-quic" in messages


def test_listen_echoes_to_many(command: Command, dispatcher: FakeDispatcher) -> None:
    """Clients are served at the same time, also beside one that says nothing, and after one whose handshake failed."""
    words = ("--protocol", "tiny", "--profile", "p", "--runtime-dir", dispatcher.directory, "--echo", "--quiet")
    with listening(command, *words) as (process, port), socket.create_connection(("127.0.0.1", port)):
        for group in (NO_GROUP, "tiny"):
            assert dispatcher.seen.get(timeout=10).message.values["group"] == group
        assert exchange(port, b"one") == b"one"
        dispatcher.on_submit = lambda submission: submission.result({"status": errno.EACCES, "message": "not you"})
        assert exchange(port, b"") == b""
        assert process.stderr is not None
        assert b"not you [EACCES]" in process.stderr.readline()
        dispatcher.on_submit = lambda submission: submission.result(SESSION)
        assert exchange(port, b"x" * 300000) == b"x" * 300000


def test_listen_prints_what_clients_send(command: Command, dispatcher: FakeDispatcher) -> None:
    """Without --echo, data goes to output."""
    words = ("--protocol", "tiny", "--profile", "p", "--runtime-dir", dispatcher.directory)
    with listening(command, *words) as (process, port):
        assert exchange(port, b"hello\n") == b""
        assert process.stdout is not None
        assert process.stdout.readline() == b"hello\n"


def test_listen_once(command: Command, dispatcher: FakeDispatcher, files: CredentialFiles) -> None:
    """One client: input goes to it, what it sends to output, and the command ends with it.  Its demand is submitted."""
    words = ("--protocol", "tiny", "--once", "--runtime-dir", dispatcher.directory, "--cert", files.certificate,
             "--key", files.private_key, "--ca", files.ca, "--client-certificate", "require")  # fmt: skip
    with listening(command, *words) as (process, port):
        assert process.stdin is not None
        process.stdin.write(b"from the server")
        process.stdin.close()
        process.stdin = None
        assert exchange(port, b"from the client") == b"from the server"
        output, _ = process.communicate(timeout=30)
        assert (process.returncode, output) == (0, b"from the client")
    values = dispatcher.seen.get(timeout=10).message.values
    assert (values["message-type"], values["client-certificate"]) == (Role.SERVER, 2)


def test_listen_once_fails(command: Command, dispatcher: FakeDispatcher) -> None:
    """Its only client was refused: status 1."""
    refusals = {NO_GROUP: (errno.ESRCH, "no such group"), "tiny": (errno.EACCES, "not allowed")}
    dispatcher.on_submit = lambda submission: submission.refuse(*refusals[submission.message.values["group"]])
    words = ("--protocol", "tiny", "--once", "--profile", "p", "--runtime-dir", dispatcher.directory)
    with listening(command, *words) as (process, port):
        assert exchange(port, b"") == b""
        _, messages = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"not allowed [EACCES]" in messages


def test_listen_with_a_profile_that_it_does_not_get(command: Command, dispatcher: FakeDispatcher) -> None:
    """It is said before the port is opened: status 1 and what the service says."""
    dispatcher.on_submit = lambda submission: submission.refuse(errno.EACCES, "user 33 may not use the profile 'p'")
    words = ("--protocol", "tiny", "--profile", "p", "--runtime-dir", dispatcher.directory)
    status, _, messages = command.run("listen", 0, *words)
    assert (status, messages) == (1, "hsframework: user 33 may not use the profile 'p' [EACCES]\n")


def test_listen_asks_the_service_for_its_profile(command: Command, tmp_path: Path) -> None:
    """A real dispatcher knows which it has, and no handshake is begun; that there is no agent yet does not matter."""
    file = write_configuration(tmp_path, "[profiles.web]\nalpn = ['h2']\n")
    with running(("dispatcher", "--config", str(file)), tmp_path) as service:
        service.log.wait("the dispatcher is ready")
        words = ("--protocol", "tiny", "--attribute", "number=1", "--runtime-dir", service.runtime_dir)
        status, _, messages = command.run("listen", 0, "--profile", "wbe", *words)
        assert status == 1
        assert messages == "hsframework: there is no profile 'wbe'; configure [profiles.wbe] [ENOENT]\n"
        with listening(command, "--profile", "web", *words):
            pass
        service.log.wait("a request is refused", number=2, group=NO_GROUP)
