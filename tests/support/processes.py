"""Programs as children of a test: what they say is collected as it comes, and can be waited for.

* Both outputs are read all the time by threads, so that a child never blocks on a full pipe.
* Every wait ends when what is waited for happens, when the child ends, or after ``PATIENCE`` with an AssertionError
  that shows what the child has said.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

PATIENCE = 30.0
"""Seconds for anything that takes milliseconds on an idle machine."""


class Program:
    """A child with pipes.  ``command`` is started at once; leaving the block ends it."""

    def __init__(
        self, command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**os.environ, **(env or {})},
        )
        self._changed = threading.Condition()
        self._output = bytearray()
        self._errors = bytearray()
        self._taken = 0
        self._open = 2
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, buffer), daemon=True)
            for pipe, buffer in ((self._process.stdout, self._output), (self._process.stderr, self._errors))
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()

    def _read(self, pipe: object, buffer: bytearray) -> None:
        descriptor = pipe.fileno()  # type: ignore[attr-defined]
        while True:
            try:
                data = os.read(descriptor, 65536)
            except OSError:
                data = b""
            with self._changed:
                if data:
                    buffer += data
                else:
                    self._open -= 1
                self._changed.notify_all()
            if not data:
                return

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def said(self) -> str:
        """Return everything so far: its output, then its errors."""
        with self._changed:
            return (bytes(self._output) + b"\n" + bytes(self._errors)).decode(errors="replace")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until it has said something that matches."""
        expression = re.compile(pattern, re.MULTILINE)
        found: list[re.Match[str]] = []

        def there() -> bool:
            found[:] = list(expression.finditer(self.said()))[:1]
            return bool(found)

        self._wait(there, f"{pattern!r}")
        return found[0]

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes of its standard output."""
        self._wait(lambda: len(self._output) - self._taken >= size, f"{size} bytes")
        with self._changed:
            data = bytes(self._output[self._taken : self._taken + size])
            self._taken += size
        return data

    def wait_for_next(self, data: bytes) -> None:
        """Wait until ``data`` is in its standard output; what is before it is passed over."""
        self._wait(lambda: self._output.find(data, self._taken) >= 0, f"{data!r}")
        with self._changed:
            self._taken = self._output.find(data, self._taken) + len(data)

    def send(self, data: bytes) -> None:
        """Write all of ``data`` to its standard input."""
        assert self._process.stdin is not None
        descriptor = self._process.stdin.fileno()
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def send_in_background(self, data: bytes) -> None:
        """Send the same without waiting until it is taken."""
        threading.Thread(target=self._send_quietly, args=(data,), daemon=True).start()

    def _send_quietly(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.send(data)

    def echo(self) -> None:
        """Write what comes from its standard output to its standard input, from now on."""
        threading.Thread(target=self._pump, daemon=True).start()

    def _pump(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self._output) > self._taken or not self._open)
                data = bytes(self._output[self._taken :])
                self._taken += len(data)
            try:
                self.send(data)
            except (OSError, ValueError):
                return
            if not data:
                return

    def close_input(self) -> None:
        """Close its standard input."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def wait(self) -> int:
        """Return its exit status, once it has ended by itself and all its output is there."""
        status = self._process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return status

    def poll_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something outside the child that gives no event, for as long as the child runs."""
        end = time.monotonic() + PATIENCE
        while not condition():
            try:
                self._process.wait(0.01)
            except subprocess.TimeoutExpired:
                pass
            else:
                assert condition(), f"ended before {what}: {self.said()}"
                return
            assert time.monotonic() < end, f"no {what} within {PATIENCE} s: {self.said()}"

    def kill(self) -> None:
        """Kill it with SIGKILL; its connections are closed by the kernel."""
        self._process.kill()
        self.wait()

    def end(self) -> None:
        """End it with SIGTERM, and SIGKILL for one that does not heed it; nothing stays open."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self.wait()
        self.close_input()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: condition() or not self._open, PATIENCE)
            if condition():
                return
        raise AssertionError(f"{what} did not come: {self.said()}")


def listening_port(pid: int) -> int | None:
    """Return the IPv4 TCP port on which a process listens; None: none yet."""
    sockets = set()
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                sockets.add(os.readlink(entry))
    for fields in _tcp_table():
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
            return _port(fields[1])
    return None


def unread(local: int, remote: int) -> int:
    """Count the bytes that came to a connection (IPv4) between two ports of this machine, and that nobody has read."""
    for fields in _tcp_table():
        if (_port(fields[1]), _port(fields[2])) == (local, remote):
            return int(fields[4].partition(":")[2], 16)
    return 0


def _tcp_table() -> list[list[str]]:
    return [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]


def _port(address: str) -> int:
    return int(address.partition(":")[2], 16)
