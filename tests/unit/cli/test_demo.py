"""The demonstration: run as a user would, and what it does when something is not as it should be."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hsframework.cli.demo import stage
from hsframework.cli.demo.exchange import Outcome
from hsframework.cli.demo.peers import psk_words, start_peer
from hsframework.cli.demo.picture import WIDTH, Cast, picture, table
from hsframework.cli.demo.processes import DemoError, ProcessFacts, Service, process_facts, wait_for_socket
from hsframework.cli.demo.scenarios import Credentials, Scenario, scenarios
from hsframework.client import HandshakeOptions
from hsframework.errors import RequestRefused
from hsframework.interface import PresharedKey, Role, Secret

DEMO = (sys.executable, "-P", "-m", "hsframework", "demo")


def children_in(folder: Path) -> list[int]:
    """Return the processes whose command line names the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the folder in which the demonstration makes its own; others may pass through, and the path is short."""
    folder = Path(f"/tmp/hsframework-test-{os.getpid()}-{tmp_path_factory.mktemp('demo').name}")
    folder.mkdir(mode=0o711)
    return folder


@pytest.mark.peers
def test_the_whole(temporary: Path, tmp_path: Path) -> None:
    """Status 0, a line for each handshake, data over each session, no line too wide, nothing left behind."""
    # A file that lies about is not taken for a module, least of all by a service that runs as root.
    (tmp_path / "grp.py").write_text("raise SystemExit('imported from the folder one is in')")
    environment = {**os.environ, "TMPDIR": str(temporary)}
    result = subprocess.run(DEMO, cwd=tmp_path, env=environment, capture_output=True, timeout=120)
    output = result.stdout.decode()
    assert (result.returncode, result.stderr) == (0, b""), output
    rows = [line for line in output.splitlines() if line.endswith(" ok")]
    assert len(rows) == 24
    assert sum("2 MiB" in row for row in rows) == 16
    assert sum("PSP aes-gcm-256, software" in row for row in rows) == 3
    assert sum("QUIC" in row for row in rows) == 6
    for number in (errno.EKEYREJECTED, errno.EACCES, errno.ENOKEY, errno.ESRCH):
        assert errno.errorcode[number] in output
    assert max(map(len, output.splitlines())) <= WIDTH
    assert list(temporary.iterdir()) == []
    assert children_in(temporary) == []
    temporary.rmdir()


@pytest.mark.peers
def test_ended_in_the_middle(temporary: Path) -> None:
    """SIGTERM: the dispatcher, the agent and the files go with it."""
    process = subprocess.Popen(
        DEMO, env={**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if line.startswith(b"Starting"):
                break
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
    assert process.wait(30) == 128 + signal.SIGTERM
    assert list(temporary.iterdir()) == []
    assert children_in(temporary) == []
    temporary.rmdir()


def test_without_the_quic_plugin(tmp_path: Path) -> None:
    """A protocol that is not installed is not shown, and not needed."""
    credentials = Credentials(tmp_path)
    assert {scenario.peers.protocol for scenario in scenarios(credentials, ["tls13"], tmp_path)} == {"tls13"}
    assert {scenario.peers.protocol for scenario in scenarios(credentials, ["tls13", "quic"], tmp_path)} == {
        "tls13",
        "quic",
    }
    code = "import sys, hsframework.cli.demo.stage; sys.exit(any(name.startswith('aioquic') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_without_openssl() -> None:
    """Status 1 and the package to install."""
    environment = {**os.environ, "PATH": "/nonexistent"}
    result = subprocess.run(DEMO, env=environment, capture_output=True, timeout=60)
    assert result.returncode == 1
    assert b"install the package openssl" in result.stderr
    assert result.stderr.count(b"\n") == 1


def outcome(**changes: Any) -> Outcome:
    """Return an outcome that is a success, unless it is changed."""
    scenario = Scenario("a title", HandshakeOptions(role=Role.CLIENT), ())
    values = {"peer_pid": 4, "handshake": 0.0123, "transfer": 0.5, "data_ok": True, "tags": {"cipher": "TLS_AES"}}
    return Outcome(scenario, **{**values, **changes})


CAST = Cast(ProcessFacts(1, 0, 3), ProcessFacts(2, 0, 1), {"tls13": ProcessFacts(3, 60804, 0)}, 0.25, 0.5)


def test_one_that_came_out_wrong_makes_status_1() -> None:
    """The reason stands below its line, wrapped; the last line counts."""
    said: list[str] = []
    problem = "the peer said " + "no " * 60
    status = stage._show([outcome(), outcome(problem=problem, status=errno.EIO, data_ok=False)], CAST, said.append)
    text = "\n".join(said)
    assert status == 1
    assert "1 of 2 did not come out as they should." in text
    assert " ".join(problem.split()) in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= WIDTH


def test_all_well_makes_status_0() -> None:
    """And says how many were sessions."""
    said: list[str] = []
    refused = outcome(status=errno.ENOKEY, data_ok=False)
    assert stage._show([outcome(), refused], CAST, said.append) == 0
    assert "1 sessions, 1 refused" in said[-1]


def test_picture_names_every_process() -> None:
    """Ids, users and capabilities of who took part."""
    text = picture(CAST, outcome())
    for part in (
        "pid 1 ",
        "pid 2 ",
        "pid 3 ",
        "pid 4",
        "uid 60804",
        "no capabilities",
        "1 capability ",
        "s_server",
        "12.3 ms",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= WIDTH


def test_table_shows_where_the_session_is() -> None:
    """A session in the kernel is marked, and so is what was agreed on."""
    assert "AES h2 kTLS" in table([outcome(in_kernel=True, alpn="h2")])


def test_the_longest_line_fits() -> None:
    """Peers of newer distributions agree on a hybrid group, whose name is long, and the kernel may have the session."""
    tags = {"cipher": "TLS_AES_128_GCM_SHA256", "group": "X25519MLKEM768"}
    longest = outcome(tags=tags, alpn="sunrpc", in_kernel=True, problem="none", handshake=1.2345)
    longest = replace(longest, scenario=replace(longest.scenario, title="refused: an unknown PSK identity"))
    assert max(map(len, table([longest]).splitlines())) <= WIDTH


@pytest.mark.parametrize("hash_name", ["sha256", "sha384"])
def test_psk_files_are_what_openssl_reads(tmp_path: Path, hash_name: str) -> None:
    """``openssl sess_id`` finds the key and the cipher suite of its hash in the file."""
    key = PresharedKey(b"me", Secret(os.urandom(48 if hash_name == "sha384" else 32)), hash_name)
    words = psk_words(key, tmp_path)
    path = Path(words[words.index("-psk_session") + 1])
    assert path.stat().st_mode & 0o077 == 0
    text = subprocess.run(
        ["openssl", "sess_id", "-in", path, "-text", "-noout"], capture_output=True, text=True, check=True
    ).stdout
    assert key.key.reveal().hex().upper() in text
    assert words[words.index("-ciphersuites") + 1] in text


def test_a_service_that_ends_says_why(tmp_path: Path) -> None:
    """The end of its log is in the error."""
    service = Service("agent", ["no-such-command"], tmp_path)

    async def main() -> None:
        with pytest.raises(DemoError, match=r"the agent ended with status 2: .*no-such-command"):
            await wait_for_socket(tmp_path / "socket", service)

    asyncio.run(main())
    service.stop()


def test_a_peer_that_cannot_start(tmp_path: Path) -> None:
    """The last output of OpenSSL is at hand."""

    async def main() -> None:
        peer = await start_peer("s_client", "127.0.0.1:1", ["-no-such-option"], tmp_path)
        with pytest.raises(DemoError, match="s_client ended after 0 of 1 bytes"):
            await peer.receive(1)
        assert "help" in peer.said()
        await peer.end()

    asyncio.run(main())


def test_process_facts() -> None:
    """Of this process; and of one that is not there."""
    assert process_facts(os.getpid()).uid == os.geteuid()
    with pytest.raises(DemoError, match="is gone"):
        process_facts(2**22 + 1)


def test_an_agent_that_never_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """ESRCH for too long is an error that says so."""
    monkeypatch.setattr(stage, "START_TIMEOUT", 0.05)
    refusal = RequestRefused("nobody listens", errno=errno.ESRCH)

    async def handshake(*_: object) -> None:
        raise refusal

    running: Any = SimpleNamespace(check=lambda: None)
    client: Any = SimpleNamespace(handshake=handshake)
    with pytest.raises(DemoError, match="did not begin to serve: nobody listens"):
        asyncio.run(stage._wait_for_agent(client, "tls13", running, running))
