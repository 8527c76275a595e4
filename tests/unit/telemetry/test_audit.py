"""The audit log: lines of JSON in a file that may be moved, and a disk that may be full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from hsframework.cli.checks.rehearsal import check_handshake
from hsframework.client.groups import service_status
from hsframework.configuration.settings import Configuration
from hsframework.interface import Secret
from hsframework.telemetry import audit
from hsframework.telemetry.audit import AuditLog
from tests.support.running import running_service, until


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.mark.parametrize("sync", [True, False])
def test_lines(path: Path, sync: bool) -> None:
    """Each event is one, after what was there, without secrets, and for the owner alone."""
    path.write_text('{"event": "old"}\n')
    with closing(AuditLog(path, sync=sync)) as log:
        log.write({"status": "OK", "peer": "a\nb", "key": Secret(b"secret")})
        log.write({"status": "EIO"})
    old, first, second = lines(path)
    assert old == {"event": "old"}
    assert (first["event"], first["status"], first["peer"], first["key"]) == ("handshake", "OK", "a\nb", "<6 bytes>")
    assert second["status"] == "EIO"


def test_a_new_file_is_the_owners(path: Path) -> None:
    """Others have no access to it."""
    with closing(AuditLog(path)) as log:
        log.write({})
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_moved(path: Path) -> None:
    """The next line is in a new one at the path, and the moved one gets none."""
    with closing(AuditLog(path)) as log:
        log.write({"number": 1})
        until(lambda: lines(path), "the first line")
        path.rename(path.with_suffix(".1"))
        log.write({"number": 2})
    assert [each["number"] for each in lines(path.with_suffix(".1"))] == [1]
    assert [each["number"] for each in lines(path)] == [2]


def test_a_folder_that_is_gone(path: Path) -> None:
    """It is said once, and what was lost in between is counted in the file."""
    path = path.parent / "later" / path.name
    with capture_logs() as logs, closing(AuditLog(path)) as log:
        log.write({"number": 1})
        until(lambda: log.problem, "the problem")
        path.parent.mkdir()
        log.write({"number": 2})
        until(lambda: log.problem is None, "no problem")
    lost, event = lines(path)
    assert lost == {"event": "lost", "number": 1}
    assert event["number"] == 2
    assert [each["event"] for each in logs] == ["the audit log loses events", "the audit log is written again"]
    assert logs[0]["reason"] == "No such file or directory"


def _odd(make: Callable[[Path], object], path: Path) -> str | None:
    make(path)
    with closing(AuditLog(path)) as log:
        log.write({})
    return log.problem


def test_what_is_no_file(path: Path) -> None:
    """A pipe without a reader, a device and a folder hold nothing up."""
    assert _odd(os.mkfifo, path) == "No such device or address"
    path.unlink()
    assert _odd(lambda there: there.symlink_to("/dev/null"), path) == "it is not a regular file"
    path.unlink()
    assert _odd(Path.mkdir, path) == "Is a directory"


FULL = """
import resource, signal, sys
from pathlib import Path
from hsframework.telemetry.audit import AuditLog
from tests.support.running import running_service, until
path = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = AuditLog(path)
log.write({"number": 1})
until(lambda: path.exists() and path.stat().st_size, "the first line")
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
log.write({"number": 2})
until(lambda: log.problem == "there is no room for more", "a torn line")
log.write({"number": 3})
until(lambda: log.problem == "File too large", "no line")
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
log.write({"number": 4})
log.close()
"""


def test_a_full_disk(path: Path) -> None:
    """A line that is not whole is ended before the next one, and those that are lost are counted."""
    subprocess.run([sys.executable, "-c", FULL, str(path)], check=True, stdout=subprocess.DEVNULL)
    first, torn, lost, last = path.read_text().splitlines()
    assert json.loads(first)["number"] == 1
    assert len(torn) == 10
    assert json.loads(lost) == {"event": "lost", "number": 2}
    assert json.loads(last)["number"] == 4


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no thread write."""
    monkeypatch.setattr(AuditLog, "_run", lambda log: None)
    monkeypatch.setattr(audit, "MOST_WAITING", 3)


@pytest.mark.usefixtures("stuck")
def test_a_disk_that_hangs(path: Path) -> None:
    """Events are kept up to a bound, and then counted."""
    log = AuditLog(path)
    for number in range(5):
        log.write({"number": number})
    assert (len(log._waiting), log._lost) == (3, 2)


def test_a_service(tmp_path: Path) -> None:
    """A service that runs has both ends of a handshake in it; its report says nothing while nothing is lost."""
    file = tmp_path / "audit.jsonl"
    with running_service(f'[audit]\nfile = "{file}"\n') as home:
        (handshake,) = check_handshake(Configuration(runtime_dir=home.runtime_dir))
        assert handshake.verdict == "ok"
        until(lambda: len(lines(file)) >= 2, "two lines")
        assert service_status(home.runtime_dir)["audit"] is None
    assert {each["role"] for each in lines(file)} == {"client", "server"}
    assert {each["status"] for each in lines(file)} == {"OK"}
