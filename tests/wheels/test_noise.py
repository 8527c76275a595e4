"""examples/noise as whoever installs it gets it: its wheel beside ours, its own tests, none of its source tree."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.wheels.conftest import NOISE, Environment

pytestmark = [pytest.mark.wheels, pytest.mark.timeout(600)]


def test_its_own_tests(wheels: dict[str, Path], tmp_path: Path) -> None:
    """Conformance, the published vectors, and noiseprotocol itself at the other end, beside TLS 1.3."""
    wheel = build(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"hsframework_noise/py.typed", "hsframework_noise/specs/noise.yaml"} <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"hsframework_noise"}
    environment = Environment(tmp_path / "venv", tmp_path / "published")
    subprocess.run([sys.executable, "-m", "venv", str(environment.folder)], check=True, capture_output=True)
    published = shutil.copytree(NOISE, environment.empty, ignore=shutil.ignore_patterns("hsframework_noise"))
    core = f"hsframework[testing] @ {wheels['hsframework'].as_uri()}"
    environment.install(core, wheels["hsframework_tls13"], f"hsframework-noise[test] @ {wheel.as_uri()}")
    finished = environment.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(published))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "skipped" not in finished.stdout


def build(folder: Path) -> Path:
    """Build its wheel."""
    command = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(NOISE)]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return next(folder.glob("*.whl"))
