"""The confinement of a worker: what native code in its place tries is refused, and what it needs works."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hsframework.process import confinement, confinement_landlock, confinement_seccomp
from hsframework.process.confinement import why_not_confined

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the program calls by number")

PROGRAM = Path(__file__).with_name("confined_program.py")
ROOT = Path(__file__).parents[3]
LANDLOCK_ALONE = {
    "a file read elsewhere",
    "the processes",
    "the command line of another",
}
"""Attempts that Landlock refuses and no filter of system calls could."""


OF_A_KEEPER = {"a fork", "a signal to its parent", "a signal to everybody", "a signal by pidfd", "a larger limit"}
"""Attempts that a keeper may make: it forks and ends workers, and they set limits.  Other users' processes are safe."""

OF_A_CELL = {"a memfd", "the processes", "the command line of another"}
"""Attempts that a cell may make: it hands bytes on, and reads what /proc shows to everybody."""

MAY = {"worker": set[str](), "keeper": OF_A_KEEPER, "cell": OF_A_CELL}


@pytest.fixture(scope="module", params=sorted(MAY))
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("place")
    place.chmod(0o777)
    log = place / "log"
    log.write_text("evidence\n")
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(place), str(log), request.param],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    assert log.read_text() == "evidence\n"
    found: dict[str, Any] = json.loads(done.stdout)
    for name in MAY[request.param]:
        del found["forbidden"][name]
    return found


def test_all_of_it_is_in_place(report: dict[str, Any]) -> None:
    """The worker reports a part that the machine lacks, and doctor can: here nothing may be missing but Landlock."""
    assert report["problems"] == [
        problem for problem in why_not_confined() if not problem.startswith(confinement_seccomp.LIBRARY)
    ]


def test_every_attempt_is_refused(report: dict[str, Any]) -> None:
    """Files, sockets, processes, namespaces, signals, memory of others, the log: each ends with an errno."""
    passed_over = set() if confinement_landlock.version() else LANDLOCK_ALONE
    ended = {name: how for name, how in report["forbidden"].items() if name not in passed_over}
    assert len(ended) > 25
    assert {name: how for name, how in ended.items() if how not in ("EPERM", "EACCES", "EAFNOSUPPORT")} == {}


def test_what_a_worker_needs_works(report: dict[str, Any]) -> None:
    """Threads, an event loop, its sockets, a late import, its log."""
    assert set(report["allowed"].values()) == {"done"}


def test_a_machine_without_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """The missing part is named with the package to install or the setting to change, and nothing fails."""
    monkeypatch.setattr(confinement_seccomp, "load_library", lambda: None)
    monkeypatch.setattr(confinement_landlock, "version", lambda: 0)
    first, second = confinement.why_not_confined()
    assert "libseccomp2" in first
    assert "Landlock" in second
    assert confinement_seccomp.install(()) == first
    assert confinement_landlock.Ruleset(()).restrict() == second


def test_who_may_not_ask_is_no_machine_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that a filter of system calls refuses is no answer: the calls to allow are named."""

    def refused() -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(confinement_landlock, "version", refused)
    assert "landlock_create_ruleset" in str(confinement_landlock.missing())
    assert confinement_landlock.Ruleset(()).restrict() == confinement_landlock.missing()
