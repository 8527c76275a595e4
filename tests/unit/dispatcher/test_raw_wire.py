"""ACCEPT and DONE of the raw-netlink form, with a module that the test plays."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from hsframework.dispatcher.sources.kernel import raw, wire
from hsframework.dispatcher.sources.kernel.raw import RawWire
from hsframework.dispatcher.sources.kernel.wire import Accepted, Ending
from hsframework.netlink.messages import Message
from hsframework.netlink.socket import Codec, NetlinkError
from tests.support.house import connected_pair
from tests.unit.dispatcher.test_raw_dialects import number, put

ACCEPT, DONE = 0x12, 0x13
NESTED = 0x8000
OWN, PUBLISHED = "handshake-raw", "handshake-raw-published"


class Module:
    """The answers that it gives, and the requests that it got: type and attributes."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.asked: list[tuple[int, bytes]] = []

    def request(
        self, codec: Codec, operation: str, values: Mapping[str, Any], *, acknowledge: bool = False
    ) -> list[Message]:
        """Stand for RequestSocket.request."""
        data = codec.encode(operation, values, sequence=1)
        kind = struct.unpack_from("=H", data, 4)[0]
        self.asked.append((kind, data[16:]))
        answers, self.answers = self.answers, []
        return [codec.decode(struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body) for body in answers]

    def close(self) -> None:
        """Do nothing."""


class Notifications:
    """Stands for NotificationSocket."""

    def __init__(self, protocol: int) -> None:
        self._fd = os.open("/dev/null", os.O_RDONLY)

    def fileno(self) -> int:
        return self._fd

    def join(self, group: int) -> None:
        """Refuse what a module without the parameter ``protocols`` refuses."""
        if group > 3:
            raise NetlinkError(f"membership of group {group}: EINVAL", errno=errno.EINVAL)

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Module:
    made = Module()
    monkeypatch.setattr(raw, "has_family", lambda _: True)
    monkeypatch.setattr(raw, "RequestSocket", lambda _: made)
    monkeypatch.setattr(wire, "NotificationSocket", Notifications)
    return made


@pytest.fixture
def ours(module: Module) -> Iterator[RawWire]:
    made = RawWire({"tlshd": 1, "mine": 4})
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with connected_pair() as made:
        yield made


def test_a_protocol_that_the_module_has_not(ours: RawWire) -> None:
    """Its group cannot be joined, and the error names the module's parameter and our setting."""
    ours.join("tlshd")
    with pytest.raises(NetlinkError, match=r"load it with protocols=4 or more, or correct 'mine' in \[kernel.raw\]"):
        ours.join("mine")


def test_accept_in_our_dialect(module: Module, ours: RawWire) -> None:
    """The group's number goes out; the status, the socket and the nest come in."""
    nest = number(1, 6) + number(3, 1) + number(5, 1) + put(64, b"dinner\0") + put(65 | NESTED, b"\0\0\0\0")
    module.answers = [number(1, 0) + number(2, 6) + number(3, 4) + put(4 | NESTED, nest)]
    own = put(64, b"dinner\0") + put(65 | NESTED, b"\0\0\0\0")
    assert ours.accept("mine") == Accepted({"message-type": 1, "auth-mode": 1, "sockfd": 6}, own, OWN)
    assert module.asked == [(ACCEPT, number(3, 4))]


def test_accept_in_the_published_dialect(module: Module, ours: RawWire) -> None:
    """A success has no status and no protocol."""
    module.answers = [number(2, 6) + put(4 | NESTED, number(20, 2) + number(21, 2) + put(64, b"x"))]
    accepted = ours.accept("tlshd")
    assert accepted is not None
    assert (accepted.dialect, accepted.mechanism) == (PUBLISHED, put(64, b"x"))
    assert [accepted.values[name] for name in ("sockfd", "message-type", "auth-mode")] == [6, 2, 3]


@pytest.mark.parametrize("status", [1, 2, 4])
def test_accept_is_refused(module: Module, ours: RawWire, status: int) -> None:
    """Any other status than NOTREADY is an error; NOTREADY, and only that, is no request."""
    module.answers = [number(1, 3)]
    assert ours.accept("tlshd") is None
    module.answers = [number(1, status)]
    with pytest.raises(NetlinkError, match="refuses ACCEPT"):
        ours.accept("tlshd")


@pytest.mark.parametrize(
    "nest",
    [
        number(20, 1) + put(21, b"\1"),
        number(20, 1) + b"\xff\xff\xff\xff",
        put(22, b"in\0the text\0"),
        number(3, 1) + put(8, b"in\0the text\0"),
    ],
    ids=["a number of one byte", "malformed", "no marks", "a NUL within a text"],
)
def test_a_request_that_cannot_be_read(module: Module, ours: RawWire, nest: bytes) -> None:
    """Brings its socket and no values, so that it is refused and not forgotten."""
    module.answers = [number(2, 6) + put(4 | NESTED, nest)]
    with capture_logs():
        assert ours.accept("tlshd") == Accepted({"sockfd": 6})


@pytest.mark.parametrize(
    ("dialect", "nest"),
    [(OWN, number(1, 0) + number(3, 7)), (PUBLISHED, number(26, 0) + number(27, 7)), ("", b"")],
)
def test_done(
    module: Module, ours: RawWire, pair: tuple[socket.socket, socket.socket], dialect: str, nest: bytes
) -> None:
    """Names a copy of the socket, with the nest of the request's dialect, a mechanism's own attributes behind."""
    own = number(1, 3) + put(64, b"greeting\0")
    ours.done(pair[0].fileno(), Ending(0, (7,), own, dialect))
    ((kind, body),) = module.asked
    spare = struct.unpack_from("=I", body, 4)[0]
    assert kind == DONE
    assert body == number(2, spare) + put(5 | NESTED, nest + put(64, b"greeting\0"))
    assert spare != pair[0].fileno()
    assert os.path.sameopenfile(spare, pair[0].fileno())
    # The module has closed it: the next DONE has another spare one.
    os.close(spare)
    assert pair[0].send(b"x") == 1


@pytest.mark.parametrize("own", [put(64, bytes(65_530)), put(64, b"text")[:-1]], ids=["too long", "malformed"])
@pytest.mark.parametrize("dialect", [OWN, PUBLISHED])
def test_a_session_that_cannot_be_told(
    module: Module, ours: RawWire, pair: tuple[socket.socket, socket.socket], dialect: str, own: bytes
) -> None:
    """A session that cannot be told is a failure at once, and not a success without its attributes."""
    with capture_logs() as logs:
        ours.done(pair[0].fileno(), Ending(0, (), own, dialect))
    assert [entry["log_level"] for entry in logs] == ["error"]
    os.close(struct.unpack_from("=I", module.asked[0][1], 4)[0])
    assert module.asked[0][1][8:] == put(5 | NESTED, b"")


@pytest.mark.parametrize(
    ("dialect", "status", "ends"),
    [(OWN, errno.EACCES, False), (PUBLISHED, errno.EACCES, True), ("", errno.EIO, True), (PUBLISHED, 0, False)],
)
def test_a_failure_whose_done_is_refused(
    module: Module,
    ours: RawWire,
    pair: tuple[socket.socket, socket.socket],
    dialect: str,
    status: int,
    ends: bool,
) -> None:
    """The socket's last copy will be closed without DONE: where that may be a success, the connection ends first."""
    module.answers = [number(1, 2)]
    with pytest.raises(NetlinkError, match="refuses DONE: badf") as refused:
        ours.done(pair[0].fileno(), Ending(status, dialect=dialect))
    assert refused.value.errno == errno.EBADF
    pair[1].setblocking(False)
    if ends:
        assert pair[1].recv(1) == b""
    else:
        with pytest.raises(BlockingIOError):
            pair[1].recv(1)
    spare = struct.unpack_from("=I", module.asked[0][1], 4)[0]
    assert not os.path.sameopenfile(spare, pair[0].fileno())
