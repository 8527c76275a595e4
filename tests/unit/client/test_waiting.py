"""Calls of the blocking client that wait: for their turn, for the socket's timeout, for the end of the client."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hsframework.client import AsyncClient, Client, HandshakeOptions, links as links_module, sync as sync_module
from hsframework.client.trusts import LARGE
from hsframework.errors import ClientError, ClientTimeout, RequestRefused
from hsframework.interface import Trust
from tests.unit.client.fake_dispatcher import FakeDispatcher, Submission

Pair = tuple[socket.socket, socket.socket]


def test_the_sockets_timeout_counts(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """settimeout limits the handshake as it limits ssl's: TimeoutError, and the request is withdrawn."""
    dispatcher.on_submit = lambda submission: None
    pair[0].settimeout(0.05)
    with Client(dispatcher.directory) as client, pytest.raises(ClientTimeout, match="socket's timeout") as caught:
        client.handshake(pair[0], HandshakeOptions(timeout=60))
    assert caught.value.errno == errno.ETIMEDOUT
    dispatcher.gone.get(timeout=10)


def test_a_full_queue_of_connections_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client waits its turn while others fill the queue, and for no longer than it may."""
    path = tmp_path / "consumer.sock"
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        server.bind(str(path))
        server.listen(0)
        full = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        full.connect(str(path))
        monkeypatch.setattr(sync_module, "CONNECT_TIMEOUT", 0.05)
        with pytest.raises(ClientError, match="takes no connections") as caught:
            Client(path).connect()
        assert caught.value.errno == errno.ETIMEDOUT
        monkeypatch.setattr(sync_module, "CONNECT_TIMEOUT", 60)
        waiting = Client(path)
        thread = threading.Thread(target=waiting.connect)
        thread.start()
        accepted = [opened.enter_context(server.accept()[0]) for _ in range(2)]
        thread.join()
        waiting.close()
        assert accepted[1].recv(1) == b""


def test_a_nonblocking_socket_sets_no_limit(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """A program with an event loop of its own may run the handshake in a thread."""
    pair[0].setblocking(False)
    with Client(dispatcher.directory) as client:
        assert client.handshake(pair[0], HandshakeOptions()).protocol == "tiny"


def test_a_shorter_timeout_of_the_options_goes_first(
    dispatcher: FakeDispatcher, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text names the limit that ended the call."""
    monkeypatch.setattr(sync_module, "GRACE", 0.05)
    dispatcher.on_submit = lambda submission: None
    pair[0].settimeout(60)
    with Client(dispatcher.directory) as client, pytest.raises(TimeoutError, match="is it hung"):
        client.handshake(pair[0], HandshakeOptions(timeout=0.05))


def test_close_ends_the_calls_that_wait(dispatcher: FakeDispatcher) -> None:
    """Those with a link and those without end at once, with the reason."""
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(4) as threads:
        patch.setattr(links_module, "MOST", 2)
        client = Client(dispatcher.directory)
        dispatcher.on_submit = lambda submission: None
        pairs = [socket.socketpair() for _ in range(4)]
        calls = [threads.submit(client.handshake, near, HandshakeOptions()) for near, _ in pairs]
        for _ in range(2):
            dispatcher.seen.get(timeout=10)
        client.close()
        errors = [call.exception(timeout=10) for call in calls]
        assert all(isinstance(error, ClientError) and "client" in str(error) for error in errors), errors
        assert {getattr(error, "errno", None) for error in errors} == {errno.ECONNRESET, errno.EBADF}
        assert dispatcher.seen.empty()
        for end in (each for pair in pairs for each in pair):
            end.close()


def test_callers_beyond_the_limit_wait_their_turn(dispatcher: FakeDispatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty calls over four links: all succeed, and no fifth link is made."""
    monkeypatch.setattr(links_module, "MOST", 4)
    four = threading.Barrier(4, timeout=20)

    def answer(submission: Submission) -> None:
        four.wait()
        submission.result()

    dispatcher.on_submit = answer
    pairs = [socket.socketpair() for _ in range(40)]
    with Client(dispatcher.directory) as client, ThreadPoolExecutor(40) as threads:
        calls = [threads.submit(client.handshake, near, HandshakeOptions()) for near, _ in pairs]
        assert [call.result(timeout=30).protocol for call in calls] == ["tiny"] * 40
    assert len(dispatcher.connections) == 4
    for end in (each for pair in pairs for each in pair):
        end.close()


def test_few_links_are_kept(dispatcher: FakeDispatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a burst the links are there for other programs of the user."""
    monkeypatch.setattr(links_module, "MOST_IDLE", 1)
    both = threading.Barrier(2, timeout=20)

    def answer(submission: Submission) -> None:
        both.wait()
        submission.result()

    dispatcher.on_submit = answer
    pairs = [socket.socketpair() for _ in range(2)]
    with Client(dispatcher.directory) as client, ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda pair: client.handshake(pair[0], HandshakeOptions()), pairs))
        dispatcher.gone.get(timeout=10)
        assert dispatcher.gone.empty()
    for end in (each for pair in pairs for each in pair):
        end.close()


class Full(FakeDispatcher):
    """A dispatcher that closes the first links unread, as one does where a user has all the links it may have."""

    unread = 3

    def _serve(self, connection: socket.socket) -> None:
        if self.unread:
            self.unread -= 1
            connection.recv(1, socket.MSG_PEEK)
            connection.close()
            return
        super()._serve(connection)


@pytest.mark.parametrize("trust", [None, Trust((b"anchor",), (b"list" * LARGE,))])
def test_a_request_that_was_not_read_is_sent_again(tmp_path: Path, pair: Pair, trust: Trust | None) -> None:
    """Links that are closed unread cost a pause, and no outcome is unknown; a large trust goes over each link."""
    full = Full(tmp_path)
    with full:
        client = Client(full.directory)
        options = HandshakeOptions(trust=trust, any_peer_name=trust is not None)
        assert client.handshake(pair[0], options).protocol == "tiny"
        client.close()
        assert full.unread == 0
    came = [full.seen.get_nowait().message.operation for _ in range(full.seen.qsize())]
    assert came == (["submit"] if trust is None else ["trust", "submit"])


def test_a_service_that_stays_full_refuses_in_words(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RequestRefused (EAGAIN) after the queue's time: the socket is as it was, and the text says what to change."""
    monkeypatch.setattr(sync_module, "QUEUE", 0.05)
    full = Full(tmp_path)
    with full:
        full.unread = 10**6
        client = Client(full.directory)
        with pytest.raises(RequestRefused, match="connections-per-user") as caught:
            client.handshake(pair[0], HandshakeOptions())
        assert caught.value.errno == errno.EAGAIN
        client.close()


def test_close_of_the_asyncio_client_says_so(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """Not the dispatcher closed the link."""

    async def scene() -> None:
        client = AsyncClient(dispatcher.directory)
        call = asyncio.ensure_future(client.handshake(pair[0], HandshakeOptions()))
        await asyncio.to_thread(dispatcher.seen.get)
        client.close()
        with pytest.raises(ClientError, match="the client was closed"):
            await call

    dispatcher.on_submit = lambda submission: None
    asyncio.run(scene())
