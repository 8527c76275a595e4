"""Clients know who answers: the path, the listener, the session in the socket, and the process that asked."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hsframework.client import AsyncClient, Client, HandshakeOptions
from hsframework.client.groups import service_status
from hsframework.configuration import runtime_dir
from hsframework.configuration.runtime_dir import configured_runtime_dir
from hsframework.errors import HandshakeError, HsframeworkError
from hsframework.local import places, trusted
from hsframework.tls import kernel
from tests.unit.client.fake_dispatcher import SUCCESS, FakeDispatcher

OTHER = 60_001
Pair = tuple[socket.socket, socket.socket]
IN_KERNEL = {"status": 0, "protocol": "tls13", "in-kernel": True}

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="other users' files and processes are made by root")


def fork() -> int:
    """Fork although the dispatcher of the tests has threads: nothing of theirs is used in the child."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def handshake(path: Path, sock: socket.socket, **options: Any) -> object:
    with Client(path, **options) as client:
        return client.handshake(sock, HandshakeOptions())


def handshake_async(path: Path, sock: socket.socket, **options: Any) -> object:
    async def run() -> object:
        async with AsyncClient(path, **options) as client:
            return await client.handshake(sock, HandshakeOptions())

    return asyncio.run(run())


both = pytest.mark.parametrize("ask", [handshake, handshake_async])


@as_root
@both
def test_nothing_is_sent_to_a_squatter(dispatcher: FakeDispatcher, pair: Pair, ask: Callable[..., object]) -> None:
    """A folder that another user made first is not used, and he gets neither socket nor keys; named, he is."""
    os.chown(dispatcher.directory, OTHER, OTHER)
    with pytest.raises(HsframeworkError, match=f"belongs to user {OTHER}") as caught:
        ask(dispatcher.directory, pair[0])
    assert caught.value.errno == errno.EPERM
    with pytest.raises(HsframeworkError, match=f"belongs to user {OTHER}"):
        service_status(dispatcher.directory)
    assert dispatcher.seen.empty()
    assert dispatcher.connections == []
    ask(dispatcher.directory, pair[0], dispatcher_user=OTHER)


@contextlib.contextmanager
def listening_as(uid: int, path: Path) -> Iterator[None]:
    """Let a process of another user listen at a path that root has made; it ends at its first packet."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        began, begins = os.pipe()
        pid = fork()
        if not pid:
            os.setresuid(uid, uid, uid)
            listener.listen()
            os.write(begins, b"!")
            took = listener.accept()[0].recv(100)
            os._exit(bool(took))
    os.read(began, 1)
    try:
        yield
    finally:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the other user was sent something"
        os.close(began)
        os.close(begins)


@as_root
@both
def test_the_listener_is_asked_for_its_user(tmp_path: Path, pair: Pair, ask: Callable[..., object]) -> None:
    """A process of another user's to which the socket came some other way is found out before a byte is sent."""
    with (
        listening_as(OTHER, tmp_path / places.CONSUMER_SOCKET),
        pytest.raises(HsframeworkError, match=f"user {OTHER} listens there") as caught,
    ):
        ask(tmp_path, pair[0])
    assert caught.value.errno == errno.EPERM


@both
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_a_session_that_is_not_in_the_kernel(
    dispatcher: FakeDispatcher, pair: Pair, ask: Callable[..., object], family: int
) -> None:
    """The socket is asked, whatever the answer says: it would send plain text."""
    dispatcher.on_submit = lambda submission: submission.result(IN_KERNEL)
    near, far = pair if family == socket.AF_INET else socket.socketpair()
    with near, far, pytest.raises(HandshakeError, match="plain text") as caught:
        ask(dispatcher.directory, near)
    assert caught.value.errno == errno.EIO


@both
def test_a_session_that_is_in_the_kernel(
    dispatcher: FakeDispatcher, pair: Pair, ask: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS_TX and TLS_RX are asked of the very socket, and the session is the caller's."""
    asked: list[object] = []

    def is_planted(getsockopt: Any) -> bool:
        asked.append(getsockopt.__self__)
        return True

    monkeypatch.setattr(kernel, "is_planted", is_planted)
    dispatcher.on_submit = lambda submission: submission.result(IN_KERNEL)
    assert "in the kernel" in repr(ask(dispatcher.directory, pair[0]))
    assert asked == [pair[0]]


def in_a_child(act: Callable[[], object]) -> int:
    """Return the exit status of a forked process: 0 if ``act`` returned, 1 if it raised."""
    pid = fork()
    if not pid:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_client_after_a_fork(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """Parent and child have connections of their own, and the parent's goes on after the child has ended."""
    with Client(dispatcher.directory) as client:
        client.handshake(pair[0], HandshakeOptions())
        assert in_a_child(lambda: client.handshake(pair[0], HandshakeOptions())) == 0
        client.handshake(pair[0], HandshakeOptions())
        assert len(dispatcher.connections) == 2
        assert in_a_child(client.close) == 0
        client.handshake(pair[0], HandshakeOptions())
    assert len(dispatcher.connections) == 2


def test_an_asyncio_client_after_a_fork(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """The child connects anew on its own loop; the parent's link and loop are left as they are."""

    async def run() -> None:
        async with AsyncClient(dispatcher.directory) as client:
            await client.handshake(pair[0], HandshakeOptions())

            def in_the_child() -> None:
                loop = asyncio.new_event_loop()
                asyncio.events._set_running_loop(None)
                loop.run_until_complete(client.handshake(pair[0], HandshakeOptions()))
                client.close()

            assert in_a_child(in_the_child) == 0
            await client.handshake(pair[0], HandshakeOptions())

    asyncio.run(run())
    assert len(dispatcher.connections) == 2


def test_a_call_that_ends_is_withdrawn_although_a_child_lives(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """A copy of the link in a forked process does not keep the request of its parent alive."""
    dispatcher.on_submit = lambda submission: submission.garbage()
    reads, writes = os.pipe()
    client = Client(dispatcher.directory)
    client.connect()
    pid = fork()
    if not pid:
        os.close(writes)
        os.read(reads, 1)
        os._exit(0)
    with pytest.raises(HsframeworkError, match="broke the protocol"):
        client.handshake(pair[0], HandshakeOptions())
    dispatcher.gone.get(timeout=20)
    os.close(writes)
    os.close(reads)
    os.waitpid(pid, 0)


def test_where_a_client_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that is named, else the environment's, else the configuration file's, else the usual places."""
    file = tmp_path / "hsframework.toml"
    monkeypatch.setattr(runtime_dir, "DEFAULT_PATH", file)
    monkeypatch.setattr(places, "default_runtime_dir", lambda: Path("/usual"))
    monkeypatch.setattr(places, "SYSTEM_RUNTIME_DIR", tmp_path / "no service of this machine")
    try:
        for text, found in (
            (None, "/usual"),
            ("runtime-dir = [", "/usual"),
            ("[log]", "/usual"),
            ("runtime-dir = '/configured'", "/configured"),
            ("runtime-dir = 'beside'", f"{tmp_path}/beside"),
        ):
            configured_runtime_dir.cache_clear()
            if text is not None:
                file.write_text(text)
            assert Client().path == AsyncClient().path == Path(found) / "consumer.sock"
        monkeypatch.setenv(places.VARIABLE, "/named")
        assert Client().path == AsyncClient().path == Path("/named/consumer.sock")
        assert Client("/argument").path == Path("/argument/consumer.sock")
    finally:
        configured_runtime_dir.cache_clear()


@as_root
def test_the_environment_names_the_dispatchers_user(
    dispatcher: FakeDispatcher, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dispatcher of a third user is used where the environment says so."""
    os.chown(dispatcher.directory, OTHER, OTHER)
    monkeypatch.setenv(trusted.VARIABLE, str(OTHER))
    dispatcher.on_submit = lambda submission: submission.result(SUCCESS)
    handshake(dispatcher.directory, pair[0])
