"""A stand-in for the service manager: it takes notifications, keeps descriptors, and starts programs with them."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.running import WAIT, python_path

START = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.executable, sys.argv[1:])"
"""As a service manager does it: the process that will be the service says whose the descriptors are."""


class Manager:
    """Its socket is in ``folder``; ``kept`` has the descriptors by name, ``said`` every state that was sent."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self.path.chmod(0o666)
        self._socket.setblocking(False)
        self.kept: dict[str, int] = {}
        self.said: list[str] = []

    def start(self, *words: str, watchdog: float | None = None) -> subprocess.Popen[bytes]:
        """Start hsframework with what is kept, as a unit with ``Type=notify``."""
        names = list(self.kept)
        environment = os.environ | {"NOTIFY_SOCKET": str(self.path), "PYTHONPATH": python_path()}
        if watchdog is not None:
            environment["WATCHDOG_USEC"] = str(int(watchdog * 1_000_000))
        if names:
            environment |= {"LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": ":".join(names)}

        def place() -> None:
            # Out of the way first: the places from 3 on may be those of others.
            copies = [os.dup2(os.dup(self.kept[name]), 200 + index) for index, name in enumerate(names)]
            for index, copy in enumerate(copies):
                os.dup2(copy, 3 + index)

        command = [sys.executable, "-c", START, sys.executable, "-m", "hsframework", *words]
        return subprocess.Popen(
            command,
            env=environment,
            pass_fds=range(3, 3 + len(names)),
            preexec_fn=place if names else None,
            stderr=subprocess.PIPE,
        )

    def receive(self) -> None:
        """Take what was sent."""
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._socket, 65536, 8)
            except BlockingIOError:
                return
            states = dict(line.partition("=")[::2] for line in data.decode().split("\n"))
            name = states.get("FDNAME", "")
            if "FDSTOREREMOVE" in states and name in self.kept:
                os.close(self.kept.pop(name))
            if "FDSTORE" in states:
                (self.kept[name],) = fds
            self.said += data.decode().split("\n")

    def until(self, condition: Callable[[], object]) -> None:
        """Receive until something is so."""
        end = time.monotonic() + WAIT
        while not condition():
            remaining = end - time.monotonic()
            assert remaining > 0, self.said
            select.select([self._socket], [], [], remaining)
            self.receive()

    def close(self) -> None:
        """Close what is kept."""
        self._socket.close()
        for fd in self.kept.values():
            os.close(fd)
