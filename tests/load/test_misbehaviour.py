"""One bad plugin harms only itself: its consumer has one outcome, and everybody else has their handshake."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsframework.client import AsyncClient, HandshakeOptions
from tests.load.traffic import Credentials, check_served, outcome, spoken_to
from tests.support.running import (
    Service,
    await_end,
    await_fds,
    running_service,
    settled_fds,
    tcp_pairs,
    until,
)

TOY = Path(__file__).with_name("toy_plugin.py").read_text()
SHORT, LONG = 0.5, 20.0
"""Seconds of a request that ends by its deadline, and of one that must end before it."""


@pytest.fixture(scope="module")
def service(credentials: Credentials) -> Iterator[Service]:
    with running_service(plugins={"toy": TOY}) as running:
        running.wait_for_agents(protocol="toy")
        asyncio.run(_check(running, credentials))
        yield running


async def _check(service: Service, credentials: Credentials) -> None:
    async with AsyncClient(service.runtime_dir) as client:
        await check_served(client, credentials)


def toy(behaviour: str, timeout: float = LONG) -> HandshakeOptions:
    """A request for the toy."""
    return HandshakeOptions(group="toy", peer_name=behaviour, timeout=timeout)


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        ("well", 0),
        ("refuses", errno.EKEYREJECTED),
        ("raises", errno.EIO),
        ("raises_system_exit", errno.EIO),
        ("raises_cancelled", errno.EIO),
        ("returns_nonsense", errno.EIO),
        ("returns_a_nonsense_result", errno.EIO),
        ("returns_too_much", errno.EIO),
        ("success_without_a_session", errno.EIO),
        ("claims_a_session_in_the_kernel", errno.EIO),
        ("never_returns", errno.ETIMEDOUT),
        ("swallows_cancellation", errno.ETIMEDOUT),
        ("closes_the_socket", errno.EIO),
        ("closes_the_fd", errno.EIO),
        ("closes_the_socket_while_it_reads", 0),
        ("leaks_the_fd", 0),
        ("leaves_a_task", 0),
        ("prints", 0),
    ],
)
def test_in_its_handshake(service: Service, credentials: Credentials, behaviour: str, status: int) -> None:
    """One outcome with the right errno; the agent lives on, and TLS handshakes beside it succeed."""
    timeout = SHORT if status == errno.ETIMEDOUT else LONG
    asyncio.run(_misbehave(service, credentials, toy(behaviour, timeout), status))


async def _misbehave(service: Service, credentials: Credentials, options: HandshakeOptions, status: int) -> None:
    mark, agents = service.log.mark, service.workers("toy")
    async with AsyncClient(service.runtime_dir) as client:
        files = settled_fds(service.dispatcher)
        with tcp_pairs() as ((near, far),):
            waiting = asyncio.create_task(outcome(client, near, options))
            await spoken_to([far])
            await check_served(client, credentials)
            ended = await waiting
        assert ended.errno == status, ended
        assert not client.pending
        with tcp_pairs() as ((near, _),):
            assert (await outcome(client, near, toy("well"))).errno == 0
        await_fds(service.dispatcher, files)
    assert service.workers("toy") == agents
    assert len(service.log.events("handshake", since=mark, group="toy")) == 2
    if status == errno.EIO:
        blamed = [event for event in service.log.events(since=mark) if "toy" in str(event.get("plugin", event))]
        assert any(event["level"] == "error" for event in blamed), service.log.text


def test_what_a_plugin_prints(service: Service, credentials: Credentials) -> None:
    """What a plugin writes to stdout and stderr goes there and into no message."""
    asyncio.run(_misbehave(service, credentials, toy("prints"), 0))
    until(lambda: "the toy complains" in service.log.text, "stderr was written")


@pytest.mark.parametrize("number", [1, 4])
def test_exits(service: Service, credentials: Credentials, number: int) -> None:
    """os._exit in mid-handshake: EIO at once, and a new agent."""
    asyncio.run(_exit(service, credentials, number))


async def _exit(service: Service, credentials: Credentials, number: int) -> None:
    mark, (victim,) = service.log.mark, service.workers("toy")
    async with AsyncClient(service.runtime_dir) as client:
        with tcp_pairs(number) as pairs:
            options = [toy("exits" if index == number - 1 else "never_returns") for index in range(number)]
            waiting = [outcome(client, near, item) for (near, _), item in zip(pairs, options, strict=True)]
            ended = await asyncio.gather(*waiting)
            assert {item.errno for item in ended} == {errno.EIO}
        assert service.log.wait("a worker died and is replaced", since=mark)["status"] == 7
        service.log.wait("joined", protocol="toy", since=mark)
        assert service.workers("toy") != [victim]
        with tcp_pairs() as ((near, _),):
            assert (await outcome(client, near, toy("well"))).errno == 0
        await check_served(client, credentials)


def test_blocks_its_loop(service: Service, credentials: Credentials) -> None:
    """A busy loop: ETIMEDOUT at the deadline, then the agent is killed and replaced; TLS goes on beside it."""
    asyncio.run(_block(service, credentials))


async def _block(service: Service, credentials: Credentials) -> None:
    mark, (victim,) = service.log.mark, service.workers("toy")
    async with AsyncClient(service.runtime_dir) as client:
        with tcp_pairs(3) as pairs:
            blocking = asyncio.create_task(outcome(client, pairs[0][0], toy("blocks", SHORT)))
            await spoken_to([pairs[0][1]])
            queued = asyncio.create_task(outcome(client, pairs[1][0], toy("well", SHORT)))
            patient = asyncio.create_task(outcome(client, pairs[2][0], toy("well", LONG)))
            await check_served(client, credentials)
            assert (await blocking).errno == errno.ETIMEDOUT
            assert (await queued).errno == errno.ETIMEDOUT
            event = service.log.wait("an agent hangs and is killed", since=mark)
            assert event["agent"].startswith("toy-")
            assert (await patient).errno == 0
        await_end(victim)
        service.log.wait("joined", protocol="toy", since=mark)
        await check_served(client, credentials)


BAD_IMPORTS = {
    "araises": "raise RuntimeError('not today')",
    "aleaves": "import sys; sys.exit(3)",
    "aexits": "import os; os._exit(3)",
    "aends": "import os; os._exit(0)",
    "acrashes": "import os; os.abort()",
    "ahangs": "import threading\nwhile True:\n    threading.Event().wait()",
    "alingers": "import time\nwhile True:\n    try:\n        time.sleep(1)\n    except BaseException:\n        pass",
}


def test_at_import(credentials: Credentials) -> None:
    """Plugins that cannot be imported are skipped with their names in the log; TLS is served."""
    with running_service(plugins=BAD_IMPORTS) as service:
        keeper = service.keeper()
        skipped = {event["plugin"] for event in service.log.events("a plugin is skipped", pid=keeper, level="error")}
        assert skipped == set(BAD_IMPORTS)
        asyncio.run(_check(service, credentials))
        assert service.keeper() == keeper
        assert service.stop() == 0
