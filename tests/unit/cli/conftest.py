"""Fixtures: a folder with installed plugins, credentials in files, a fake dispatcher, and the command as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hsframework.testing.certificates import Authority, CredentialFiles
from tests.unit.client.fake_dispatcher import FakeDispatcher

TINY = Path(__file__).with_name("tiny_plugin.py")
SESSION = {"status": 0, "protocol": "tiny", "session": b"\x08\0\x01\0\x07\0\0\0"}


HIDE_OTHERS = """
import importlib.metadata, pathlib
_found = importlib.metadata.entry_points

def _only_here(**wanted):
    here = pathlib.Path(__file__).parent
    return importlib.metadata.EntryPoints(
        item for item in _found(**wanted) if pathlib.Path(item.dist.locate_file("")) == here
    )

importlib.metadata.entry_points = _only_here
"""
"""A ``sitecustomize``: plugins that are installed in the environment of the tests are out of sight."""


def install(folder: Path, name: str, source: str) -> None:
    """Install as pip would: a module, and a distribution whose entry point names it."""
    (folder / f"hs_{name}.py").write_text(source)
    information = folder / f"hs_{name}-1.2.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: hs-{name}\nVersion: 1.2\n")
    (information / "entry_points.txt").write_text(f"[hsframework]\n{name} = hs_{name}\n")


@dataclass
class Command:
    """``python -m hsframework`` with certain plugins installed."""

    plugins: Path

    def environment(self) -> dict[str, str]:
        root = str(Path(__file__).parents[3])
        return {**os.environ, "PYTHONPATH": os.pathsep.join((str(self.plugins), root)), "PYTHONUNBUFFERED": "1"}

    def start(self, *words: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "hsframework", *map(str, words)],
            cwd=self.plugins,
            env=self.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *words: object, given: bytes = b"") -> tuple[int, bytes, str]:
        """Exit status, output, messages."""
        process = self.start(*words)
        output, messages = process.communicate(given, timeout=60)
        return process.returncode, output, messages.decode()


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HIDE_OTHERS)
    return folder


@pytest.fixture
def command(plugins: Path) -> Command:
    return Command(plugins)


@pytest.fixture
def tiny(plugins: Path) -> None:
    install(plugins, "tiny", TINY.read_text())


@pytest.fixture
def dispatcher(tmp_path: Path) -> Iterator[FakeDispatcher]:
    with FakeDispatcher(tmp_path, lambda submission: submission.result(SESSION)) as fake:
        yield fake


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> CredentialFiles:
    return Authority("Test Root").issue(["server.example"]).write(tmp_path_factory.mktemp("credentials"))
