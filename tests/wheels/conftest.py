"""Wheels of every distribution in this repository, and an empty environment to install them in.

Everything but our own wheels comes from wherever pip is configured to look, pinned by constraints.txt.
"""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT
NOISE = ROOT / "examples" / "noise"
PLUGINS = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))


@dataclass(frozen=True)
class Environment:
    """A virtual environment, used from a folder that holds nothing."""

    folder: Path
    empty: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment.  Nothing of ours that is set outside reaches it."""
        return self._run([str(self.folder / "bin" / command[0]), *command[1:]], self.empty)

    def shell(self, command: str, folder: Path) -> str:
        """Return the output of a command typed in a folder with the environment activated; it must end well."""
        finished = self._run(["bash", "-c", command], folder)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout

    def _run(self, command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
        } | {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "PIP_CONSTRAINT": str(ROOT / "constraints.txt")}
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    def python(self, program: str) -> str:
        """Return the output of a program; it must end well."""
        finished = self.run("python", "-W", "error", "-c", program)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    def pip(self, *arguments: str) -> None:
        """Run pip, which must succeed."""
        finished = self.run("python", "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments)
        assert finished.returncode == 0, finished.stdout + finished.stderr

    def install(self, *wheels: Path | str) -> None:
        """Install wheels with what they need."""
        self.pip("install", "--constraint", str(ROOT / "constraints.txt"), *map(str, wheels))

    def uninstall(self, *names: str) -> None:
        """Uninstall distributions."""
        self.pip("uninstall", "--yes", *names)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels by distribution, built as ``make wheels`` builds them."""
    output = tmp_path_factory.mktemp("wheels")
    for project in (CORE, *PLUGINS):
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(output), str(project)],
            check=True,
            capture_output=True,
        )
    return {wheel.name.split("-")[0]: wheel for wheel in output.glob("*.whl")}


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory, wheels: dict[str, Path]) -> Environment:
    """An environment with the core and what it needs, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    result = Environment(folder, tmp_path_factory.mktemp("empty"))
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
    result.install(wheels["hsframework"])
    return result


def make_wheel(folder: Path, distribution: str, entry_point: str, module: str, source: str) -> Path:
    """Make a wheel of one module that registers itself as the plugin ``entry_point``."""
    package = distribution.replace("-", "_")
    info = f"{package}-1.0.dist-info"
    files = {
        f"{module}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[hsframework]\n{entry_point} = {module}\n",
    }
    record = "".join(f"{name},{_digest(text)},{len(text.encode())}\n" for name, text in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    path = folder / f"{package}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
