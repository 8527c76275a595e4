"""``hsframework run`` as a process, with a configuration and a folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.processes import Program

ROOT = Path(__file__).parents[2]


class Service:
    """A running service.  ``runtime``: the folder of its sockets."""

    def __init__(self, folder: Path, program: Program) -> None:
        self.folder = folder
        self.runtime = folder / "run"
        self.program = program

    def wait_for_groups(self, *groups: str) -> None:
        """Until an agent has joined each of these."""
        for group in groups:
            self.program.wait_for(rf'"groups": \[[^]]*"{re.escape(group)}"[^]]*\][^\n]*"an agent joins"')

    def log(self) -> list[dict[str, Any]]:
        """The events so far."""
        return [json.loads(line) for line in self.program.said().splitlines() if line.startswith("{")]


@contextlib.contextmanager
def running_service(
    *, configuration: str = "", groups: Sequence[str] = ("tls13",), path: Sequence[Path] = ()
) -> Iterator[Service]:
    """The service, until the end of the block; it must end well.  ``path``: further folders with plugins."""
    # Not below pytest's own folder: agents run as a user of their own and must reach the socket, whose path is short.
    folder = Path(tempfile.mkdtemp(prefix="hsframework-test-", dir="/tmp"))
    folder.chmod(0o711)
    file = folder / "hsframework.toml"
    file.write_text(f'runtime-dir = "{folder / "run"}"\n[log]\nlevel = "debug"\nformat = "json"\n{configuration}')
    try:
        with Program(
            [sys.executable, "-m", "hsframework", "run", "--config", file], env={"PYTHONPATH": python_path(*path)}
        ) as program:
            service = Service(folder, program)
            service.wait_for_groups(*groups)
            yield service
            assert program.running, program.said()
            program.end()
            assert program.wait() == 0, program.said()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def python_path(*further: Path) -> str:
    """PYTHONPATH with these folders before what it has."""
    words = [*map(str, further), str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return os.pathsep.join(dict.fromkeys(filter(None, words)))
