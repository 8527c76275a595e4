"""The blocking client against a dispatcher that does what the test says."""

from __future__ import annotations

import errno
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hsframework.client import Client, HandshakeOptions, sync as sync_module
from hsframework.errors import ConfigurationError, HandshakeError, HsframeworkError, RequestRefused
from hsframework.interface import Secret
from tests.unit.client.fake_dispatcher import SUCCESS, FakeDispatcher, Submission

Pair = tuple[socket.socket, socket.socket]


def test_a_handshake(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """The dispatcher gets the very socket; the consumer its session, and keeps the socket."""
    inode = os.fstat(pair[0].fileno()).st_ino
    inodes: list[int] = []

    def answer(submission: Submission) -> None:
        inodes.extend(os.fstat(fd).st_ino for fd in submission.fds)
        submission.result()

    dispatcher.on_submit = answer
    with Client(dispatcher.directory) as client:
        session = client.handshake(pair[0], HandshakeOptions(peer_name="server.example"))
    assert inodes == [inode]
    assert session.raw_parameters == Secret(b"\x01\x02")
    pair[0].sendall(b"still open")
    assert pair[1].recv(100) == b"still open"


def test_the_socket_itself_may_be_named(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """A path to the socket does as well as its folder."""
    with Client(dispatcher.path) as client:
        assert client.handshake(pair[0], HandshakeOptions()).protocol == "tiny"


@pytest.mark.parametrize(
    ("number", "text", "hint"),
    [
        (errno.ESRCH, "", "hsframework run"),
        (errno.ESRCH, "nobody is here", "nobody is here"),
        (errno.EAGAIN, "", "try again"),
        (errno.EACCES, "", "allow"),
        (errno.EPERM, "", "EPERM"),
    ],
)
def test_a_refusal_has_its_errno_and_a_text(
    dispatcher: FakeDispatcher, pair: Pair, number: int, text: str, hint: str
) -> None:
    """The dispatcher's text if it sent one, else what to do about the errno."""
    dispatcher.on_submit = lambda submission: submission.refuse(number, text)
    with Client(dispatcher.directory) as client, pytest.raises(RequestRefused, match=hint) as caught:
        client.handshake(pair[0], HandshakeOptions())
    assert caught.value.errno == number


@pytest.mark.parametrize(
    ("values", "number", "text"),
    [
        ({"status": errno.EKEYREJECTED, "message": "wrong name"}, errno.EKEYREJECTED, "wrong name"),
        ({"status": errno.EIO}, errno.EIO, "EIO"),
        ({"status": 100000, "message": "?"}, errno.EIO, "."),
        ({"message": "no status"}, errno.EPROTO, "without a status"),
    ],
)
def test_a_failed_handshake(
    dispatcher: FakeDispatcher, pair: Pair, values: dict[str, Any], number: int, text: str
) -> None:
    """HandshakeError with the result's errno and message; a result that makes no sense is an error too."""
    dispatcher.on_submit = lambda submission: submission.result(values)
    with Client(dispatcher.directory) as client, pytest.raises(HandshakeError, match=text) as caught:
        client.handshake(pair[0], HandshakeOptions())
    assert caught.value.errno == number


def test_after_a_failure_the_connection_serves_the_next(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """One connection for handshakes one after another, whatever their outcome."""
    outcomes: list[dict[str, Any]] = [{"status": errno.EIO}, dict(SUCCESS)]
    dispatcher.on_submit = lambda submission: submission.result(outcomes.pop(0))
    with Client(dispatcher.directory) as client:
        with pytest.raises(HandshakeError):
            client.handshake(pair[0], HandshakeOptions())
        client.handshake(pair[0], HandshakeOptions())
    assert len(dispatcher.connections) == 1


def test_stale_answers_are_passed_over(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """Acknowledgements and results of other numbers do not end a call."""

    def answer(submission: Submission) -> None:
        submission.refuse(0)
        submission.message.sequence += 1
        submission.result({"status": errno.EIO})
        submission.message.sequence -= 1
        submission.result()

    dispatcher.on_submit = answer
    with Client(dispatcher.directory) as client:
        assert client.handshake(pair[0], HandshakeOptions()).protocol == "tiny"


def test_fds_from_the_dispatcher_are_not_kept(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """A file descriptor that nobody asked for does not stay in the consumer's table."""
    dispatcher.on_submit = lambda submission: submission.result(fd=submission.fds[0])
    with Client(dispatcher.directory) as client:
        client.handshake(pair[0], HandshakeOptions())
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            client.handshake(pair[0], HandshakeOptions())
        # The fake may still hold its own copy of the last one or two.
        assert len(os.listdir("/proc/self/fd")) < before + 5
    assert len(dispatcher.connections) == 1


def test_many_threads_share_a_client(dispatcher: FakeDispatcher) -> None:
    """Sixteen threads in a handshake at the same time, each with its own answer."""
    together = threading.Barrier(16, timeout=20)

    def answer(submission: Submission) -> None:
        together.wait()
        submission.result({**SUCCESS, "alpn": submission.message.values["alpn"][0]})

    dispatcher.on_submit = answer
    ends = [socket.socketpair() for _ in range(16)]
    with Client(dispatcher.directory) as client, ThreadPoolExecutor(16) as pool:
        calls = [
            pool.submit(client.handshake, near, HandshakeOptions(alpn=(str(index),)))
            for index, (near, _) in enumerate(ends)
        ]
        assert [call.result().alpn for call in calls] == [str(index) for index in range(16)]
    for end in ends:
        for sock in end:
            sock.close()


def test_dispatcher_gone_in_mid_handshake(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """ECONNRESET at once, not a timeout."""
    dispatcher.on_submit = lambda submission: submission.connection.shutdown(socket.SHUT_RDWR)
    with (
        Client(dispatcher.directory) as client,
        pytest.raises(HsframeworkError, match="closed the connection") as caught,
    ):
        client.handshake(pair[0], HandshakeOptions(timeout=60))
    assert caught.value.errno == errno.ECONNRESET


def test_garbage_from_the_dispatcher(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """EPROTO, and the connection is dropped."""
    dispatcher.on_submit = Submission.garbage
    with Client(dispatcher.directory) as client:
        with pytest.raises(HsframeworkError, match="broke the protocol") as caught:
            client.handshake(pair[0], HandshakeOptions())
        assert caught.value.errno == errno.EPROTO
        dispatcher.on_submit = Submission.result
        assert client.handshake(pair[0], HandshakeOptions()).protocol == "tiny"


def test_a_restarted_dispatcher_is_found_again(tmp_path: Path, pair: Pair) -> None:
    """A connection that was kept and has died costs nothing: the request had not been sent."""
    client = Client(tmp_path)
    with FakeDispatcher(tmp_path):
        client.handshake(pair[0], HandshakeOptions())
    with FakeDispatcher(tmp_path):
        assert client.handshake(pair[0], HandshakeOptions()).protocol == "tiny"
    client.close()


def test_a_hung_dispatcher(dispatcher: FakeDispatcher, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call ends by itself after the timeout and its grace, and withdraws the request by closing the connection."""
    monkeypatch.setattr(sync_module, "GRACE", 0.05)
    dispatcher.on_submit = lambda submission: None
    with Client(dispatcher.directory) as client, pytest.raises(HandshakeError, match="hung") as caught:
        client.handshake(pair[0], HandshakeOptions(timeout=0.05))
    assert caught.value.errno == errno.ETIMEDOUT
    dispatcher.gone.get(timeout=10)


@pytest.mark.parametrize("stale", [False, True])
def test_no_dispatcher(tmp_path: Path, stale: bool) -> None:
    """Without a socket, or with one that nobody listens on: where it was sought, and what to start."""
    if stale:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.bind(str(tmp_path / "consumer.sock"))
        sock.close()
    with pytest.raises(HsframeworkError, match=r"consumer\.sock.*hsframework run") as caught, Client(tmp_path):
        pass
    assert caught.value.errno == errno.ECONNREFUSED


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EACCES says who asks for what."""

    class Denied(socket.socket):
        def connect(self, address: Any) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("hsframework.client.wire.socket.socket", Denied)
    with pytest.raises(HsframeworkError, match=r"may not use.*\[\[allow\]\]") as caught, Client(tmp_path):
        pass
    assert caught.value.errno == errno.EACCES


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    """107 bytes: the text says so."""
    with pytest.raises(ConfigurationError, match="too long for a unix socket"), Client(tmp_path / ("x" * 120)):
        pass


def test_a_closed_client(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """EBADF, as for a closed file."""
    client = Client(dispatcher.directory)
    client.close()
    with pytest.raises(HsframeworkError, match="closed") as caught:
        client.handshake(pair[0], HandshakeOptions())
    assert caught.value.errno == errno.EBADF


def test_a_closed_socket_is_not_taken_for_a_lost_dispatcher(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """The caller's own mistake is said as such."""
    pair[0].close()
    with Client(dispatcher.directory) as client, pytest.raises(RequestRefused, match="socket is closed") as caught:
        client.handshake(pair[0], HandshakeOptions())
    assert caught.value.errno == errno.EBADF


def test_where_the_dispatcher_is_sought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own dispatcher first, the system's if the user has none."""
    own, system = tmp_path / "own", tmp_path / "system"
    own.mkdir()
    system.mkdir()
    monkeypatch.setattr("hsframework.client.wire.configured_runtime_dir", lambda: None)
    monkeypatch.setattr("hsframework.local.places.default_runtime_dir", lambda: own)
    monkeypatch.setattr("hsframework.local.places.SYSTEM_RUNTIME_DIR", system)
    assert Client().path == own / "consumer.sock"
    (system / "consumer.sock").touch()
    assert Client().path == system / "consumer.sock"
    (own / "consumer.sock").touch()
    assert Client().path == own / "consumer.sock"
