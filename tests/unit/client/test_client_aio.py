"""The asyncio client against a dispatcher that does what the test says."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hsframework.client import AsyncClient, HandshakeOptions, aio as aio_module
from hsframework.errors import HandshakeError, HsframeworkError, RequestRefused
from tests.unit.client.fake_dispatcher import SUCCESS, FakeDispatcher, Submission
from tests.unit.client.registry import tiny_registry

Pair = tuple[socket.socket, socket.socket]


async def from_thread(get: Callable[[], Any]) -> Any:
    """Return the next item that another thread puts into a queue, without holding the loop up."""
    return await asyncio.wait_for(asyncio.to_thread(get), 10)


def test_handshakes_over_one_connection_in_any_order(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """Answers that come in the reverse order reach their own callers."""
    held: list[Submission] = []

    def answer(submission: Submission) -> None:
        held.append(submission)
        if len(held) == 50:
            for item in reversed(held):
                item.result({**SUCCESS, "alpn": item.message.values["alpn"][0]})

    async def main() -> None:
        async with AsyncClient(dispatcher.directory) as client:
            calls = [client.handshake(pair[0], HandshakeOptions(alpn=(str(index),))) for index in range(50)]
            sessions = await asyncio.gather(*calls)
            assert [session.alpn for session in sessions] == [str(index) for index in range(50)]
            assert client.pending == 0

    dispatcher.on_submit = answer
    asyncio.run(main())
    assert len(dispatcher.connections) == 1


def test_outcomes(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """Refused, failed, then well, on the same connection."""
    answers: list[Callable[[Submission], None]] = [
        lambda submission: submission.refuse(errno.EBUSY, "busy"),
        lambda submission: submission.result({"status": errno.EKEYEXPIRED, "message": "expired"}),
        lambda submission: submission.result(fd=submission.fds[0]),
    ]

    async def main() -> None:
        async with AsyncClient(dispatcher.directory, registry=tiny_registry()) as client:
            with pytest.raises(RequestRefused, match="busy"):
                await client.handshake(pair[0], HandshakeOptions())
            with pytest.raises(HandshakeError, match="expired"):
                await client.handshake(pair[0], HandshakeOptions())
            session = await client.handshake(pair[0], HandshakeOptions())
            assert session.protocol == "tiny"

    dispatcher.on_submit = lambda submission: answers.pop(0)(submission)
    asyncio.run(main())


def test_cancelling_the_caller_withdraws_the_request(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """The dispatcher gets cancel with the submit's number; a result that comes all the same is ignored."""

    async def main() -> None:
        async with AsyncClient(dispatcher.directory) as client:
            task = asyncio.create_task(client.handshake(pair[0], HandshakeOptions()))
            submission = await from_thread(dispatcher.seen.get)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            cancel = await from_thread(dispatcher.seen.get)
            assert cancel.message.operation == "cancel"
            assert cancel.message.values == {"request-id": submission.message.sequence, "reason": errno.ECANCELED}
            assert client.pending == 0
            submission.result({"status": errno.ECANCELED})
            dispatcher.on_submit = Submission.result
            assert (await client.handshake(pair[0], HandshakeOptions())).protocol == "tiny"

    dispatcher.on_submit = lambda submission: None
    asyncio.run(main())


def test_dispatcher_gone(tmp_path: Path, pair: Pair) -> None:
    """All that is pending ends with ECONNRESET; without a dispatcher the next call says so; with a new one it works."""

    async def main() -> None:
        fake = FakeDispatcher(tmp_path, lambda submission: None)
        client = AsyncClient(tmp_path)
        calls = [asyncio.create_task(client.handshake(pair[0], HandshakeOptions(timeout=60))) for _ in range(3)]
        for _ in calls:
            await from_thread(fake.seen.get)
        await asyncio.to_thread(fake.stop)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [getattr(outcome, "errno", None) for outcome in outcomes] == [errno.ECONNRESET] * 3
        assert client.connected is False
        with pytest.raises(HsframeworkError, match="hsframework run"):
            await client.handshake(pair[0], HandshakeOptions())
        with FakeDispatcher(tmp_path):
            assert (await client.handshake(pair[0], HandshakeOptions())).protocol == "tiny"
            client.close()

    asyncio.run(main())


def test_many_first_calls_make_one_connection(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """Calls that find the client unconnected at the same time do not each connect."""

    async def main() -> None:
        client = AsyncClient(dispatcher.directory)
        await asyncio.gather(*(client.handshake(pair[0], HandshakeOptions()) for _ in range(10)))
        client.close()

    asyncio.run(main())
    assert len(dispatcher.connections) == 1


def test_close_ends_what_is_pending(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """No caller is left waiting."""

    async def main() -> None:
        client = AsyncClient(dispatcher.directory)
        call = asyncio.create_task(client.handshake(pair[0], HandshakeOptions()))
        await from_thread(dispatcher.seen.get)
        client.close()
        with pytest.raises(HsframeworkError) as caught:
            await call
        assert caught.value.errno == errno.ECONNRESET

    dispatcher.on_submit = lambda submission: None
    asyncio.run(main())


def test_garbage_from_the_dispatcher(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """EPROTO for everything that is pending, and the connection is dropped."""

    async def main() -> None:
        async with AsyncClient(dispatcher.directory) as client:
            with pytest.raises(HsframeworkError, match="broke the protocol") as caught:
                await client.handshake(pair[0], HandshakeOptions())
            assert caught.value.errno == errno.EPROTO
            assert not client.connected

    dispatcher.on_submit = Submission.garbage
    asyncio.run(main())


def test_a_hung_dispatcher(dispatcher: FakeDispatcher, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call ends by itself after the timeout and its grace, and withdraws the request."""
    monkeypatch.setattr(aio_module, "GRACE", 0.05)

    async def main() -> None:
        async with AsyncClient(dispatcher.directory) as client:
            with pytest.raises(HandshakeError, match="hung") as caught:
                await client.handshake(pair[0], HandshakeOptions(timeout=0.05))
            assert caught.value.errno == errno.ETIMEDOUT
            await from_thread(dispatcher.seen.get)
            assert (await from_thread(dispatcher.seen.get)).message.operation == "cancel"

    dispatcher.on_submit = lambda submission: None
    asyncio.run(main())


def test_a_closed_socket_is_said_as_such(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """The caller's own mistake, before anything is sent; the connection lives on."""

    async def main() -> None:
        async with AsyncClient(dispatcher.directory) as client:
            pair[0].close()
            with pytest.raises(RequestRefused, match="socket is closed"):
                await client.handshake(pair[0], HandshakeOptions())
            assert client.connected

    asyncio.run(main())


def test_attributes_are_encoded_by_the_protocols_specification(dispatcher: FakeDispatcher, pair: Pair) -> None:
    """A mapping becomes the protocol's own attribute set; without its plugin the error says so."""

    async def main() -> None:
        options = HandshakeOptions(attributes={"colour": "red"})
        async with AsyncClient(dispatcher.directory, registry=tiny_registry()) as client:
            await client.handshake(pair[0], options)
        assert dispatcher.seen.get(timeout=10).message.values["attributes"] == b"\x08\0\x01\0red\0"
        async with AsyncClient(dispatcher.directory, registry=tiny_registry(protocols={})) as client:
            with pytest.raises(HsframeworkError, match=r"no plugin.*attributes of group 'tls13'"):
                await client.handshake(pair[0], options)
        async with AsyncClient(dispatcher.directory, registry=tiny_registry()) as client:
            with pytest.raises(HsframeworkError, match="no attribute 'taste'"):
                await client.handshake(pair[0], HandshakeOptions(attributes={"taste": "sour"}))

    asyncio.run(main())
