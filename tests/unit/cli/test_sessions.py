"""`sessions`: the list of those that are open, for people and for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hsframework.cli.commands import sessions as command, status
from hsframework.client import groups
from tests.support.running import running_service
from tests.unit.dispatcher.sessions import session


def said(runtime_dir: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "hsframework", "sessions", "--runtime-dir", str(runtime_dir), *words]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_a_service_that_runs() -> None:
    """It asks the kernel, and knows no peer of the sockets with TLS that others have; `status` has a line."""
    with running_service() as home:
        found = said(home.runtime_dir, "--json")
        assert found.returncode == 0
        assert [each for each in json.loads(found.stdout) if each["known"]] == []
        report = groups.service_status(home.runtime_dir)["sessions"]
        assert (report["known"], report["end-sessions"], report["out"]) == (0, "dry-run", {})


def test_a_service_that_is_not_there(tmp_path: Path) -> None:
    """Status 1 and one line, as of every command that needs a service."""
    found = said(tmp_path)
    assert (found.returncode, found.stdout, found.stderr.count("\n")) == (1, "", 1)


def test_a_table() -> None:
    """One line for each session, one for the number of others, and one for what could not be asked."""
    known = session(peer_identity="CN=a", cipher="AES", made_at=0.0, namespace="far", uid=7).as_report(93_784)
    unknown = {"known": False, "namespace": "far", "number": 2}
    lines = list(command._table([known, unknown, {"namespace": "gone", "problem": "no such name"}]))
    assert [line.split() for line in lines[1:2]] == [
        ["192.0.2.1:700", "(far)", "CN=a", "server", "tls13", "AES", "exports", "user", "7", "1d", "2h"],
    ]
    assert lines[2:] == [
        "2 further with TLS (far), made by others or before the service was started.",
        "network namespace gone: the kernel cannot be asked: no such name",
    ]
    assert list(command._table([])) == ["No session with a known peer is open in the kernel."]


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0s"), (61, "1min 1s"), (7200, "2h"), (90_061, "1d 1h")])
def test_ages(seconds: float, text: str) -> None:
    """An age has its two largest units."""
    assert command._age(seconds) == text


def test_the_line_of_status() -> None:
    """The number that is known, the treatment of peers that are out, and the reason why none can be ended."""
    report = {"known": 2, "end-sessions": "on", "out": {"ended": 3}, "cannot-end": "the kernel ends none"}
    assert status._sessions(report) == (
        "2 in the kernel with known peers; of peers that are out: on; 3 ended; none can be ended: the kernel ends none"
    )
