"""``hsframework run`` as a process, with plugins that are not installed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hsframework.testing import service as testing

ROOT = Path(__file__).parents[2]


class Service:
    """A running service.  ``runtime``: the folder of its sockets."""

    def __init__(self, running: testing.RunningService) -> None:
        self._running = running
        self.folder = running.folder
        self.runtime = running.runtime_dir

    def wait_for_groups(self, *groups: str) -> None:
        """Until an agent has joined each of these."""
        self._running.wait_for_groups(groups)

    def said(self) -> str:
        """What it has logged so far."""
        return self._running.log

    def log(self) -> list[Mapping[str, Any]]:
        """The events so far."""
        return self._running.events()


@contextlib.contextmanager
def running_service(
    *, configuration: str = "", groups: Sequence[str] = ("tls13",), path: Sequence[Path] = ()
) -> Iterator[Service]:
    """The service, until the end of the block; it must end well.  ``path``: further folders with plugins."""
    environment = {"PYTHONPATH": python_path(*path)}
    with testing.running_service(groups=groups, configuration=configuration, environment=environment) as running:
        yield Service(running)


def python_path(*further: Path) -> str:
    """PYTHONPATH with these folders before what it has."""
    words = [*map(str, further), str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return os.pathsep.join(dict.fromkeys(filter(None, words)))
