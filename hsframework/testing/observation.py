"""Observation of a plugin during a test: its log lines, output, file descriptors, tasks and threads."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
from collections.abc import Iterator, MutableMapping
from typing import Any

import structlog

from hsframework.interface import Secret
from hsframework.process.forks import FORKS, PROGRAMS
from hsframework.telemetry.log import exception_text, format_exceptions, redact

_MOST_OUTPUT = 1 << 24
_LEAST_DIFFERENT = 4
"""Different bytes in a secret; one with fewer (zeros) is found in any text by chance."""


class _Descriptors:
    """The file descriptors 1 and 2, directed into a file while the context is open."""

    def __init__(self) -> None:
        self._file: int | None = None
        self._kept: dict[int, int] = {}
        self._text = ""

    @property
    def text(self) -> str:
        """All that was written to them."""
        if self._file is not None:
            self._text = os.pread(self._file, _MOST_OUTPUT, 0).decode(errors="backslashreplace")
        return self._text

    def __enter__(self) -> None:
        self._file = os.memfd_create("hsframework-output")
        for fd in (1, 2):
            self._kept[fd] = os.dup(fd)
            os.dup2(self._file, fd)

    def __exit__(self, *error: object) -> None:
        assert self._file is not None
        self._text = self.text
        for fd, copy in self._kept.items():
            os.dup2(copy, fd)
            os.close(copy)
        os.close(self._file)
        self._file = None


class Observation:
    """The log events and the output of a block of code."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        """Log events, as the service would write them."""
        self.output = io.StringIO()
        """Text printed to ``sys.stdout`` and ``sys.stderr``."""
        self.descriptors = _Descriptors()
        """Bytes written to the file descriptors 1 and 2."""
        self.secrets: set[bytes] = set()
        """Values of every Secret that was made."""
        self.opened: list[str] = []
        """Files that were opened, and processes that were started, while ``watch_files`` was True."""
        self.watch_files = False

    @property
    def texts(self) -> list[str]:
        """All log events and output, as texts."""
        events = (json.dumps(event, ensure_ascii=False, default=repr) for event in self.events)
        return [*events, self.output.getvalue(), self.descriptors.text]

    @property
    def blames(self) -> list[str]:
        """Errors that the service has logged about the plugin, a short text each."""
        found = [event for event in self.events if event.get("level") == "error" and "plugin" in event]
        return [_shown(event) for event in found]


def _shown(event: dict[str, Any]) -> str:
    exception = event.get("exception") or [event.get("reason", "")]
    return f"{event['event']}: " + "\n    ".join(map(str, exception[:8]))


@contextlib.contextmanager
def observed() -> Iterator[Observation]:
    """Watch structlog, the logging module, stdout, stderr, secrets, and opened files while ``watch_files`` is True.

    Every logger of the logging module is watched at every level, since administrators may have it so.
    """
    seen = Observation()

    def note(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["level"] = "error" if method == "exception" else method
        seen.events.append(dict(redact(logger, method, format_exceptions(logger, method, event))))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[note],
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        cache_logger_on_first_use=False,
    )
    _watching.append(seen)
    _install_audit()
    try:
        with (
            seen.descriptors,
            _records(seen),
            _secrets(seen),
            contextlib.redirect_stdout(seen.output),
            contextlib.redirect_stderr(seen.output),
        ):
            yield seen
    finally:
        _watching.remove(seen)
        structlog.configure(**before)


@contextlib.contextmanager
def _records(seen: Observation) -> Iterator[None]:
    """Note every record of the logging module, also of loggers that are not propagated or have a level of their own."""
    factory, enabled = logging.getLogRecordFactory(), logging.Logger.isEnabledFor
    root = logging.getLogger()
    handlers = root.handlers

    def note(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = factory(*args, **kwargs)
        error = record.exc_info[1] if record.exc_info else None
        said = "" if error is None else exception_text(error)
        seen.events.append({"event": record.getMessage(), "level": record.levelname.lower(), "said": said})
        return record

    logging.setLogRecordFactory(note)
    logging.Logger.isEnabledFor = lambda self, level: True  # type: ignore[method-assign]
    root.handlers = [logging.NullHandler()]  # those of the tests keep every record, and would be taken for a leak
    try:
        yield
    finally:
        root.handlers = handlers
        logging.Logger.isEnabledFor = enabled  # type: ignore[method-assign]
        logging.setLogRecordFactory(factory)


@contextlib.contextmanager
def _secrets(seen: Observation) -> Iterator[None]:
    make = Secret.__init__

    def note(self: Secret, value: bytes | bytearray | memoryview) -> None:
        make(self, value)
        if len(set(self.reveal())) >= _LEAST_DIFFERENT:
            seen.secrets.add(self.reveal())

    Secret.__init__ = note  # type: ignore[method-assign]
    try:
        yield
    finally:
        Secret.__init__ = make  # type: ignore[method-assign]


_watching: list[Observation] = []
_audited = False


def _install_audit() -> None:
    # An audit hook cannot be removed, so one stays for the life of the process, and does nothing without observers.
    global _audited
    if not _audited:
        _audited = True
        sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    found = ""
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        found = os.fsdecode(arguments[0])
    elif event in FORKS:
        found = "(a process, by fork)"
    elif event in PROGRAMS:
        found = f"(the program {arguments[0]!r:.100})"
    for seen in _watching if found else ():
        if seen.watch_files:
            seen.opened.append(found)
