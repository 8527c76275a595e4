"""Nobody pays for another: what one consumer or one peer does to the service, seen by the next one that asks."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import socket
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsframework.client import AsyncClient, HandshakeOptions
from hsframework.client.groups import served_groups
from tests.load.traffic import Credentials, check_served, outcome, spoken_to
from tests.support.running import Service, running_service, stopped, tcp_pairs, until

TOY = Path(__file__).with_name("toy_plugin.py").read_text()
MANY = 1000
"""Handshakes at once: more than two queues of a link have room for."""


@pytest.fixture(scope="module")
def service(credentials: Credentials) -> Iterator[Service]:
    with running_service("", plugins={"toy": TOY}) as running:
        running.wait_for_agents(protocol="toy")
        yield running


@contextlib.contextmanager
def _pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        pairs = []
        for _ in range(MANY):
            near = stack.enter_context(socket.create_connection(server.getsockname()))
            pairs.append((near, stack.enter_context(server.accept()[0])))
        yield pairs


def _under_way() -> HandshakeOptions:
    return HandshakeOptions(group="toy", peer_name="never_returns", timeout=60)


async def _begun(client: AsyncClient, pairs: list[tuple[socket.socket, socket.socket]]) -> list[asyncio.Task[object]]:
    tasks = [asyncio.create_task(client.handshake(near, _under_way())) for near, _ in pairs]
    await spoken_to([far for _, far in pairs])
    return list(tasks)


async def _well(service: Service, number: int = 3) -> None:
    async with AsyncClient(service.runtime_dir) as client:
        for _ in range(number):
            with tcp_pairs() as ((near, _),):
                await client.handshake(near, HandshakeOptions(group="toy", timeout=10))


def test_a_consumer_with_many_handshakes_dies(service: Service) -> None:
    """The next consumer of the same agent is served."""

    async def body() -> None:
        with _pairs() as pairs:
            client = AsyncClient(service.runtime_dir)
            await client.connect()
            tasks = await _begun(client, pairs)
            client.close()
            await asyncio.gather(*tasks, return_exceptions=True)
            await _well(service)

    asyncio.run(body())


def test_a_consumer_withdraws_many_handshakes(service: Service) -> None:
    """It is served itself afterwards, over the same link."""

    async def body() -> None:
        with _pairs() as pairs:
            async with AsyncClient(service.runtime_dir) as client:
                for task in await _begun(client, pairs):
                    task.cancel()
                with tcp_pairs() as ((near, _),):
                    await client.handshake(near, HandshakeOptions(group="toy", timeout=10))

    asyncio.run(body())


def test_peers_that_name_many_unknown_keys(service: Service, credentials: Credentials) -> None:
    """1,000 look-ups wait for a dispatcher that is stopped for a moment; afterwards all goes on."""
    service.wait_for_agents()

    async def body() -> None:
        with _pairs() as pairs:
            async with AsyncClient(service.runtime_dir) as client:
                tasks = [asyncio.create_task(outcome(client, near, credentials.psk_server())) for near, _ in pairs]
                await asyncio.to_thread(until, lambda: _in_flight(service) == MANY, "all are under way")
                with stopped(service.dispatcher):
                    for _, far in pairs:
                        far.sendall(_client_hello(8))
                    await asyncio.to_thread(until, lambda: not any(map(_unread, pairs)), "the agent has read them")
                await check_served(client, credentials)
                ended = await asyncio.gather(*tasks)
        assert 0 not in {each.errno for each in ended}

    asyncio.run(body())


def test_a_keeper_that_is_told_to_stop(service: Service) -> None:
    """SIGTERM, which its own worker may send: it stops in good order, and another one takes its place."""
    mark = service.log.mark
    os.kill(service.keeper("toy"), signal.SIGTERM)
    service.log.wait("ended and is started again", child="agent of toy", status=0, since=mark)
    service.wait_for_agents(protocol="toy", since=mark)
    asyncio.run(_well(service))


def test_a_worker_whose_loop_does_not_turn() -> None:
    """A plugin blocks in mid-handshake, long before the deadline: its keeper kills the worker, and another joins."""
    with running_service("[timeouts]\nwatchdog = 2\n", plugins={"toy": TOY}) as service:
        service.wait_for_agents(protocol="toy")
        mark = service.log.mark

        async def body() -> None:
            with tcp_pairs() as ((near, _),):
                async with AsyncClient(service.runtime_dir) as client:
                    ended = await outcome(client, near, HandshakeOptions(group="toy", peer_name="blocks", timeout=100))
                    assert ended.errno == errno.EIO
            await _well(service)

        asyncio.run(body())
        service.log.wait("a worker does not turn and is killed", since=mark)


def _in_flight(service: Service) -> int:
    return sum(group.in_flight for group in served_groups(service.runtime_dir))


def _unread(pair: tuple[socket.socket, socket.socket]) -> int:
    answer = fcntl.ioctl(pair[0], termios.FIONREAD, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


def _client_hello(identities: int) -> bytes:
    """Return the record of a ClientHello that offers so many pre-shared keys, which nobody has."""
    offered = b"".join(_vector(2, b"nobody %d" % number) + bytes(4) for number in range(identities))
    binders = b"".join(_vector(1, bytes(32)) for _ in range(identities))
    extensions = (
        (43, _vector(1, b"\x03\x04")),
        (45, _vector(1, b"\x01")),
        (10, _vector(2, b"\x00\x1d")),
        (13, _vector(2, b"\x04\x03\x08\x04")),
        (51, _vector(2, b"\x00\x1d" + _vector(2, b"\x09" + bytes(31)))),
        (41, _vector(2, offered) + _vector(2, binders)),
    )
    encoded = b"".join(number.to_bytes(2) + _vector(2, value) for number, value in extensions)
    body = b"\x03\x03" + bytes(range(32)) + b"\0" + _vector(2, b"\x13\x01") + b"\x01\0" + _vector(2, encoded)
    return b"\x16\x03\x01" + _vector(2, b"\x01" + _vector(3, body))


def _vector(size: int, value: bytes) -> bytes:
    return len(value).to_bytes(size) + value


PAUSE = 5.0
"""Seconds: more than any silence after which a process is killed, but for the watchdog's of minutes."""


@pytest.mark.parametrize("last", ["the supervisor", "its descendants"])
def test_a_pause_of_the_whole_machine_ends_nobody(service: Service, last: str) -> None:
    """Every process is stopped for a while and goes on, in either order: the same ones serve, and nobody was killed."""

    def ours() -> list[int]:
        return sorted(service.processes(), reverse=last == "the supervisor")

    asyncio.run(_well(service))
    before, mark = ours(), service.log.mark
    for pid in before:
        os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(PAUSE)  # what is tried is that this much time has passed
    finally:
        for pid in before:
            os.kill(pid, signal.SIGCONT)
    asyncio.run(_well(service, 50))
    assert ours() == before
    assert not [event for event in service.log.events(since=mark) if "killed" in event["event"]]
