"""The service as processes, for benchmarks: in a folder of its own, with its log on our stderr."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hsframework.client import Client, HandshakeOptions
from hsframework.errors import HandshakeError, HsframeworkError, RequestRefused
from hsframework.registry.installed import plugin_names

LOOK = 0.002
"""Seconds between two checks that the service is ready."""
START = 60.0
STOP = 30.0
"""Seconds that the service may take to start and to stop."""


class Running(NamedTuple):
    """A running service."""

    folder: Path
    """Its runtime directory."""
    pid: int
    """The supervisor's process id."""
    start_up: float
    """Seconds until it was ready."""


@contextmanager
def running_service(
    plugin: str | None, configure: Callable[[Path], str], ready: Callable[[Path], bool]
) -> Iterator[Running]:
    """Run the service until the end of the block.

    ``plugin``: the only installed plugin that is used, so that no other agent disturbs the measurement; None: all.
    ``configure``: makes the configuration but for runtime-dir and blocked-plugins, by the folder for its files.
    ``ready``: returns True once the service is ready, by its runtime directory.
    """
    with tempfile.TemporaryDirectory(prefix="hsframework-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        file, runtime = folder / "hsframework.toml", folder / "run"
        others = [name for name in plugin_names() if plugin not in (None, name)]
        file.write_text(f'runtime-dir = "{runtime}"\nblocked-plugins = {others}\n{configure(folder)}')
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "hsframework", "run", "--config", str(file)])
        try:
            while not ready(runtime):
                if process.poll() is not None or time.perf_counter() > start + START:
                    raise SystemExit("the service did not start")
                time.sleep(LOOK)
            yield Running(runtime, process.pid, time.perf_counter() - start)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP)


def serves(runtime: Path, group: str, pair: Callable[[], tuple[socket.socket, socket.socket]]) -> bool:
    """Return True if an agent serves the group.

    It submits a socket whose peer is silent.  ``pair``: makes two connected sockets.
    """
    ours, theirs = pair()
    with ours, theirs:
        try:
            with Client(runtime) as client:
                client.handshake(ours, HandshakeOptions(group=group, timeout=0.001))
        except RequestRefused:
            return False
        except HandshakeError:
            return True
        except HsframeworkError:
            return False
    return True


def children(pid: int) -> list[int]:
    """Return the child processes of a process, in the order in which they were started."""
    return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def child_titled(pid: int, title: str) -> int:
    """Return the child of a process that bears this title.  Raises LookupError."""
    for child in children(pid):
        if Path(f"/proc/{child}/cmdline").read_bytes().strip(b"\0 ").decode() == title:
            return child
    raise LookupError(f"no child of {pid} is called {title!r}")


def descendants(pid: int) -> Iterator[int]:
    """Yield every descendant of a process, each before its own children."""
    for child in children(pid):
        yield child
        yield from descendants(child)


def proportional_memory(pid: int) -> int:
    """Return the Pss of a process in KiB: shared pages count by the share."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    match = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(match.group(1)) if match else 0


def processor_time(pid: int) -> float:
    """Return the processor seconds of a process so far, in user space and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
