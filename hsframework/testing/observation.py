"""Observation of a plugin during a test: its log lines, output, file descriptors, tasks and threads."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import io
import json
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any

import structlog

from hsframework.process.forks import FORKS, PROGRAMS
from hsframework.telemetry.log import exception_text, format_exceptions, redact

_LEAST_SECRET = 8
"""Bytes; a shorter secret would be found in any text by chance."""


class Observation:
    """The log events and the output of a block of code."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        """Log events, as the service would write them."""
        self.output = io.StringIO()
        """Text printed to stdout and stderr."""
        self.opened: list[str] = []
        """Files that were opened, and processes that were started, while ``watch_files`` was True."""
        self.watch_files = False

    @property
    def texts(self) -> list[str]:
        """All log events and output, as texts."""
        return [*(json.dumps(event, ensure_ascii=False, default=repr) for event in self.events), self.output.getvalue()]

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
    """Watch structlog, the logging module, stdout, stderr, and opened files while ``watch_files`` is True."""
    seen = Observation()

    def note(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["level"] = "error" if method == "exception" else method
        seen.events.append(dict(redact(logger, method, format_exceptions(logger, method, event))))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[note],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        cache_logger_on_first_use=False,
    )
    handler = _Handler(seen)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)  # administrators may have it so, and what is said there is said
    _watching.append(seen)
    _install_audit()
    try:
        with contextlib.redirect_stdout(seen.output), contextlib.redirect_stderr(seen.output):
            yield seen
    finally:
        _watching.remove(seen)
        root.setLevel(level)
        root.removeHandler(handler)
        structlog.configure(**before)


class _Handler(logging.Handler):
    def __init__(self, seen: Observation) -> None:
        super().__init__()
        self._seen = seen

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        said = "" if error is None else exception_text(error)
        self._seen.events.append({"event": record.getMessage(), "level": record.levelname.lower(), "said": said})


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


def shown_secrets(secrets: Iterable[bytes], texts: Iterable[str]) -> list[str]:
    """Return the texts that contain a secret: as it is, as Python's bytes literal, in hexadecimal or in base64."""
    forms: set[str] = set()
    for secret in secrets:
        if len(secret) >= _LEAST_SECRET:
            forms |= {secret.hex(), secret.hex(":"), repr(secret)[2:-1], secret.decode("latin-1")}
            forms |= {
                base64.b64encode(secret).decode().rstrip("="),
                base64.urlsafe_b64encode(secret).decode().rstrip("="),
            }
    lowered = {form.lower() for form in forms}
    found = []
    for text in texts:
        plain = "".join(text.split())
        if any(form in text or form in plain for form in forms) or any(form in plain.lower() for form in lowered):
            found.append(text)
    return found


class Holdings:
    """The open files, tasks of the running loop and threads of this process at one moment."""

    def __init__(self) -> None:
        gc.collect()
        self._tasks_alive = {task for task in asyncio.all_tasks() if not task.done()}
        self._files = dict(_open_files())
        self._threads = {thread for thread in threading.enumerate() if thread.is_alive()}

    def more_than(self, before: Holdings) -> list[str]:
        """Return the tasks and threads that are new since ``before``, and the kinds of files that have become more."""
        grown = Counter(map(_kind, self._files.values())) - Counter(map(_kind, before._files.values()))
        return [
            *(f"{number} open {kind}" for kind, number in grown.items()),
            *(f"the task {task.get_coro()!r}" for task in self._tasks_alive - before._tasks_alive),
            *(f"the thread {thread.name!r}" for thread in self._threads - before._threads),
        ]


def _open_files() -> Iterator[tuple[int, str]]:
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            yield int(name), os.readlink(f"/proc/self/fd/{name}")


def _kind(target: str) -> str:
    return target.partition(":[")[0]
