"""Messages between the supervisor and its children: what goes which way, and nothing else does."""

from __future__ import annotations

import errno
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from hsframework.errors import MessageError
from hsframework.local import control, control_socket
from hsframework.local.control import (
    DIRECTIONS,
    DISPATCHER_TO_SUPERVISOR,
    KEEPER_TO_SUPERVISOR,
    SUPERVISOR_TO_KEEPER,
    AgentStarted,
    CellAlive,
    CellCounted,
    CellTerms,
    Counted,
    DispatcherAlive,
    Failed,
    FromKeeper,
    Go,
    Guest,
    Idle,
    Introduction,
    KeeperAlive,
    Known,
    Loaded,
    NewTerms,
    NotRead,
    NotTaken,
    Offer,
    ReadAgain,
    ReaderAlive,
    Ready,
    ReloadWanted,
    Renewed,
    ServeCell,
    Served,
    Serving,
    TermsRead,
    ToKeeper,
    WorkerDied,
    WorkerJoined,
    WorkerLink,
    WorkerWanted,
)
from hsframework.local.control_form import (
    LONGEST_NAME,
    LONGEST_TEXT,
    MAX_MESSAGE,
    MOST_NAMES,
    MOST_NUMBERS,
    Direction,
    Message,
)
from hsframework.local.control_socket import ControlSocket

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
NAMES = st.lists(TEXTS, max_size=20).map(tuple)
NUMBERS = st.integers(-(1 << 31), (1 << 32) - 1)
MESSAGES: tuple[st.SearchStrategy[Message], ...] = (
    st.builds(AgentStarted, TEXTS, st.none() | NUMBERS, NAMES),
    st.just(Ready()),
    st.just(Served()),
    st.just(DispatcherAlive()),
    st.just(KeeperAlive()),
    st.builds(Known, TEXTS),
    st.just(Go()),
    st.builds(Loaded, NAMES, NAMES),
    st.builds(Serving, st.lists(NUMBERS).map(tuple)),
    st.builds(WorkerJoined, NUMBERS),
    st.builds(WorkerDied, NUMBERS, NUMBERS),
    st.builds(Failed, TEXTS, NUMBERS),
    st.builds(Introduction, TEXTS),
    st.builds(ServeCell, NUMBERS, TEXTS),
    st.builds(Guest, TEXTS),
    st.builds(Offer, NAMES),
    st.builds(WorkerWanted, TEXTS),
    st.builds(WorkerLink, NUMBERS, NAMES),
    st.just(CellAlive()),
    st.builds(Idle, NUMBERS),
    st.builds(Counted, TEXTS, *[st.lists(NUMBERS, max_size=20).map(tuple)] * 3),
    st.builds(CellCounted, TEXTS, *[st.lists(NUMBERS, max_size=20).map(tuple)] * 3),
    st.builds(ReadAgain, NUMBERS),
    st.builds(TermsRead, TEXTS, NUMBERS),
    st.builds(NotRead, TEXTS, NUMBERS),
    st.just(ReaderAlive()),
    st.builds(ReloadWanted, NUMBERS),
    st.builds(NewTerms, TEXTS, NUMBERS),
    st.builds(NotTaken, TEXTS, NUMBERS),
    st.just(Renewed()),
    st.builds(CellTerms, TEXTS),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
)
FIELDS = (
    "event",
    "name",
    "uid",
    "groups",
    "protocols",
    "pids",
    "pid",
    "status",
    "message",
    "listener",
    "cell",
    "group",
    "part",
    "order",
)
EVENTS = tuple(event for direction in DIRECTIONS for event in direction.messages)
EVERY_DIRECTION = pytest.mark.parametrize(
    "direction", DIRECTIONS, ids=[f"{item.sender}-{item.receiver}" for item in DIRECTIONS]
)


def kinds(root: type[Message] = Message) -> set[type[Message]]:
    """Return every message that is defined."""
    return set(root.__subclasses__())


def test_every_message_goes_one_way() -> None:
    """Each is listed once in the table, and has a name of its own."""
    listed = [message for direction in DIRECTIONS for message in direction.messages.values()]
    assert len(listed) == len(set(listed)) == len(set(EVENTS))
    assert {message.__name__ for message in listed} == {kind.__name__ for kind in kinds()}


def test_the_drawn_protocol_is_the_table() -> None:
    """The drawing at the module's head has each message between the right two, and pointing the right way."""
    drawn = set()
    first, rest = (control.__doc__ or "").split("\n    reader ")
    second, third = rest.split("\n    cell ")
    for drawing, outer in ((first, "dispatcher"), (second, "reader"), (third, "cell")):
        for before, tail, name in re.findall(r"│( +│)?([◄─])─+ (\w+) ─+[►─]│", drawing):
            left, right = ("supervisor", "keeper") if before else (outer, "supervisor")
            drawn.add((right, left, name) if tail == "◄" else (left, right, name))
    table = {(item.sender, item.receiver, kind.__name__) for item in DIRECTIONS for kind in item.messages.values()}
    assert drawn == table


@EVERY_DIRECTION
@given(message=st.one_of(*MESSAGES))
def test_there_and_back(direction: Direction[Any], message: Message) -> None:
    """A message that may go this way arrives as it was; one that may not is refused at both ends."""
    if type(message) in direction.messages.values():
        assert direction.decode(direction.encode(message)) == message
    else:
        with pytest.raises(MessageError, match=f"not sent by the {direction.sender} to the {direction.receiver}"):
            direction.encode(message)
        with pytest.raises(MessageError, match=f"not sent by the {direction.sender} to the {direction.receiver}"):
            direction.decode(message.encode())


def decoded(direction: Direction[Any], data: bytes) -> Message | None:
    """Decode the message of these bytes; None: they are refused."""
    try:
        return direction.decode(data)  # type: ignore[no-any-return]
    except MessageError as error:
        str(error).encode()  # can be logged
        assert len(str(error)) < 500
        return None


@EVERY_DIRECTION
@given(data=st.binary())
@example(data=b"\xef\xbb\xbf{}")
@example(data=b'{"event": "go"')
@example(data=b"NaN")
def test_any_bytes(direction: Direction[Any], data: bytes) -> None:
    """They are refused with MessageError, and with nothing else."""
    assert decoded(direction, data) is None


@EVERY_DIRECTION
@given(values=st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(EVENTS) | JSON))
def test_any_json(direction: Direction[Any], values: dict[str, Any]) -> None:
    """An object is one of the direction's messages, of the same content, or it is refused."""
    message = decoded(direction, json.dumps(values).encode())
    if message is not None:
        assert type(message) is direction.messages[values["event"]]
        assert json.loads(message.encode()) == values


@given(message=st.one_of(MESSAGES[4:]), position=st.integers(0), value=st.integers(0, 255))
def test_a_byte_that_has_changed(message: Message, position: int, value: int) -> None:
    """Gives another message or MessageError."""
    data = bytearray(message.encode())
    data[position % len(data)] = value
    decoded(KEEPER_TO_SUPERVISOR, bytes(data))


@given(message=st.one_of(MESSAGES[4:]), length=st.integers(0))
def test_a_message_that_was_cut(message: Message, length: int) -> None:
    """A message that was cut is none."""
    data = message.encode()
    assert decoded(KEEPER_TO_SUPERVISOR, data[: length % len(data)]) is None


@pytest.mark.parametrize("shape", ["[", '{"a":', '{"event":"worker-joined","pid":'])
@pytest.mark.parametrize("depth", [10, 300, *range(900, 1000, 3), 5_000, 9_000])
def test_deep_nesting(shape: str, depth: int) -> None:
    """A message of any depth that can be read can also be shown in the error."""
    opened, closed = ("[", "]") if shape != '{"a":' else ('{"a":', "}")
    data = opened * depth + "1" + closed * depth
    if shape.startswith('{"event"'):
        data = f"{shape}{data}}}"
    assert decoded(KEEPER_TO_SUPERVISOR, data.encode()) is None


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not a JSON object"),
        (b"no JSON", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"\xff\xfe", "not a JSON object"),
        (b"{}", "None: not sent by the keeper"),
        (b'{"event": ["loaded"]}', "not sent by the keeper"),
        (b'{"event": "nothing"}', "not sent by the keeper"),
        (b'{"event": "known", "name": "agent of toy"}', "not sent by the keeper"),
        (b'{"event": "loaded"}', "are the fields"),
        (b'{"event": "loaded", "protocols": [], "groups": [], "more": 1}', "are the fields"),
        (b'{"event": "loaded", "protocols": 5, "groups": []}', "protocols is 5"),
        (b'{"event": "loaded", "protocols": [], "groups": "toy"}', "groups is 'toy'"),
        (b'{"event": "loaded", "protocols": [], "groups": {"toy": 1}}', "groups is {'toy': 1}"),
        (b'{"event": "loaded", "protocols": [], "groups": [1]}', r"groups is \(1,\)"),
        (b'{"event": "loaded", "protocols": [], "groups": ["\\ud800"]}', "groups is "),
        (b'{"event": "worker-joined", "pid": "1"}', "pid is '1'"),
        (b'{"event": "worker-joined", "pid": 1.0}', "pid is 1.0"),
        (b'{"event": "worker-joined", "pid": true}', "pid is True"),
        (b'{"event": "worker-joined", "pid": null}', "pid is None"),
        (b'{"event": "worker-joined", "pid": 4294967296}', "pid is 4294967296"),
        (b'{"event": "worker-joined", "pid": ' + b"1" * 5000 + b"}", "not a JSON object"),
        (b'{"event": "worker-joined", "pid": 1, "pid": 1}', "there twice"),
        (b'{"event": "go", "event": "worker-joined", "pid": 1}', "there twice"),
        (b'{"event": "worker-joined", "pid": 1}' + b" " * MAX_MESSAGE, f"at most {MAX_MESSAGE}"),
    ],
)
def test_what_is_not_a_message(data: bytes, problem: str) -> None:
    """Each says what is wrong with it."""
    with pytest.raises(MessageError, match=problem):
        KEEPER_TO_SUPERVISOR.decode(data)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Loaded(("x" * LONGEST_TEXT,) * 15, ("y" * LONGEST_TEXT,)),
        lambda: Known("x" * (LONGEST_TEXT + 1)),
        lambda: Known("\udcff"),
        lambda: Known(5),  # type: ignore[arg-type]
        lambda: Serving([1]),  # type: ignore[arg-type]
        lambda: AgentStarted("toy", True, ()),
        lambda: WorkerJoined(1 << 32),
    ],
)
def test_a_message_that_cannot_be_made(make: Any) -> None:
    """A message that could not be sent or read is refused where it is made."""
    with pytest.raises(MessageError):
        make()


def test_the_longest_message_that_can_be_made() -> None:
    """It fills a packet to the last byte, and one byte more is refused, with the number of bytes."""
    texts = ["\U0001f600" * LONGEST_NAME] * (MAX_MESSAGE // (4 * LONGEST_NAME + 4))
    rest = MAX_MESSAGE - len(AgentStarted("", None, tuple(texts)).encode())
    assert len(AgentStarted("x" * rest, None, tuple(texts)).encode()) == MAX_MESSAGE
    with pytest.raises(MessageError, match=f"^agent: {MAX_MESSAGE + 1} bytes; at most {MAX_MESSAGE} go into a message"):
        AgentStarted("x" * (rest + 1), None, tuple(texts))


def test_lists_are_bounded() -> None:
    """A keeper that names more groups than any plugin has, or a longer name, breaks the protocol: each costs memory."""
    names = tuple(f"g{number}" for number in range(MOST_NAMES + 1))
    Loaded(names[1:], ("x" * LONGEST_NAME,))
    for groups, protocols in ((names, ()), ((), ("x" * (LONGEST_NAME + 1),))):
        with pytest.raises(MessageError, match="loaded: "):
            Loaded(groups, protocols)
    with pytest.raises(MessageError):
        Serving(tuple(range(MOST_NUMBERS + 1)))


def test_a_wrong_value_is_shown_short() -> None:
    """80 characters at most, also of a value that is nested or long."""
    for value in (["y" * 50] * 50, b"z" * 1000, dict.fromkeys(map(str, range(1000)), "v" * 40)):
        with pytest.raises(MessageError) as refused:
            Known(value)  # type: ignore[arg-type]
        shown = str(refused.value).removeprefix("known: name is ")
        assert len(shown) <= 80
    assert len(shown) == 80


@given(st.text(st.characters(), max_size=50))
@example("\udcff" * LONGEST_TEXT)
@example("\0" * LONGEST_TEXT)
@example("\U0001f600" * 2 * LONGEST_TEXT)
def test_any_reason_to_fail(text: str) -> None:
    """An error's text can be sent, whatever is in it."""
    message = Failed.because(OSError(text), 2)
    assert KEEPER_TO_SUPERVISOR.decode(message.encode()) == message


@contextmanager
def ends() -> Iterator[tuple[ControlSocket[ToKeeper, FromKeeper], socket.socket]]:
    """Make the supervisor's end with a keeper, and the keeper's plain socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setblocking(False)
        yield ControlSocket(ours, SUPERVISOR_TO_KEEPER, KEEPER_TO_SUPERVISOR), theirs


def test_messages_over_a_socket() -> None:
    """One packet each, in their order; what was sent before the end arrives."""
    with ends() as (supervisor, theirs):
        keeper = ControlSocket(theirs, KEEPER_TO_SUPERVISOR, SUPERVISOR_TO_KEEPER)
        assert supervisor.receive() is None
        assert keeper.send(WorkerJoined(7))
        assert keeper.send(Serving((7,)))
        assert supervisor.send(Go())
        assert keeper.receive() == Go()
        keeper.close()
        assert (supervisor.receive(), supervisor.receive()) == (WorkerJoined(7), Serving((7,)))
        with pytest.raises(EOFError):
            supervisor.receive()
        assert not supervisor.send(Go())


def test_the_longest_message_over_a_socket() -> None:
    """It goes into one packet of the default buffer; one byte more is refused by the receiver."""
    with ends() as (supervisor, theirs):
        packet = WorkerJoined(7).encode()
        theirs.send(packet.ljust(MAX_MESSAGE))
        assert supervisor.receive() == WorkerJoined(7)
        theirs.send(packet.ljust(MAX_MESSAGE + 1))
        with pytest.raises(MessageError, match="more than"):
            supervisor.receive()


def test_a_receiver_that_does_not_read() -> None:
    """Its messages are lost, which the sender is told; nobody waits."""
    with ends() as (supervisor, theirs):
        number = 0
        while supervisor.send(Go()):
            number += 1
        theirs.recv(100)
        assert number > 50
        assert supervisor.send(Go())


def test_file_descriptors_are_refused() -> None:
    """By the kernel, where it can; else they are not installed, and the packet is no message."""
    with ends() as (supervisor, theirs), socket.socket() as passed:
        try:
            socket.send_fds(theirs, [WorkerJoined(7).encode()], [passed.fileno()])
        except PermissionError:
            assert supervisor.receive() is None
        else:
            with pytest.raises(MessageError, match="file descriptors"):
                supervisor.receive()


def test_what_the_dispatcher_sends() -> None:
    """The dispatcher sends the same as before the messages had types, so that packets can be read in a trace."""
    assert json.loads(DISPATCHER_TO_SUPERVISOR.encode(Known("agent of toy"))) == {
        "event": "known",
        "name": "agent of toy",
    }
    assert json.loads(WorkerDied(5, -9).encode()) == {"event": "worker-died", "pid": 5, "status": -9}


def test_a_shortage_of_memory_loses_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message is sent again; after a while the sender is told that it could not be."""
    with ends() as (supervisor, keeper):
        short = Short(supervisor._socket, 3)
        monkeypatch.setattr(supervisor, "_socket", short)
        assert supervisor.send(Go())
        assert keeper.recv(100) == Go().encode()
        short.failures = 1
        monkeypatch.setattr(control_socket, "SEND_TIME", 0.0)
        with pytest.raises(OSError, match="short"):
            supervisor.send(Go())
        keeper.close()
        assert not supervisor.send(Go())


class Short:
    """A socket for whose next messages the kernel has no memory."""

    def __init__(self, sock: socket.socket, failures: int) -> None:
        self._sock = sock
        self.failures = failures

    def send(self, data: bytes, flags: int) -> int:
        """Fail, or send."""
        if self.failures:
            self.failures -= 1
            raise OSError(errno.ENOBUFS, "short")
        return self._sock.send(data, flags)
