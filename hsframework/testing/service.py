"""The service as processes, for the tests of plugins: ``hsframework run`` in a folder of its own.

It serves the installed plugins, over real sockets and to real clients::

    with running_service(groups=("noise",)) as service:
        with Client(service.runtime_dir) as client:
            session = client.handshake(sock, HandshakeOptions(group="noise"))

A test that needs no processes runs faster with :mod:`hsframework.testing.dispatcher`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PATIENCE = 60.0
"""Seconds to wait for the service, which usually takes one or two."""


class RunningService:
    """A running service.  ``runtime_dir``: for :class:`hsframework.client.Client`, and for ``--runtime-dir``."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self.folder = folder
        self.runtime_dir = folder / "run"
        self._process = process
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def log(self) -> str:
        """The log so far, a JSON object a line."""
        with self._changed:
            return "\n".join(self._lines)

    def events(self) -> list[Mapping[str, Any]]:
        """Return the log so far as events; lines that are not JSON are left out."""
        return [event for line in self.log.splitlines() if (event := _parsed(line)) is not None]

    def wait_until(self, condition: Callable[[Sequence[Mapping[str, Any]]], bool], what: str) -> None:
        """Wait until ``condition`` is True for the events so far.

        ``what``: name of the condition, for messages.  Raises AssertionError, with the log, after :data:`PATIENCE` or
        if the service ends.
        """
        end = time.monotonic() + PATIENCE
        while not condition(self.events()):
            with self._changed:
                remaining = end - time.monotonic()
                if remaining <= 0 or self._ended:
                    raise AssertionError(f"{what} did not happen:\n" + "\n".join(self._lines))
                self._changed.wait(min(remaining, 1.0))

    def wait_for_groups(self, groups: Sequence[str]) -> None:
        """Wait until each group has an agent.  Raises AssertionError, with the log, also if one cannot start."""

        def served(events: Sequence[Mapping[str, Any]]) -> bool:
            joined = {group for event in events if event.get("event") == "an agent joins" for group in event["groups"]}
            given_up = {event["child"] for event in events if event.get("event") == "ended and is not started again"}
            for group in groups:
                if group not in joined and f"agent of {group}" in given_up:
                    raise AssertionError(f"the agent of {group} cannot start:\n{self.log}")
            return joined >= set(groups)

        self.wait_until(served, f"an agent for each of {', '.join(groups)}")

    def stop(self) -> int:
        """Terminate the service, wait for its end, and return the exit status; 0 if it has ended properly."""
        self._process.terminate()
        try:
            status = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._reader.join(PATIENCE)
        return status

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as pipe:
            for line in pipe:
                with self._changed:
                    self._lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


@contextlib.contextmanager
def running_service(
    *, groups: Sequence[str], configuration: str = "", environment: Mapping[str, str] | None = None
) -> Iterator[RunningService]:
    """Run the service until the end of the block; it begins once each of the groups has an agent.

    ``configuration``: TOML without ``runtime-dir`` and ``[log]``.  ``environment``: variables beside ours.
    Raises AssertionError, with the log, if the service does not start or does not end properly.
    """
    # Not in pytest's own folder: agents run as other users and must reach the socket, and its path must be short.
    folder = Path(tempfile.mkdtemp(prefix="hs-", dir="/tmp"))
    folder.chmod(0o711)
    file = folder / "hsframework.toml"
    log = '[log]\nlevel = "debug"\nformat = "json"\n'
    file.write_text(f'runtime-dir = "{folder}/run"\n{configuration}\n{log}', "utf-8")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "hsframework", "run", "--config", str(file)],
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    service = RunningService(folder, process)
    try:
        service.wait_for_groups(groups)
        yield service
        assert service.stop() == 0, service.log
    finally:
        service.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _parsed(line: str) -> Mapping[str, Any] | None:
    with contextlib.suppress(ValueError):
        event = json.loads(line)
        return event if isinstance(event, dict) else None
    return None
