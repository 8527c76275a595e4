"""Logging: no secret, no file, no hang, no forged line."""

from __future__ import annotations

import errno
import json
import linecache
import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from hsframework.errors import HandshakeError
from hsframework.interface import Identity, PresharedKey, Role, Secret
from hsframework.telemetry.log import LineWriter, configure, exception_text, show_packages, traceback_lines

CANARY = b"hunter2hunter2"


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    """Logging as it was."""
    hooks = sys.excepthook, sys.unraisablehook, warnings.showwarning
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    yield
    structlog.reset_defaults()
    sys.excepthook, sys.unraisablehook, warnings.showwarning = hooks
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """An fd to log to, and the file behind it."""
    path = tmp_path / "log"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    yield fd, path
    os.close(fd)


@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_never(lines: tuple[int, Path], form: str) -> None:
    """Secrets, bytes and what holds them, at any depth, as exception arguments and in tracebacks."""
    fd, path = lines
    configure("debug", form, fd=fd)
    log = structlog.get_logger("test")
    secret = Secret(CANARY)
    log.info("one", key=secret, raw=CANARY, view=memoryview(CANARY), array=bytearray(CANARY))
    log.info("two", deep={"a": [{"b": (CANARY, secret)}], CANARY: 1}, psk=PresharedKey(b"id", secret))
    log.info("three", identity=Identity((CANARY,), secret), error=ValueError(CANARY), role=Role.CLIENT)
    try:
        raise KeyError(CANARY)
    except KeyError:
        log.exception("four")
    logging.getLogger("library").error("five %s", ValueError(1), exc_info=ValueError(CANARY))
    text = path.read_text()
    assert text.count("test") >= 4
    assert "hunter2" not in text
    assert CANARY.hex() not in text
    assert "CLIENT" in text


def test_json_lines(lines: tuple[int, Path]) -> None:
    """One object a line: level, logger, event, values; an exception as a list of lines."""
    fd, path = lines
    configure("info", "json", fd=fd)
    log = structlog.get_logger("hsframework.agent")
    log.debug("not shown")
    log.warning("shown", number=3, where=Path("/x"), nothing=None, several={"a"})
    try:
        raise HandshakeError("no", errno=errno.EPERM)
    except HandshakeError:
        log.exception("failed")
    first, second = map(json.loads, path.read_text().splitlines())
    assert {key: first[key] for key in ("level", "logger", "event", "number", "where", "nothing", "several")} == {
        "level": "warning",
        "logger": "hsframework.agent",
        "event": "shown",
        "number": 3,
        "where": "/x",
        "nothing": None,
        "several": ["a"],
    }
    assert second["level"] == "error"
    assert second["exception"][0] == "HandshakeError: no"
    assert "test_json_lines" in second["exception"][1]


def test_a_peer_cannot_forge_lines(lines: tuple[int, Path]) -> None:
    """Line ends and terminal sequences are escaped, in values, names and events."""
    fd, path = lines
    configure("info", "console", fd=fd)
    structlog.get_logger("x").info("event\nforged", name="a\nb\x1b[31m", **{"k\ney": "v"})
    text = path.read_text()
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert r"a\nb\x1b[31m" in text


def test_tracebacks_read_no_source() -> None:
    """An exception is rendered without the source of its frames; its cause is named."""
    linecache.clearcache()
    opened: list[str] = []
    watching = [True]
    sys.addaudithook(lambda event, args: opened.append(event) if watching[0] and event == "open" else None)
    try:
        try:
            raise ValueError("inner")
        except ValueError as inner:
            raise RuntimeError("outer") from inner
    except RuntimeError as error:
        shown = traceback_lines(error)
    watching[0] = False
    assert opened == []
    assert shown[0] == "RuntimeError: outer"
    assert "caused by ValueError: inner" in shown
    assert not any("raise ValueError" in line for line in shown)


def test_exceptions_without_a_text() -> None:
    """Nothing that an exception does while it is rendered gets through."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert exception_text(Odd()).endswith("(it has no text)")
    assert exception_text(ValueError()) == "ValueError"


def test_other_logs_are_adopted(lines: tuple[int, Path]) -> None:
    """Warnings, the standard library's logging and errors that nobody handled become events."""
    fd, path = lines
    configure("info", "json", fd=fd)
    logging.getLogger("asyncio").error("from %s", "a library")
    logging.getLogger("chatty").info("not shown")
    logging.getLogger("pyroute2.netlink.rtnl.tcmsg.common").warning("traffic control, which is not used, is limited")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning(UserWarning("careful"), UserWarning, "f.py", 3)
    sys.excepthook(ValueError, ValueError("nobody caught this"), None)
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [event["event"] for event in events] == ["from a library", "careful", "an error that nobody handled"]
    assert events[2]["exception"] == ["ValueError: nobody caught this"]


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_reader_that_stops_does_not_stop_us(kind: str) -> None:
    """Lines that do not fit are dropped, and counted once there is room again."""
    if kind == "pipe":
        reader, writer = os.pipe()
    else:
        one, two = socket.socketpair()
        reader, writer = one.detach(), two.detach()
    log = LineWriter(writer)
    for number in range(400):
        log.write(f"{number} " + "x" * 2000)
    os.set_blocking(reader, False)
    drained = drain(reader)
    assert drained.startswith("0 xxx")
    log.write("and on")
    assert "log lines were dropped here)\nand on\n" in drain(reader)
    assert os.get_blocking(writer)
    os.close(reader)
    log.write("nobody is there any more")
    log.close()
    os.close(writer)


def drain(fd: int) -> str:
    """Read all that is there."""
    parts = []
    while True:
        try:
            parts.append(os.read(fd, 65536))
        except BlockingIOError:
            return b"".join(parts).decode()


@pytest.mark.parametrize("form", ["console", "json"])
def test_the_journal_gets_priorities(lines: tuple[int, Path], form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the journal's stream, without its socket, each line begins with its level's priority, in tracebacks too."""
    fd, path = lines
    status = os.fstat(fd)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    monkeypatch.setattr("hsframework.telemetry.journal.SOCKET", "/nobody/listens")
    configure("debug", form, fd=fd)
    log = structlog.get_logger("hsframework.agent")
    log.info("ordinary", number=1)
    log.warning("wrong")
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("bad")
    written = path.read_text().splitlines()
    assert [line[:3] for line in written[:3]] == ["<6>", "<4>", "<3>"]
    assert {line[:3] for line in written[3:]} <= {"<3>"}
    if form == "console":
        assert written[0] == "<6>agent: ordinary number=1", "the journal has time, level and process itself"


def test_another_stream_than_the_journals(lines: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that stderr was redirected to gets lines as ever, whatever the environment says of another stream."""
    fd, path = lines
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    configure("debug", "console", fd=fd)
    structlog.get_logger("hsframework.agent").info("ordinary")
    assert path.read_text()[0].isdigit()


def test_a_plugins_own_log_is_shown_at_its_level(lines: tuple[int, Path]) -> None:
    """Loggers below its package from the configured level on; those of others from warning on."""
    fd, path = lines
    plugin = logging.getLogger("hsframework_shown")
    try:
        for level in ("info", "debug", "error"):
            configure(level, "json", fd=fd)
            show_packages(["hsframework_shown"])
            logging.getLogger("hsframework_shown.exchange").debug("a detail at %s", level)
            plugin.info("a fact at %s", level)
            logging.getLogger("hsframework_shown_not").info("of a library")
    finally:
        plugin.setLevel(logging.NOTSET)
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(event["level"], event["event"]) for event in events] == [
        ("info", "a fact at info"),
        ("debug", "a detail at debug"),
        ("info", "a fact at debug"),
    ]
