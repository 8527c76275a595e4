"""`status` of a service that runs, and its parts."""

from __future__ import annotations

import errno
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsframework import __version__
from hsframework.cli.checks.rehearsal import check_handshake
from hsframework.cli.commands import status as command
from hsframework.client import Client, HandshakeOptions
from hsframework.configuration.settings import Configuration
from hsframework.errors import HandshakeError
from hsframework.testing.certificates import Authority
from tests.support.running import Service, running_service


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service() as home:
        yield home


def said(home: Service, *words: str) -> tuple[int, str, str]:
    line = [sys.executable, "-m", "hsframework", "status", "--runtime-dir", str(home.runtime_dir), *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def fail_once(home: Service) -> None:
    """Have a handshake fail: the peer is gone before it says anything."""
    near, far = socket.socketpair()
    far.close()
    with near, Client(home.runtime_dir) as client, pytest.raises(HandshakeError) as caught:
        client.handshake(near, HandshakeOptions(peer_name="a.example", trust=Authority("Root").trust()))
    assert caught.value.errno == errno.ECONNRESET


def test_a_service_that_runs(service: Service) -> None:
    """Versions, state, groups with their agents, what succeeded and failed and why, and the files in use."""
    (handshake,) = check_handshake(Configuration(runtime_dir=service.runtime_dir))
    assert handshake.verdict == "ok"
    fail_once(service)
    status, output, _ = said(service)
    assert status == 0
    assert f"{__version__}, Python " in output
    assert "state       ready\n" in output
    assert f"process     {service.dispatcher}, since 20" in output
    assert "\ntls13 " in output
    assert "Last 15 min: 3 requests, 1 failed; " in output
    assert "1      tls13  ECONNRESET  the peer closed or reset the connection\n" in output
    file = service.folder / "hsframework.toml"
    assert any(line.startswith(str(file)) and line.endswith("in use") for line in output.splitlines())


def test_the_same_as_json(service: Service) -> None:
    """Everything, for programs: the service's report, the groups, and the files with their state."""
    status, output, _ = said(service, "--json")
    answer = json.loads(output)
    assert status == 0
    assert answer["installed"] == answer["service"]["version"] == __version__
    assert answer["service"]["requests"] == {}
    assert len(answer["service"]["recent"]["completed"]) == answer["service"]["recent"]["minutes"]
    assert "tls13" in [group["group"] for group in answer["groups"]]
    assert {each["state"] for each in answer["files"]} == {"in use"}


def test_a_service_that_is_not_there(tmp_path: Path) -> None:
    """Status 1 and one line, as of every command that needs a service."""
    line = [sys.executable, "-m", "hsframework", "status", "--runtime-dir", str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)


def test_files_on_disk(tmp_path: Path) -> None:
    """Each is in use, newer on disk, gone, or was never there."""
    from hsframework.configuration.files import stamp

    for name in ("same", "newer", "gone"):
        (tmp_path / name).write_text("1")
    read = {str(tmp_path / name): stamp(tmp_path / name) for name in ("same", "newer", "gone", "missing")}
    (tmp_path / "newer").write_text("22")
    (tmp_path / "gone").unlink()
    report = {path: {"modified": each.modified, "size": each.size} for path, each in read.items()}
    found = {Path(each["path"]).name: each["state"] for each in command.files_in_use({"files": report})}
    assert found == {"same": "in use", "newer": "newer on disk", "gone": "gone", "missing": "missing"}


def test_what_is_wrong_stands_out() -> None:
    """Not ready, another version, agents without kernel TLS, findings and faults; many reasons are cut."""
    outcomes = [{"group": "g", "status": 5, "reason": f"r{number}", "count": 2} for number in range(20)]
    report = {
        "version": "0.0",
        "ready": False,
        "missing-groups": ["tlshd"],
        "no-kernel": "it has no such family",
        "requests": {"queued": 3, "in-flight": 2},
        "recent": {"minutes": 15, "completed": [1, 2, 3], "failed": [1, 2, 3], "outcomes": outcomes},
        "findings": [{"where": "identities.a", "detail": "expired", "useless": True}],
        "faults": ["trust.b: unreadable"],
        "metrics": "the port is in use",
    }
    text = "\n".join(command._report(report, [], []))
    for words in (
        f"0.0, Python ?, Linux ?; {__version__} is installed: restart it",
        "not ready: no agent serves tlshd",
        "it has no such family",
        "2 in-flight, 3 queued",
        "Last 15 min: 40 requests, 40 failed; 2.0 a minute",
        "and 16 for 8 more",
        "useless: identities.a: expired",
        "unusable: trust.b: unreadable",
        "there are none: the port is in use",
    ):
        assert words in text
