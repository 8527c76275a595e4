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
    must_pass_its_own_tests(NOISE, wheels, tmp_path)


def must_pass_its_own_tests(project: Path, wheels: dict[str, Path], folder: Path) -> None:
    """Build an example's wheel, install it in an empty environment, and run the example's tests there."""
    name = project.name
    wheel = build(folder, project)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"hsframework_{name}/py.typed", f"hsframework_{name}/specs/{name}.yaml"} <= names
    assert {path.split("/")[0].split("-")[0] for path in names} == {f"hsframework_{name}"}
    environment = Environment(folder / "venv", folder / "published")
    subprocess.run([sys.executable, "-m", "venv", str(environment.folder)], check=True, capture_output=True)
    published = shutil.copytree(project, environment.empty, ignore=shutil.ignore_patterns(f"hsframework_{name}"))
    core = f"hsframework[testing] @ {wheels['hsframework'].as_uri()}"
    environment.install(core, wheels["hsframework_tls13"], f"hsframework-{name}[test] @ {wheel.as_uri()}")
    finished = environment.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(published))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "skipped" not in finished.stdout


def build(folder: Path, project: Path = NOISE) -> Path:
    """Build an example's wheel."""
    command = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(project)]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return next(folder.glob("*.whl"))
