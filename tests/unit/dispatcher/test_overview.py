"""The dispatcher's report on the groups that it serves, to those who may know, and the command's output."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import sys
from pathlib import Path

import pytest

from hsframework.client.groups import GroupAgent, GroupSource, ServedGroup, served_groups
from hsframework.errors import HsframeworkError, RequestRefused
from tests.support.house import REQUEST, connected_pair, house
from tests.support.played_kernel import GROUP, NUMBERS, OTHER, Stage, stage


async def asked(played: Stage) -> dict[str, ServedGroup]:
    """Ask for the groups, and return them by name."""
    found = await asyncio.to_thread(served_groups, played.home.folder)
    assert [group.group for group in found] == sorted(group.group for group in found)
    return {group.group: group for group in found}


async def test_what_is_served_and_by_whom() -> None:
    """Groups with their agents and protocols, the sources that take requests, and the requests of each."""
    me = os.getpid(), os.geteuid()
    with contextlib.ExitStack() as opened:
        pairs = [opened.enter_context(connected_pair()) for _ in range(4)]
        async with stage() as played:
            assert await asked(played) == {}
            first = await played.home.agent(GROUP, protocol="toy", agent="first")
            await played.home.agent(GROUP, OTHER, "fourth", protocol="odd", agent="second")
            consumer = await played.home.consumer()
            played.submit(pairs[0][0])
            await first.take_message(GROUP)
            played.submit(pairs[1][0])
            for ours, _ in pairs[2:]:
                consumer.send("submit", {**REQUEST, "group": GROUP}, ours.fileno())
            await played.until(lambda: len(played.home.dispatcher.requests) == 4)
            found = await asked(played)
            second = GroupAgent(f"second (pid {me[0]})", "odd", *me, 0)
            assert found[GROUP] == ServedGroup(
                GROUP,
                3,
                1,
                (GroupAgent(f"first (pid {me[0]})", "toy", *me, 1), second),
                (GroupSource("local", None, 2, 0), GroupSource("played", NUMBERS[GROUP], 1, 1)),
            )
            own, kernels = GroupSource("local", None, 0, 0), GroupSource("played", NUMBERS[OTHER], 0, 0)
            assert found[OTHER] == ServedGroup(OTHER, 0, 0, (second,), (own, kernels))
            assert found["fourth"] == ServedGroup("fourth", 0, 0, (second,), (own,))
            assert found.keys() == {GROUP, OTHER, "fourth"}


async def test_a_group_that_is_left() -> None:
    """It is listed while it has requests, without the sources that take no more."""
    with connected_pair() as (ours, _):
        async with stage() as played:
            agent = await played.home.agent(GROUP)
            played.submit(ours)
            request = await agent.take_message(GROUP)
            await agent.ask("leave", {"group": [GROUP]})
            found = await asked(played)
            assert found == {GROUP: ServedGroup(GROUP, 0, 1, (), (GroupSource("played", None, 0, 1),))}
            agent.send("done", {"request-id": request.values["request-id"], "status": errno.EACCES})
            await played.until(lambda: not played.home.dispatcher.requests)
            assert await asked(played) == {}


async def test_many_agents_fit_into_the_answer() -> None:
    """As many as may be connected."""
    async with house() as home:
        for number in range(300):
            await home.agent("toy", agent=f"{number:064}")
        (group,) = await asyncio.to_thread(served_groups, home.folder)
        assert len(group.agents) == 300


async def test_others_are_not_told() -> None:
    """A user who is neither root nor the service's own is refused, also with a rule by which he may submit."""
    async with house() as home:
        home.local.policy._privileged = frozenset({os.geteuid() + 1})
        with pytest.raises(RequestRefused) as refused:
            await asyncio.to_thread(served_groups, home.folder)
        assert refused.value.errno == errno.EACCES
        assert "may not see or reload the service" in str(refused.value)


def test_no_dispatcher(tmp_path: Path) -> None:
    """The path is named, and what to start."""
    with pytest.raises(HsframeworkError, match="no dispatcher listens at"):
        served_groups(tmp_path)


async def command(*words: str) -> str:
    """Return the output of ``hsframework groups``."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hsframework", "groups", *words, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_the_command() -> None:
    """A table for people, and a list for programs; each group has a line."""
    async with stage() as played:
        where = ("--runtime-dir", str(played.home.folder))
        assert "No group is served" in await command(*where)
        assert json.loads(await command("--json", *where)) == []
        await played.home.agent(GROUP, "fourth", agent="first")
        rows = [line.split() for line in (await command(*where)).splitlines()]
        assert rows == [
            ["GROUP", "NUMBER", "PROTOCOL", "AGENTS", "WAITING", "IN-FLIGHT", "SOURCES"],
            ["fourth", "-", "toy", "1", "0", "0", "local"],
            [GROUP, str(NUMBERS[GROUP]), "toy", "1", "0", "0", "local,played"],
        ]
        _, listed = json.loads(await command("--json", *where))
        assert listed["agents"][0].pop("age") >= 0
        assert listed["agents"] == [
            {"name": f"first (pid {os.getpid()})", "protocol": "toy", "process": os.getpid(), "user": os.geteuid(),
             "in_flight": 0, "kernel_tls": ""}
        ]  # fmt: skip
        assert listed["sources"][1] == {"name": "played", "number": NUMBERS[GROUP], "waiting": 0, "in_flight": 0}
