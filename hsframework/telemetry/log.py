"""Logging: structlog events as lines on stderr.

* No line contains a secret.  Bytes and :class:`~hsframework.interface.Secret` are replaced by their length at any depth
  of an event's values, and the text of an exception with bytes among its arguments is left out.
* No file is opened once logging is set up: a traceback has function names and line numbers, but no source lines.
  Warnings and errors that Python itself would print with source lines (in destructors and threads) become events.
* A line is written whole or dropped: if the reader of stderr has stopped, the process waits at most :data:`PATIENCE`
  once, and the number of dropped lines is written when the reader continues.
* Where stderr is the journal's, each event goes there with its fields and its priority, and without time, level and
  process id, which the journal has itself (:mod:`hsframework.telemetry.journal`).
* Repeated events are counted (:mod:`hsframework.telemetry.repeats`).
* Text that a peer chose, such as a name in a certificate, cannot forge a line: characters that are not printable are
  escaped.
"""

from __future__ import annotations

import contextlib
import enum
import json
import linecache
import logging
import os
import select
import socket
import stat
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from pathlib import PurePath
from types import TracebackType
from typing import Any, TextIO

import structlog

from hsframework.interface import Secret
from hsframework.telemetry.journal import JournalSocket, is_journal, with_priority
from hsframework.telemetry.repeats import Repeats

PATIENCE = 0.1
"""Seconds that a line waits for the reader; after a dropped line, the next ones do not wait."""

MAX_TEXT = 4000
"""Characters of one value; a longer one is cut."""

_OF_THE_JOURNAL = frozenset({"timestamp", "level", "pid"})
"""Members of an event that the journal has itself."""
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_PLAIN = frozenset({type(None), bool, int, float})
"""Types of values that are rendered as they are."""
_encode = json.JSONEncoder(ensure_ascii=False).encode
_MAX_DEPTH = 6
_MAX_ITEMS = 64
_MAX_FRAMES = 30
_MAX_CAUSES = 4
_Event = MutableMapping[str, Any]


def configure(level: str = "info", format: str = "console", *, fd: int = 2) -> None:
    """Set up logging for this process and those that it forks.

    ``level``: debug, info, warning or error.  ``format``: json or console.  ``fd`` stays the caller's.
    """
    writer = LineWriter(fd)
    number = _LEVELS[level]
    journal = is_journal(fd, os.environ)
    render = render_json if format == "json" else render_for_journal if journal else render_console
    structlog.configure(
        processors=[
            _add_origin,
            Repeats(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            format_exceptions,
            redact,
            *([ToJournal(JournalSocket(), render)] if journal else []),
            render,
            *([prefix_priority] if journal else []),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *names: _LineLogger(str(names[0]) if names else "hsframework", writer),
        cache_logger_on_first_use=False,
    )
    _adopt_other_logs(number)


class LineWriter:
    """A writer of lines to a terminal, a pipe, a socket or a file, which does not hang if the reader has stopped."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._socket: socket.socket | None = None
        self._missed = 0
        self._opened = False
        mode = os.fstat(fd).st_mode
        self._file = stat.S_ISREG(mode)
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(fd))
        elif stat.S_ISFIFO(mode):
            # An open file description of its own: O_NONBLOCK on the inherited one would affect its other users too.
            with contextlib.suppress(OSError):
                self._fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                self._opened = True

    def write(self, line: str) -> None:
        """Write one line, given without its end.  Raises nothing."""
        if self._missed:
            line = f"({self._missed} log lines were dropped here)\n{line}"
        data = line.encode(errors="backslashreplace") + b"\n"
        try:
            while data and (self._file or self._ready()):
                data = data[self._send(data) :]
        except OSError:
            pass
        self._missed = self._missed + 1 if data else 0

    def close(self) -> None:
        """Close the fds that this object has opened; the given one stays open."""
        if self._socket is not None:
            self._socket.close()
        elif self._opened:
            os.close(self._fd)

    def _send(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        # Without O_NONBLOCK, poll guarantees room for PIPE_BUF bytes only.
        return os.write(self._fd, data if self._file else data[: select.PIPE_BUF])

    def _ready(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(0 if self._missed else PATIENCE * 1000))


class _LineLogger:
    """The logger that structlog calls with a rendered line."""

    def __init__(self, name: str, writer: LineWriter) -> None:
        self.name = name
        self.msg = self.debug = self.info = self.warning = self.error = self.exception = self.critical = writer.write


def _add_origin(logger: Any, method: str, event: _Event) -> _Event:
    event["level"] = "error" if method == "exception" else method
    event["logger"] = getattr(logger, "name", "hsframework")
    event["pid"] = os.getpid()
    return event


def redact(logger: Any, method: str, event: _Event) -> _Event:
    """Replace secrets, and values that cannot be rendered, in an event (a structlog processor)."""
    # Most values are short texts and numbers; a call for each of them is half the price of a line.
    return {
        key: value if (kind := type(value)) in _PLAIN or (kind is str and len(value) <= MAX_TEXT) else _safe(value, 0)
        for key, value in event.items()
    }


def _safe(value: object, depth: int) -> object:
    if isinstance(value, enum.Enum):
        return value.name
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else value[:MAX_TEXT] + "…"
    if isinstance(value, (Secret, bytes, bytearray)):
        return f"<{len(value)} bytes>"
    if isinstance(value, memoryview):
        return f"<{value.nbytes} bytes>"
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, BaseException):
        return exception_text(value)
    if depth < _MAX_DEPTH:
        if isinstance(value, Mapping):
            return {
                str(_safe(key, depth + 1)): _safe(item, depth + 1) for key, item in list(value.items())[:_MAX_ITEMS]
            }
        if isinstance(value, (list, tuple, set, frozenset)):
            return [_safe(item, depth + 1) for item in list(value)[:_MAX_ITEMS]]
    return f"<{type(value).__qualname__}>"


class ToJournal:
    """Processor of structlog that sends each event to the journal with its fields.  ``render``: makes its text.

    It passes on what the journal has not taken, and raises structlog.DropEvent for the rest.
    """

    def __init__(self, journal: JournalSocket, render: Callable[[Any, str, _Event], str]) -> None:
        self._journal = journal
        self._render = render

    def __call__(self, logger: Any, method: str, event: _Event) -> _Event:
        """Send an event that has been redacted."""
        fields = {name: value for name, value in event.items() if name not in _OF_THE_JOURNAL}
        if self._journal.send(self._render(logger, method, dict(event)), method, fields):
            raise structlog.DropEvent
        return event


def render_json(logger: Any, method: str, event: _Event) -> str:
    """Render an event as a JSON object (a structlog processor)."""
    return _encode(event)


def render_for_journal(logger: Any, method: str, event: _Event) -> str:
    """Render an event as ``logger: event key=value`` (a structlog processor)."""
    return _lines(f"{event.pop('logger').removeprefix('hsframework.')}: ", event)


def prefix_priority(logger: Any, method: str, line: Any) -> str:
    """Put the priority before each line of a rendered event, as ``<6>`` (a structlog processor)."""
    return with_priority(line, method)


def render_console(logger: Any, method: str, event: _Event) -> str:
    """Render an event as ``time level logger: event key=value``, with a traceback below it (a structlog processor)."""
    head = f"{event['timestamp']} {event['level']:7} {event.pop('logger')}[{event['pid']}]: "
    return _lines(head, event)


def _lines(head: str, event: _Event) -> str:
    frames = event.pop("exception", None)
    for name in ("timestamp", "level", "pid"):
        event.pop(name, None)
    line = head + _printable(str(event.pop("event", "")))
    line += "".join([f" {_printable(key)}={_word(value)}" for key, value in event.items()])
    if frames:
        line += "".join(f"\n    {_printable(str(frame))}" for frame in frames)
    return line


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(item if item.isprintable() else repr(item)[1:-1] for item in text)


def _word(value: object) -> str:
    if type(value) is float or type(value) is int:
        return repr(value)
    if isinstance(value, str):
        return value if value.isprintable() and value and not _is_quoted(value) else repr(value)
    return repr(value)


def _is_quoted(text: str) -> bool:
    return " " in text or "=" in text or "'" in text or '"' in text


def format_exceptions(logger: Any, method: str, event: _Event) -> _Event:
    """Replace ``exc_info`` by a list of lines under ``exception`` (a structlog processor)."""
    given = event.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event["exception"] = traceback_lines(error)
    return event


def traceback_lines(error: BaseException) -> list[str]:
    """Return an exception with its frames and its causes as lines, without source lines, so that no file is opened."""
    lines: list[str] = []
    cause: BaseException | None = error
    for number in range(_MAX_CAUSES):
        if cause is None:
            break
        lines.append(("caused by " if number else "") + exception_text(cause))
        frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(cause.__traceback__)]
        lines += [f"  in {code.co_qualname} ({code.co_filename}:{line})" for code, line in frames[-_MAX_FRAMES:]]
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return lines


def exception_text(error: BaseException) -> str:
    """Return type and text of an exception; without the text if its arguments have bytes, which may be a key."""
    name = type(error).__qualname__
    if any(isinstance(item, (bytes, bytearray, memoryview, Secret)) for item in error.args):
        return f"{name} (text withheld: it holds bytes)"
    try:
        text = str(error)
    except Exception:
        return f"{name} (it has no text)"
    return f"{name}: {text[:MAX_TEXT]}" if text else name


def forbid_source_reading() -> None:
    """Prevent all code of this process from reading source files for a traceback."""
    linecache.clearcache()
    linecache.updatecache = lambda filename, module_globals=None: []
    linecache.checkcache = lambda filename=None: None


_ABOUT_NOTHING_HERE = "pyroute2.netlink.rtnl."
"""It warns at its import that traffic control, which is not used, is limited where /proc/net is not to be seen."""


class _Adopted(logging.Handler):
    """A handler that passes records of the logging module to structlog.  ``shown``: the configured level."""

    def __init__(self, shown: int) -> None:
        super().__init__()
        self.shown = shown

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(_ABOUT_NOTHING_HERE) and record.levelno < logging.ERROR:
            return
        try:
            text = record.getMessage()
        except Exception:
            text = str(record.msg)
        level = next((name for name in ("error", "warning", "info") if record.levelno >= _LEVELS[name]), "debug")
        values = {"exc_info": record.exc_info} if record.exc_info else {}
        getattr(structlog.get_logger(record.name), level)(text, **values)


def _adopt_other_logs(level: int) -> None:
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, _Adopted):
            root.removeHandler(handler)
    root.addHandler(_Adopted(level))
    # Debug and info records of libraries are left out; some contain the data that they were given.
    root.setLevel(max(level, logging.WARNING))
    warnings.showwarning = _show_warning
    sys.excepthook = _show_exception
    sys.unraisablehook = _show_unraisable
    threading.excepthook = _show_thread_exception


def show_packages(names: Iterable[str]) -> None:
    """Show the records that loggers of these packages make from the configured level on, and not from warning on.

    It is for plugins, whose authors answer for what they log; nothing changes where :func:`configure` was not called.
    """
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Adopted):
            for name in names:
                logging.getLogger(name).setLevel(handler.shown)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _python().warning(str(message), category=category.__name__, where=f"{filename}:{lineno}")


def _show_exception(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        return
    _python().error("an error that nobody handled", exc_info=error)


def _show_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    _python().error("an error in a destructor", exc_info=unraisable.exc_value)


def _show_thread_exception(args: threading.ExceptHookArgs) -> None:
    _python().error("an error ended a thread", exc_info=args.exc_value)


def _python() -> Any:
    return structlog.get_logger("python")
