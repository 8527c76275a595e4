"""`hsframework run` (or another long-running command) as real processes, watched from outside.

* The service logs JSON at level debug into a pipe that a thread empties, so tests wait for its events.
* Every process of a service is in one session of its own, and is found by that: also those whose parents are gone.
* What /proc shows (open files, memory) comes without events: :func:`until` looks again until it is so.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from hsframework.registry.installed import plugin_names

ROOT = Path(__file__).parents[2]
WAIT = 90.0
"""Seconds after which what should have happened long ago has not: half of a test's time, for a machine under load."""

_PIPE_SIZE = 1 << 20
T = TypeVar("T")


def until(condition: Callable[[], T], what: str, timeout: float = WAIT) -> T:
    """Return the result of ``condition`` once that is true; for what has no event."""
    end = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {timeout} s in vain: {what}"
        time.sleep(0.005)
    return found


class Log:
    """The lines of a pipe, as they come."""

    def __init__(self, fd: int) -> None:
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._over = False
        self._thread = threading.Thread(target=self._read, args=(fd,), daemon=True)
        self._thread.start()

    @property
    def text(self) -> str:
        """Everything so far."""
        with self._changed:
            return "\n".join(self._lines)

    @property
    def mark(self) -> int:
        """The present end, for :meth:`wait` to begin at."""
        with self._changed:
            return len(self._lines)

    def events(self, event: str | None = None, *, since: int = 0, **values: object) -> list[dict[str, Any]]:
        """Return the events with these values."""
        with self._changed:
            lines = self._lines[since:]
        return [found for line in lines if (found := _parse(line)) and _matches(found, event, values)]

    def wait(
        self, event: str | None = None, *, since: int = 0, number: int = 1, timeout: float = WAIT, **values: object
    ) -> dict[str, Any]:
        """Return the event with these values (the last of ``number``), as soon as it is there.

        A value may be a function that says whether the event's is right.
        """
        end = time.monotonic() + timeout
        with self._changed:
            position, found = since, []
            while True:
                for line in self._lines[position:]:
                    if (parsed := _parse(line)) and _matches(parsed, event, values):
                        found.append(parsed)
                        if len(found) == number:
                            return parsed
                position = len(self._lines)
                remaining = end - time.monotonic()
                if remaining <= 0 or self._over:
                    raise AssertionError(f"no {event!r} {values} in:\n" + "\n".join(self._lines))
                self._changed.wait(remaining)

    def end(self) -> str:
        """Return everything, once every writer has closed the pipe."""
        self._thread.join(WAIT)
        assert not self._thread.is_alive(), "somebody holds the log open"
        return self.text

    def _read(self, fd: int) -> None:
        with os.fdopen(fd, encoding="utf-8", errors="replace") as file:
            for line in file:
                with self._changed:
                    self._lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()


def _parse(line: str) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        found = json.loads(line)
        return found if isinstance(found, dict) else None
    return None


def _matches(found: Mapping[str, Any], event: str | None, values: Mapping[str, object]) -> bool:
    return (event is None or found.get("event") == event) and all(
        name in found and (value(found[name]) if callable(value) else found[name] == value)
        for name, value in values.items()
    )


def python_path(*further: Path) -> str:
    """Return PYTHONPATH with these folders before what it has."""
    words = [*map(str, further), str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return os.pathsep.join(dict.fromkeys(filter(None, words)))


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Start programs with SIGINT as a terminal's: a suite in the background ignores it, and they would too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Running:
    """One command of hsframework in a session of its own."""

    program: tuple[str, ...] = ("-m", "hsframework")
    """The words for the interpreter before the command's own."""

    def __init__(self, words: tuple[str, ...], folder: Path, plugins: Path | None = None) -> None:
        self.folder = folder
        self.runtime_dir = folder / "run"
        reader, writer = os.pipe2(os.O_CLOEXEC)
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self._output = tempfile.TemporaryFile(dir=folder)
        with _interruptible():
            self.process = subprocess.Popen(
                [sys.executable, *self.program, *words],
                env={**os.environ, "PYTHONPATH": python_path(*() if plugins is None else (plugins,))},
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=writer,
                cwd=folder,
                start_new_session=True,
            )
        os.close(writer)
        self.log = Log(reader)

    @property
    def pid(self) -> int:
        """Of the process that was started: with `hsframework run`, the supervisor."""
        return self.process.pid

    @property
    def output(self) -> str:
        """Return what was written to stdout."""
        self._output.seek(0)
        return self._output.read().decode()

    def processes(self) -> list[int]:
        """Return the pids of all live processes of the session."""
        return [pid for pid, (state, _, session) in _processes() if session == self.pid and state not in "ZX"]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and wait until nothing is left of it.  The exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(WAIT)
        until(lambda: not self.processes(), "every process has ended")
        return status

    def clean_up(self) -> None:
        """End whatever the test has left behind."""
        for pid in [] if self.process.poll() is not None and not self.processes() else [self.pid, *self.processes()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(WAIT)
        self.log.end()
        self._output.close()


class Service(Running):
    """`hsframework run`, with further words of the command line."""

    def __init__(self, folder: Path, configuration: str = "", plugins: Path | None = None, *words: str) -> None:
        file = write_configuration(folder, configuration)
        super().__init__(("run", "--config", str(file), *words), folder, plugins)

    def wait_for_agents(self, number: int = 1, protocol: str = "tls13", *, since: int = 0) -> None:
        """Wait until so many agents have joined since the mark."""
        self.log.wait("joined", protocol=protocol, number=number, since=since)

    @property
    def dispatcher(self) -> int:
        """The pid of the one that was started last."""
        return int(self.log.events("started", child="dispatcher")[-1]["process"])

    @property
    def reader(self) -> int:
        """The pid of the one that was started last."""
        return int(self.log.events("started", child="reader")[-1]["process"])

    def keeper(self, plugin: str = "tls13") -> int:
        """Return the pid of a plugin's keeper."""
        return int(self.log.events("started", child=f"agent of {plugin}")[-1]["process"])

    def workers(self, plugin: str = "tls13") -> list[int]:
        """Return the pids of a plugin's agent processes."""
        return children(self.keeper(plugin))


def write_configuration(folder: Path, configuration: str = "", *, name: str = "hsframework.toml") -> Path:
    """Write a configuration file whose runtime directory is in the folder."""
    file = folder / name
    log = "" if "[log]" in configuration else '[log]\nlevel = "debug"\nformat = "json"\n'
    file.write_text(f'runtime-dir = "{folder}/run"\n{configuration}\n{log}')
    return file


def only(*plugins: str) -> str:
    """Return the head of a configuration: of the installed plugins, these alone are started."""
    return f"blocked-plugins = {[name for name in plugin_names() if name not in plugins]}\n"


def children(pid: int) -> list[int]:
    """Return the pids of a process's live children."""
    return [child for child, (state, parent, _) in _processes() if parent == pid and state not in "ZX"]


def _processes() -> Iterator[tuple[int, tuple[str, int, int]]]:
    """Yield ``pid, (state, parent, session)`` of every process."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                state, parent, _, session = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[:4]
                yield int(name), (state, int(parent), int(session))


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """Make a temporary folder that agents, who are other users, may enter; its path is short enough for a socket's."""
    folder = Path(tempfile.mkdtemp(prefix="hs-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running_service(
    configuration: str = "", *, plugins: Mapping[str, str] | None = None, agents: int = 1
) -> Iterator[Service]:
    """Run `hsframework run` with as many agents of tls13 as are awaited.

    ``plugins``: source texts by name, installed beside those of the environment, of which tls13 alone is started unless
    the configuration says which are blocked: a test that counts processes and files knows whose they are.
    """
    if "blocked-plugins" not in configuration:
        configuration = only("tls13", *(plugins or {})) + configuration
    with short_folder() as folder:
        for name, source in (plugins or {}).items():
            install_plugin(folder / "site", name, source)
        service = Service(folder, configuration, folder / "site" if plugins else None)
        try:
            service.wait_for_agents(agents)
            yield service
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if service.process.poll() is None:
                    service.process.terminate()
                    service.process.wait(WAIT)
            service.clean_up()


@contextlib.contextmanager
def running(words: tuple[str, ...], folder: Path) -> Iterator[Running]:
    """Run any long-running command; it is ended with the block."""
    process = Running(words, folder)
    try:
        yield process
    finally:
        process.clean_up()


def install_plugin(folder: Path, name: str, source: str) -> None:
    """Install as pip would: a module, and a distribution whose entry point names it."""
    module = f"hs_{name}"
    information = folder / f"{module}-1.dist-info"
    information.mkdir(parents=True)
    folder.chmod(0o755)
    (folder / f"{module}.py").write_text(source)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: hs-{name}\nVersion: 1\n")
    (information / "entry_points.txt").write_text(f"[hsframework]\n{name} = {module}\n")


def install_project(folder: Path, project: Path) -> None:
    """Install as pip would: a project's package, and a distribution with the entry points of its pyproject.toml."""
    table = tomllib.loads((project / "pyproject.toml").read_text())
    name, version = table["project"]["name"], table["project"]["version"]
    for package in table["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        shutil.copytree(project / package, folder / package)
    folder.chmod(0o755)
    information = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{entry} = {module}\n" for entry, module in table["project"]["entry-points"]["hsframework"].items()]
    (information / "entry_points.txt").write_text("[hsframework]\n" + "".join(lines))


# What /proc knows


def open_fds(pid: int) -> int:
    """Count the files that a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def await_fds(pid: int, number: int) -> None:
    """Wait until a process has so many files open."""
    until(lambda: open_fds(pid) == number, f"process {pid} has {open_fds(pid)} files open, where it had {number}")


def settled_fds(pid: int) -> int:
    """Count the files once their number no longer changes: what is closed after a result was told is closed by then."""
    number, same = -1, 0
    while same < 5:
        before, number = number, open_fds(pid)
        same = same + 1 if number == before else 0
        time.sleep(0.01)
    return number


def holds(pid: int, sock: socket.socket) -> bool:
    """True if the process has this very socket open."""
    return f"socket:[{os.fstat(sock.fileno()).st_ino}]" in sockets(pid)


def sockets(pid: int) -> set[str]:
    """Return the sockets that a process has open."""
    return {name for name in _open_files(pid) if name.startswith("socket:")}


def _open_files(pid: int) -> Iterator[str]:
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed since
            yield os.readlink(f"/proc/{pid}/fd/{name}")


def proportional_memory(pid: int) -> int:
    """Return Pss in KiB: shared pages count by the share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has no Pss")


def status_of(pid: int) -> dict[str, str]:
    """Return the fields of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process for the length of the block (SIGSTOP)."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def await_end(pid: int, timeout: float = WAIT) -> None:
    """Wait until a process that is no child of ours has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], timeout)[0], f"process {pid} has not ended"
    finally:
        os.close(fd)


@contextlib.contextmanager
def tcp_pairs(number: int = 1) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Connect so many TCP pairs over loopback; all ends are closed with the block.

    No two ends have the same address, so that an end is known by its address or by its peer's.
    """
    with contextlib.ExitStack() as opened:
        pairs = []
        with contextlib.ExitStack() as listening:
            servers = [listening.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
            for server in servers:
                # Bound first: connect(2) alone may choose a port that another connection to another server has.
                near = socket.create_connection(server.getsockname(), source_address=("127.0.0.1", 0))
                opened.enter_context(near)
                pairs.append((near, opened.enter_context(server.accept()[0])))
        assert len({end.getsockname() for pair in pairs for end in pair}) == 2 * number
        yield pairs
