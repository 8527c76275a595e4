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


BOUNDED = "[agents.toy]\nmemory-limit = 256"


@pytest.fixture(scope="module")
def service(credentials: Credentials) -> Iterator[Service]:
    with running_service(BOUNDED, plugins={"toy": TOY}) as running:
        running.wait_for_agents(protocol="toy")
        asyncio.run(_check(running, credentials))
        yield running


async def _check(service: Service, credentials: Credentials) -> None:
    async with AsyncClient(service.runtime_dir) as client:
        await check_served(client, credentials)


def toy(behaviour: str, timeout: float = LONG) -> HandshakeOptions:
    """Return options for the toy."""
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
        ("forks", errno.EIO),
        ("forks_a_terminal", errno.EIO),
        ("starts_a_program", errno.EIO),
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
    service.log.wait("handshake", since=mark, group="toy", number=2)
    told = service.log.events("handshake", since=mark, group="toy")
    assert [(event["agent"].partition("-")[0], event["status"]) for event in told] == [
        ("toy", errno.errorcode[status] if status else "OK"),
        ("toy", "OK"),
    ]
    assert status == 0 or told[0]["reason"]
    if status == errno.EIO:
        blamed = [event for event in service.log.events(since=mark) if "toy" in str(event.get("plugin", event))]
        assert any(event["level"] == "error" for event in blamed), service.log.text


def test_what_a_plugin_prints(service: Service, credentials: Credentials) -> None:
    """A plugin's output goes to stdout and stderr, and into no message."""
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


@pytest.mark.parametrize(
    ("behaviour", "reason", "said"),
    [
        ("exhausts_memory", "memory runs out", "MemoryError"),
        ("exhausts_files", "file descriptors run out", "Too many open files"),
    ],
)
def test_exhausts(service: Service, credentials: Credentials, behaviour: str, reason: str, said: str) -> None:
    """EIO for the request; the process that has nothing left is replaced, and ends when what it has in hand is over."""
    asyncio.run(_exhaust(service, credentials, behaviour, reason, said))


async def _exhaust(service: Service, credentials: Credentials, behaviour: str, reason: str, said: str) -> None:
    mark, (victim,) = service.log.mark, service.workers("toy")
    async with AsyncClient(service.runtime_dir) as client:
        with tcp_pairs(2) as ((near, far), (other, _)):
            patient = asyncio.create_task(outcome(client, near, toy("never_returns", 3.0)))
            await spoken_to([far])
            assert (await outcome(client, other, toy(behaviour))).errno == errno.EIO
            service.log.wait("joined", protocol="toy", since=mark)
            await check_served(client, credentials)
            with tcp_pairs() as ((third, _),):
                assert (await outcome(client, third, toy("well"))).errno == 0
            assert (await patient).errno == errno.ETIMEDOUT
    failed = service.log.wait("a plugin failed", plugin="toy", since=mark)
    assert said in str(failed["exception"])
    service.log.wait("an agent process is replaced", plugin="toy", reason=reason, since=mark)
    await_end(victim)
    until(lambda: len(service.workers("toy")) == 1, "one process of the toy's is left")


def test_leaks_until_few_are_left(service: Service, credentials: Credentials) -> None:
    """No request fails for it: the process is replaced while there are some descriptors left."""
    asyncio.run(_leak(service, credentials))


async def _leak(service: Service, credentials: Credentials) -> None:
    mark, (victim,) = service.log.mark, service.workers("toy")
    async with AsyncClient(service.runtime_dir) as client:
        for behaviour in ("leaks_nearly_all", "well"):
            with tcp_pairs() as ((near, _),):
                assert (await outcome(client, near, toy(behaviour))).errno == 0
            await check_served(client, credentials)
    event = service.log.wait("an agent process is replaced", plugin="toy", since=mark)
    assert event["reason"] == "file descriptors run out"
    await_end(victim)
    until(lambda: len(service.workers("toy")) == 1, "one process of the toy's is left")


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
    "aforks": "import os\nif not os.fork():\n    while True:\n        os.sched_yield()",
    "ahoards": "hoard = []\nwhile True:\n    hoard.append(bytearray(1 << 26))",
    "araises": "raise RuntimeError('not today')",
    "aleaves": "import sys; sys.exit(3)",
    "aexits": "import os; os._exit(3)",
    "aends": "import os; os._exit(0)",
    "acrashes": "import os; os.abort()",
    "ahangs": "import threading\nwhile True:\n    threading.Event().wait()",
    "alingers": "import time\nwhile True:\n    try:\n        time.sleep(1)\n    except BaseException:\n        pass",
}


def test_at_import(credentials: Credentials) -> None:
    """Plugins that cannot be imported are skipped with their names in the log; TLS is served.  The agents of those that
    hang end, and the log says where it was."""
    limits = "".join(f"[agents.{name}]\nstart-timeout = 2\n" for name in ("ahangs", "alingers"))
    with running_service(limits, plugins=BAD_IMPORTS) as service:
        keeper = service.keeper()
        skipped = {event["plugin"] for event in service.log.events("a plugin is skipped", pid=keeper, level="error")}
        assert skipped == set(BAD_IMPORTS)
        asyncio.run(_check(service, credentials))
        assert service.keeper() == keeper
        for name in ("ahangs", "alingers"):
            where = service.log.wait("a plugin does not get ready", plugin=name)["where"]
            assert any(f"hs_{name}.py, line" in place for place in where)
        assert service.stop() == 0


LINGERS = """while True:
            try:
                time.sleep(1000)
            except BaseException:
                pass""".splitlines()
PREPARES = """
import os, time
import hsframework
from hsframework.interface import Handshaker, Protocol

class Odd(Protocol):
    name = "{name}"
    groups = ("{name}",)

    def prepare(self, settings):
        {body}

@hsframework.hookimpl
def hsframework_protocols():
    return [Odd()]
"""
BAD_PREPARES = {
    "praises": ("raise RuntimeError('not ready')", "RuntimeError: not ready"),
    "pleaves": ("raise SystemExit(4)", "SystemExit: 4"),
    "pnothing": ("return 42", "gave a int, not a Handshaker"),
    "pforks": ("os.fork() or time.sleep(1000)", "a plugin forks"),
    "phoards": ("self.hoard = [bytearray(1 << 26) for _ in range(1 << 20)]", "MemoryError"),
    "phangs": ("time.sleep(1000)", "has not been imported and prepared within 8 seconds"),
    "plingers": ("\n".join(LINGERS), "has not been imported and prepared within 8 seconds"),
}


def test_in_prepare(credentials: Credentials) -> None:
    """Protocols that cannot be prepared are not served; the log has the plugin's name and the reason; TLS goes on."""
    plugins = {name: PREPARES.format(name=name, body=body) for name, (body, _) in BAD_PREPARES.items()}
    limits = "".join(f"[agents.{name}]\nstart-timeout = 8\n" for name in plugins)
    with running_service(limits, plugins=plugins) as service:
        asyncio.run(_check(service, credentials))
        for name, (_, reason) in BAD_PREPARES.items():
            until(lambda name=name, reason=reason: _blamed(service, name, reason), f"{name} is blamed for {reason!r}")  # type: ignore[misc]
        asyncio.run(_check(service, credentials))
        assert service.stop() == 0


def _blamed(service: Service, plugin: str, reason: str) -> bool:
    """True if a line of the log at level error names the plugin and the reason."""
    events = service.log.events(level="error")
    return any(plugin in str(event) and reason in str(event) for event in events)
