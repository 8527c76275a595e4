"""The form of the Debian packages: lintian, manual pages, completion, and the same bytes from the same source."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.packages.__main__ import build
from scripts.packages.completions import PLACES
from scripts.packages.targets import RELEASES
from tests.packages.conftest import Packages


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed; scripts/apt-packages.sh packages installs it")
    return path


def test_lintian_has_no_complaint(packages: Packages) -> None:
    """Neither an error nor a warning is left, but for those that the overrides give a reason for."""
    command = [
        _program("lintian"),
        "--no-cfg",
        "--allow-root",
        "--fail-on",
        "error,warning",
        *map(str, packages.of("trixie")),
    ]
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert (finished.returncode, finished.stdout) == (0, "")


def test_the_same_bytes(packages: Packages, tmp_path: Path) -> None:
    """A second build of the same source gives the same packages."""
    again = build(RELEASES["trixie"], packages.wheels, tmp_path / "again", tmp_path / "work")
    assert [_digest(path) for path in again] == [_digest(path) for path in packages.of("trixie")]


def test_shell_scripts(packages: Packages, tmp_path: Path) -> None:
    """shellcheck finds nothing in the maintainers' scripts, as they are in the packages."""
    scripts = []
    for package in packages.of("trixie"):
        folder = tmp_path / package.name
        subprocess.run(["dpkg-deb", "--control", package, folder], check=True)
        scripts += [folder / name for name in ("postinst", "prerm", "postrm")]
    finished = subprocess.run([_program("shellcheck"), *scripts], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stdout) == (0, "")


def test_completion_in_bash(packages: Packages, tmp_path: Path) -> None:
    """bash completes commands and options from the package's file."""
    subprocess.run(["dpkg-deb", "--extract", packages.of("trixie")[0], tmp_path], check=True)
    script = (
        f"source {tmp_path / PLACES['bash']}; function=$(complete -p hsframework | sed 's/.*-F \\([^ ]*\\).*/\\1/'); "
        'ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); $function 2>/dev/null; '
        "echo ${COMPREPLY[*]}; }; "
        "ask hsframework doc; ask hsframework connect --servern"
    )
    finished = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["doctor", "--servername"]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
