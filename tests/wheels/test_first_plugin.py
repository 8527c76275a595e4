"""The tutorial's first page, command by command, in an environment with nothing but our wheels.

What each command says is in docs/tutorial/output, where the page shows it.  Here it is compared, but for what is never
the same twice (times, process numbers, versions).  ``HSFRAMEWORK_RECORD=1`` writes the files anew.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Program
from tests.wheels.conftest import ROOT

pytestmark = [pytest.mark.wheels, pytest.mark.timeout(600)]

OUTPUT = ROOT / "docs" / "tutorial" / "output"
PAGE = ROOT / "docs" / "tutorial" / "first-plugin.md"
RECORD = bool(os.environ.get("HSFRAMEWORK_RECORD"))
CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 2 -keyout server.key -out server.pem"
    " -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext extendedKeyUsage=serverAuth"
)

NEVER_THE_SAME = [
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"[\d.]+ ms|\d+\.\d+s\b( \([\d:]+\))?|(?<=milliseconds=)[\d.]+|(?<=_ms=)[\d.]+"), "DURATION"),
    (re.compile(r"(?<=127\.0\.0\.1:)\d+"), "PORT"),
    (re.compile(r"\[\d+\]|(?<=(?:process|request)=)\d+|(?<=pid )\d+|(?<=uid=)\d+|(?<=-)\d{2,}(?= \(pid)"), "NUMBER"),
    (re.compile(r"(?<=kernel=)\S+|\b\d+(\.\d+)+"), "VERSION"),
    (re.compile(r"in the kernel|in user space"), "WHERE"),
    (re.compile(r"={3,}"), "LINE"),
    (re.compile(r"^plugins: .*$", re.MULTILINE), "PLUGINS"),
]


class Shell:
    """Commands as a reader types them, and what they say as a reader sees it."""

    def __init__(self, environment: Path, folder: Path) -> None:
        self.folder = folder
        self._runtime = folder / "run"
        self._ports = {"4433": _free_port(), "4434": _free_port()}
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
        } | {
            "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_CONSTRAINT": str(ROOT / "constraints.txt"),
            "PIP_ROOT_USER_ACTION": "ignore",
            "COLUMNS": "80",
        }

    def run(self, name: str, command: str) -> None:
        """Run a command to its end, which must be a good one, and check its output."""
        finished = subprocess.run(
            ["bash", "-c", self._real(command)],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, f"{command}\n{finished.stdout}"
        self._check(name, command, finished.stdout)

    @contextlib.contextmanager
    def running(self, name: str, command: str, first: str, last: str) -> Iterator[None]:
        """Run a command in the background for the block, which begins when it prints ``first``.

        Its output up to ``last`` is checked.
        """
        with Program(["bash", "-c", f"exec {self._real(command)}"], cwd=self.folder, env=self._environment) as program:
            program.wait_for(first)
            yield
            program.wait_for(last)
            said = program.said()
        self._check(name, command, said)

    def enter(self, folder: str) -> None:
        """Change the folder, as ``cd`` does."""
        self.folder /= folder

    def _real(self, command: str) -> str:
        for shown, port in self._ports.items():
            command = re.sub(rf"\b{shown}\b", str(port), command)
        return command.replace("/tmp/greet", str(self._runtime))

    def _shown(self, text: str) -> str:
        for shown, port in self._ports.items():
            text = text.replace(str(port), shown)
        text = text.replace(str(self._runtime), "/tmp/greet").replace(str(self.folder), f"~/{self.folder.name}")
        lines = [line.rstrip() for line in text.strip("\n").splitlines() if "WARNING: Location" not in line]
        return "".join(f"{line}\n" for line in lines)

    def _check(self, name: str, command: str, output: str) -> None:
        text = f"$ {command}\n{self._shown(output)}"
        file = OUTPUT / f"{name}.txt"
        if RECORD:
            OUTPUT.mkdir(exist_ok=True)
            file.write_text(text, "utf-8")
        known = file.read_text("utf-8")
        assert comparable(text) == comparable(known), f"{file} is not so any more: HSFRAMEWORK_RECORD=1 writes it anew"


def comparable(text: str) -> list[str]:
    """Return what must be the same.  The lines of a log come in any order, and those on the kernel differ."""
    for pattern, word in NEVER_THE_SAME:
        text = pattern.sub(word, text)
    lines = [line for line in text.splitlines() if line.strip() and "the kernel" not in line]
    return sorted(lines) if "TIME" in text else lines


@pytest.fixture
def shell(wheels: dict[str, Path], tmp_path: Path) -> Iterator[Shell]:
    """An empty environment, and a folder that other users may enter: agents are some."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    folder = Path(tempfile.mkdtemp(prefix="hs-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        for wheel in wheels.values():
            (folder / wheel.name).symlink_to(wheel)
        yield Shell(tmp_path / "venv", folder)
    finally:
        shutil.rmtree(folder)


def test_from_nothing_to_a_served_handshake(shell: Shell) -> None:
    """Every command of the page, in its order."""
    shell.run("install", "pip install --quiet hsframework-*.whl hsframework_tls13-*.whl")
    shell.run("new", "hsframework plugin new greet")
    shell.enter("hsframework-greet")
    shell.run("editable", "pip install --quiet --editable '.[test]'")
    shell.run("plugins", "hsframework plugins")
    shell.run("pytest", "pytest")
    shell.run("certificate", CERTIFICATE + " 2>/dev/null")
    sockets = "--runtime-dir /tmp/greet"
    joined = "(?s)joined protocol=greet.*joined protocol=tls13|joined protocol=tls13.*joined protocol=greet"
    all_four = "(?s)" + "".join(f"(?=.*handshake request={number} )" for number in range(1, 5))
    with shell.running("run", f"hsframework run {sockets}", joined, all_four):
        word = "--protocol greet --attribute word=friend"
        with shell.running("listen", f"hsframework listen 4433 {word} --echo {sockets}", "listening", "session with"):
            shell.run("connect", f"echo hello | hsframework connect localhost 4433 {word} {sockets}")
        tls = "--cert server.pem --key server.key"
        with shell.running(
            "listen-tls", f"hsframework listen 4434 {tls} --echo {sockets}", "listening", "session with"
        ):
            shell.run("connect-tls", f"echo hello | hsframework connect localhost 4434 --ca server.pem {sockets}")


def test_the_page_shows_all_of_it() -> None:
    """Each output is included, and none that is not checked."""
    included = re.findall(r"```\{literalinclude\} output/([\w-]+)\.txt", PAGE.read_text("utf-8"))
    assert sorted(included) == sorted(path.stem for path in OUTPUT.iterdir())


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
