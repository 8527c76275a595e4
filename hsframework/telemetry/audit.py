"""Audit log: events as lines of JSON in a file of their own, written by a thread.

* Nobody waits for the file: a disk that is slow, full or gone costs lines, and no handshake.  How many are lost is
  logged, and written to the file when it takes lines again.
* The file may be rotated from outside: before each write the thread looks if the path still names the file that it has
  open, and opens it anew if not.
* A line is whole or, where a disk was full in its midst, followed by the end of a line: what is no JSON is no event.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from hsframework.telemetry.log import redact, render_json

MOST_WAITING = 10_000
"""Lines that wait for the file; further ones are lost."""

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_log = structlog.get_logger("hsframework.audit")


class AuditLog:
    """Writer of one file.  ``sync``: have each write on the disk (fdatasync) before the next one.

    ``call``: has a function called where events may be logged.  ``problem``: the reason why lines are
    lost now; None: they are not.
    """

    def __init__(
        self, path: Path, *, sync: bool = False, call: Callable[[Callable[[], None]], object] = lambda tell: tell()
    ) -> None:
        self.problem: str | None = None
        self._path = path
        self._sync = sync
        self._call = call
        self._waiting: deque[str] = deque()
        self._lost = 0
        self._counting = threading.Lock()
        """Held for the count of lost lines alone."""
        self._wake = threading.Event()
        self._ends = False
        self._fd = -1
        self._torn = False
        """True if the last line was not written whole."""
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def write(self, fields: Mapping[str, Any]) -> None:
        """Write an event soon; without room for it, it is lost and counted.  Raises nothing."""
        if len(self._waiting) >= MOST_WAITING:
            self._count(1)
        else:
            event = {"timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": "handshake", **fields}
            self._waiting.append(render_json(None, "", redact(None, "", event)))
        self._wake.set()

    def close(self, patience: float = 1.0) -> None:
        """Write what waits, for so many seconds at most, and close the file."""
        self._ends = True
        self._wake.set()
        self._thread.join(patience)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            ends = self._ends
            if self._waiting or self._lost:
                self._write_waiting()
            if ends:
                break
        if self._fd >= 0:
            os.close(self._fd)

    def _write_waiting(self) -> None:
        with self._counting:
            lost, self._lost = self._lost, 0
        lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
        number = lost + len(lines)
        if lost:
            lines.insert(0, render_json(None, "", {"event": "lost", "number": lost}))
        if self._torn:
            lines.insert(0, "")
        data = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
        try:
            self._look()
            written = self._written(data)
            if self._sync:
                os.fdatasync(self._fd)
        except OSError as error:
            self._failed(error.strerror or str(error), number)
            return
        self._torn = written < len(data)
        if self._torn:
            self._failed("there is no room for more", max(0, number - data[:written].count(b"\n")))
        elif lost:
            self.problem = None
            self._tell(lambda: _log.warning("the audit log is written again", file=str(self._path), lost=lost))

    def _look(self) -> None:
        """Have the file open that the path names now.  Raises OSError."""
        if self._fd >= 0:
            own = os.fstat(self._fd)
            try:
                there = os.stat(self._path)
            except FileNotFoundError:
                there = None
            if there is not None and (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino):
                return
            os.close(self._fd)
            self._fd, self._torn = -1, False
        fd = os.open(self._path, _FLAGS, 0o600)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(0, "it is not a regular file")
        self._fd = fd

    def _written(self, data: bytes) -> int:
        """Write as much as there is room for, and return the number of bytes.  Raises OSError if that is none."""
        done = 0
        while done < len(data):
            try:
                done += os.write(self._fd, data[done:])
            except OSError:
                if not done:
                    raise
                break
        return done

    def _failed(self, reason: str, number: int) -> None:
        self._count(number)
        if self.problem is None:
            self._tell(lambda: _log.error("the audit log loses events", file=str(self._path), reason=reason))
        self.problem = reason

    def _tell(self, event: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._call(event)

    def _count(self, number: int) -> None:
        with self._counting:
            self._lost += number
