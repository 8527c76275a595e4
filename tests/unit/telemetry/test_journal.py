"""Events in the journal, with their fields."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from hsframework.telemetry import journal
from hsframework.telemetry.log import configure


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The journal's end of its socket."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.settimeout(10)
        monkeypatch.setattr(journal, "SOCKET", path)
        yield sock


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that stands for the journal's stream, on which lines come."""
    path = tmp_path / "stream"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    status = os.fstat(fd)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    try:
        configure("debug", fd=fd)
        yield path
    finally:
        structlog.reset_defaults()
        os.close(fd)


def decoded(data: bytes) -> dict[str, str]:
    """Decode the journal's native protocol, as systemd documents it."""
    found = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + size], rest[8 + size + 1 :]
        found[name.decode()] = value.decode()
        data = rest
    return found


def test_an_event_has_its_fields(listener: socket.socket, stream: Path) -> None:
    """Text, priority and one field for each value; a value without content has none, and no line is written beside."""
    structlog.get_logger("hsframework.dispatcher").warning("handshake", peer="192.0.2.7:1", rule=None, milliseconds=4.2)
    event = decoded(listener.recv(65536))
    assert event.pop("MESSAGE").startswith("dispatcher: handshake peer=192.0.2.7:1 ")
    assert event == {
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "hsframework",
        "HSFRAMEWORK_EVENT": "handshake",
        "HSFRAMEWORK_LOGGER": "hsframework.dispatcher",
        "HSFRAMEWORK_PEER": "192.0.2.7:1",
        "HSFRAMEWORK_MILLISECONDS": "4.2",
    }
    assert not stream.read_text()


def test_a_value_forges_no_field(listener: socket.socket, stream: Path) -> None:
    """A line break in a text that a peer has chosen, or in a name, begins no field of its own."""
    structlog.get_logger("test").info("handshake", reason="x\nPRIORITY=0\n", **{"odd\nname=": 1})
    event = decoded(listener.recv(65536))
    assert (event["PRIORITY"], event["HSFRAMEWORK_REASON"]) == ("6", "x\nPRIORITY=0\n")
    assert event["HSFRAMEWORK_ODD_NAME_"] == "1"


def test_a_secret_is_in_no_field(listener: socket.socket, stream: Path) -> None:
    """Bytes are as they are in a line: their length."""
    structlog.get_logger("test").info("handshake", key=b"a key")
    assert b"a key" not in listener.recv(65536)


def test_what_the_journal_does_not_take_is_a_line(listener: socket.socket, stream: Path) -> None:
    """While it is gone, and for an event that its socket has no room for."""
    structlog.get_logger("test").info("large", items=["x" * 4000] * 64)
    listener.close()
    structlog.get_logger("test").info("late")
    assert [line[:14] for line in stream.read_text().splitlines()] == ["<6>test: large", "<6>test: late"]


def test_nothing_goes_to_a_file_that_has_the_number(listener: socket.socket, stream: Path) -> None:
    """A child that has closed all that it inherited, and has another socket under the number, writes a line."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        target = next(
            int(name)
            for name in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{name}") and _connected_to(int(name), listener.getsockname())
        )
        os.dup2(ours.fileno(), target, inheritable=False)
        structlog.get_logger("test").info("after that")
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(100)
    assert stream.read_text().startswith("<6>test: after that")


def _connected_to(fd: int, path: str) -> bool:
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            return bool(sock.family == socket.AF_UNIX and sock.getpeername() == path)
    except OSError:
        return False
