"""`hsframework run` to be measured, in a folder of its own: its log goes where ours goes, and nobody reads along."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hsframework.client import Client, HandshakeOptions
from hsframework.errors import HandshakeError, HsframeworkError, RequestRefused
from hsframework.supervisor import plugin_names

START = 30.0
STOP = 30.0
"""Seconds that it has at most."""


@contextmanager
def running_service(
    plugin: str, configure: Callable[[Path], str], ready: Callable[[Path], bool]
) -> Iterator[tuple[Path, int]]:
    """The folder of its sockets, and the process above all of its own.

    ``plugin``: of what is installed, this alone, so that no other's agent starts beside the measurement.
    ``configure``: the configuration, by the folder for its files, without what is set here.  ``ready``: asked with the
    folder of the sockets until it is.
    """
    with tempfile.TemporaryDirectory(prefix="hsframework-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        file, runtime = folder / "hsframework.toml", folder / "run"
        others = [name for name in plugin_names() if name != plugin]
        file.write_text(f'runtime-dir = "{runtime}"\nblocked-plugins = {others}\n{configure(folder)}')
        process = subprocess.Popen([sys.executable, "-m", "hsframework", "run", "--config", str(file)])
        try:
            deadline = time.perf_counter() + START
            while not ready(runtime):
                if process.poll() is not None or time.perf_counter() > deadline:
                    raise SystemExit("the service did not start")
                time.sleep(0.01)
            yield runtime, process.pid
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


def descendants(pid: int) -> Iterator[int]:
    """Every process below this one, each before its own."""
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        yield child
        yield from descendants(child)
