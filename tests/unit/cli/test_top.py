"""`top` on a terminal and into a pipe."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsframework.cli.commands.top import frame
from tests.support.running import Service, running_service


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service() as home:
        yield home


def command(runtime_dir: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "hsframework", "top", "--runtime-dir", str(runtime_dir), *words]


def shown_until(fd: int, count: int, words: bytes) -> bytes:
    """Return what a terminal shows until it has shown so many frames with these words."""
    text = b""
    while text.count(words) < count:
        text += os.read(fd, 65536)
    return text


def on_terminal(runtime_dir: Path, words: bytes, keys: bytes, **environment: str) -> tuple[int, bytes]:
    """Run it on a terminal, press keys after two frames with these words; return its status and what it has shown."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", **environment}
    line = command(runtime_dir, "--interval", "0.1")
    with subprocess.Popen(line, stdin=theirs, stdout=theirs, start_new_session=True, env=environment) as process:
        text = shown_until(ours, 2, words)
        os.write(ours, keys)
        text += shown_until(ours, 1, b"\x1b[?1049l")
    os.close(theirs)
    os.close(ours)
    return process.returncode, text


def test_a_terminal(service: Service) -> None:
    """It is drawn again and again on a screen of its own until q is pressed; other keys do nothing."""
    status, text = on_terminal(service.runtime_dir, b"state       ready", b"xq", NO_COLOR="")
    assert status == 0
    assert text.startswith(b"\x1b[?1049h")
    assert b"\x1b[7mhsframework top" in text


def test_no_color_and_no_service(tmp_path: Path) -> None:
    """Without colour where that is wished; a service that is not there may come, and is asked again."""
    status, text = on_terminal(tmp_path, b"no dispatcher listens at", b"q", NO_COLOR="1")
    assert status == 0
    assert b"\x1b[7m" not in text


def test_a_pipe(service: Service, tmp_path: Path) -> None:
    """One report, as `status` has it, without control sequences; status 1 without a service, 2 for a wrong interval."""
    done = subprocess.run(command(service.runtime_dir), capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "state       ready\n" in done.stdout
    assert "\x1b" not in done.stdout
    none = subprocess.run(command(tmp_path), capture_output=True, text=True, check=False)
    assert (none.returncode, none.stdout, none.stderr.count("\n")) == (1, "", 1)
    wrong = subprocess.run(command(tmp_path, "--interval", "0"), capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)


def test_a_frame() -> None:
    """Lines are cut to the terminal, and control characters of others are shown as marks."""
    size = os.terminal_size((10, 3))
    assert (
        frame(["head", "evil\x1b[2J\x07", "third"], size, colored=False)
        == "\x1b[Hhead\x1b[K\r\nevil?[2J?\x1b[K\r\n\x1b[J"
    )
    assert frame(["head"], size, colored=True) == "\x1b[H\x1b[7mhead      \x1b[0m\x1b[K\r\n\x1b[J"
