"""`hsframework dispatcher` and `hsframework agent tls13`, started apart: agents come and go, and share the work."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hsframework.client import AsyncClient
from tests.load.test_many_handshakes import CENSUS
from tests.load.traffic import Credentials, check_served, handshake_pair, outcome, served_again, spoken_to
from tests.support.running import (
    Running,
    Service,
    install_plugin,
    only,
    short_folder,
    status_of,
    tcp_pairs,
    until,
    write_configuration,
)

HANDSHAKES = 200
AT_ONCE = 50


class Apart:
    """A dispatcher and agents in one folder."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        # No word of users: a dispatcher and an agent with the defaults of root go together.
        self.file = write_configuration(folder, "[timeouts]\nagent-restart = 1\n")
        install_plugin(folder / "site", "census", CENSUS)

    def start(self, *words: str) -> Running:
        """Start one command with this configuration."""
        process = Running((*words, "--config", str(self.file)), self.folder, self.folder / "site")
        self._stack.callback(process.clean_up)
        return process

    def dispatcher(self) -> Running:
        """Start a dispatcher, and wait until it is ready."""
        process = self.start("dispatcher")
        process.log.wait("the dispatcher is ready")
        return process

    def agent(self) -> Running:
        """Start an agent, and wait until it has joined."""
        process = self.start("agent", "tls13")
        process.log.wait("joined")
        return process


@contextlib.contextmanager
def apart() -> Iterator[Apart]:
    with short_folder() as folder, contextlib.ExitStack() as stack:
        yield Apart(folder, stack)


def test_several_agents_share_the_group(credentials: Credentials) -> None:
    """Of 200 handshakes each of three agents gets some."""
    with apart() as house:
        dispatcher = house.dispatcher()
        agents = [house.agent() for _ in range(3)]
        asyncio.run(_share(house, credentials))
        assert [agent.stop() for agent in agents] == [0, 0, 0]
        assert dispatcher.stop() == 0
        shares = Counter({agent.pid: len(agent.log.events("census")) for agent in agents})
        print(f"\nshares of {2 * HANDSHAKES} requests: {sorted(shares.values())}")
        assert shares.total() == 2 * HANDSHAKES
        assert all(shares.values())


async def _share(house: Apart, credentials: Credentials) -> None:
    async with AsyncClient(house.folder / "run") as client:

        async def several() -> None:
            for _ in range(HANDSHAKES // AT_ONCE):
                with tcp_pairs() as (pair,):
                    await handshake_pair(client, pair, credentials)

        await asyncio.gather(*(several() for _ in range(AT_ONCE)))


def test_agents_come_and_go(credentials: Credentials) -> None:
    """None: ESRCH at once.  One that leaves in good order ends what it has in hand; one that comes serves.

    After the last has left, another one is expected for a while; then it is ESRCH again.
    """
    with apart() as house:
        dispatcher = house.dispatcher()
        asyncio.run(_come_and_go(house, dispatcher, credentials))


async def _come_and_go(house: Apart, dispatcher: Running, credentials: Credentials) -> None:
    async with AsyncClient(house.folder / "run") as client:
        with tcp_pairs() as ((near, far),):
            assert (await outcome(client, near, credentials.client())).errno == errno.ESRCH
            first = house.agent()
            assert 0 not in map(int, status_of(first.pid)["Uid"].split())
            begun = asyncio.create_task(outcome(client, near, credentials.client()))
            await spoken_to([far])
            second = house.agent()
            first.process.send_signal(signal.SIGTERM)
            first.log.wait("the agent stops", in_hand=1)
            await check_served(client, credentials)
            assert (await outcome(client, far, credentials.server())).errno == 0
            assert (await begun).errno == 0
            assert first.process.wait(30) == 0
        assert second.stop() == 0
        dispatcher.log.wait("no agent came back; the group is left", group="tls13")
        with tcp_pairs() as ((near, _),):
            assert (await outcome(client, near, credentials.client())).errno == errno.ESRCH
        house.agent()
        await check_served(client, credentials)


def test_an_agent_waits_for_its_dispatcher(credentials: Credentials) -> None:
    """An agent that is there first joins when the dispatcher comes, and again when another takes its place."""
    with apart() as house:
        agent = house.start("agent", "tls13")
        agent.log.wait("the dispatcher cannot be reached; trying on")
        for _ in range(2):
            mark = agent.log.mark
            dispatcher = house.dispatcher()
            agent.log.wait("joined", since=mark)
            asyncio.run(_served(house, credentials))
            dispatcher.stop(signal.SIGKILL)
        assert agent.stop() == 0


async def _served(house: Apart, credentials: Credentials) -> None:
    async with AsyncClient(house.folder / "run") as client:
        await served_again(client, credentials)


def test_a_stranger_does_not_join(credentials: Credentials) -> None:
    """An agent whose user no rule names ends with the reason; it is no agent of the group."""
    with apart() as house:
        dispatcher = house.dispatcher()
        stranger = house.start("agent", "tls13", "--user", "65534")
        assert stranger.process.wait(30) == 3
        assert "may not join the group 'tls13'" in stranger.log.end()
        assert not dispatcher.log.events("an agent joins")
        until(lambda: not stranger.processes(), "nothing of it is left")


def test_a_dispatcher_does_not_outlive_its_supervisor() -> None:
    """With agents apart a successor goes on with its sockets at once, so one that is stopped has to be gone too."""
    with short_folder() as folder, contextlib.ExitStack() as stack:
        service = Service(folder, only(), None, "--agents-apart")
        stack.callback(service.clean_up)
        service.log.wait("the dispatcher is ready")
        os.kill(service.dispatcher, signal.SIGSTOP)
        os.kill(service.pid, signal.SIGKILL)
        until(lambda: service.dispatcher not in service.processes(), "it has ended")


def test_users_without_cells_are_warned_of() -> None:
    """A dispatcher without a doorman warns of rules that let users in; under `hsframework run` there is one."""
    warning = "users are served in the same process as the kernel: each of them can stop it"
    for words, number in ((("dispatcher",), 1), (("run",), 0)):
        with short_folder() as folder, contextlib.ExitStack() as stack:
            write_configuration(folder, '[[allow]]\nusers = ["1000"]\n')
            process = Running((*words, "--config", str(folder / "hsframework.toml")), folder)
            stack.callback(process.clean_up)
            process.log.wait("the dispatcher is ready")
            assert len(process.log.events(warning)) == number
