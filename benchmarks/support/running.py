"""`hsframework run` to be measured, in a folder of its own: its log goes where ours goes, and nobody reads along."""

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
from hsframework.supervisor.main import plugin_names

LOOK = 0.002
START = 30.0
STOP = 30.0
"""Seconds that it has at most."""


class Running(NamedTuple):
    """``folder``: of its sockets.  ``pid``: of the process above all of its own.  ``start_up``: seconds until ready."""

    folder: Path
    pid: int
    start_up: float


@contextmanager
def running_service(
    plugin: str | None, configure: Callable[[Path], str], ready: Callable[[Path], bool]
) -> Iterator[Running]:
    """A service.  ``plugin``: of what is installed, this alone, so that no other's agent starts beside the measurement;
    None: all.  ``configure``: the configuration, by the folder for its files, without what is set here.  ``ready``:
    asked with the folder of the sockets until it is.
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
    """Does an agent serve the group?  Asked with a handshake on such sockets whose peer says nothing."""
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
    """The processes right below this one, in the order in which they were started."""
    return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def descendants(pid: int) -> Iterator[int]:
    """Every process below this one, each before its own."""
    for child in children(pid):
        yield child
        yield from descendants(child)


def proportional_memory(pid: int) -> int:
    """Pss in KiB: shared pages count by the share."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    match = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(match.group(1)) if match else 0


def processor_time(pid: int) -> float:
    """Seconds that a process has run so far, in user space and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
