"""Connections of agents: what ends one, what it is told, and what it gives back."""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.agents.connection import MOST_NONSENSE, AgentConnection, Service
from hsframework.dispatcher.agents.operations import TABLE
from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.keys.trusts import TrustFiles
from hsframework.dispatcher.policy import PeerCredentials, Policy
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.requests.request import Outcome, Source
from hsframework.errors import RequestRefused
from hsframework.local.channel import AsyncChannel
from hsframework.netlink.attributes import attribute_codec
from hsframework.netlink.spec import builtin_specification
from hsframework.testing import virtual_time
from tests.support.house import REQUEST, codec, connected_pair, house, serves


@contextlib.contextmanager
def hung_process() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that would run for an hour."""
    with subprocess.Popen(["sleep", "3600"]) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.asynccontextmanager
async def connection(pid: int) -> AsyncIterator[tuple[AgentConnection, AsyncChannel, list[AgentConnection]]]:
    """Make a connection to the agent of this pid, the agent's end of it, and a list of what has closed."""
    configuration, loop = Configuration(), asyncio.get_running_loop()
    dispatcher, trusts = Dispatcher(configuration), TrustFiles()
    closed: list[AgentConnection] = []
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    service = Service(dispatcher, Policy(configuration), trusts, TABLE, loop)
    made = AgentConnection(ours, PeerCredentials(pid, os.getuid(), os.getgid()), service, closed.append)
    agents = AsyncChannel(theirs, lambda _, fd: None, lambda _: None)
    try:
        yield made, agents, closed
    finally:
        made.close()
        agents.close()
        trusts.close()
        dispatcher.close()


def test_an_agent_that_hangs_is_killed_after_one_second() -> None:
    """Not before, and with its connection ended."""

    async def body() -> None:
        with hung_process() as process:
            async with connection(process.pid) as (made, _, closed):
                made.watch()
                await asyncio.sleep(0.99)
                assert process.poll() is None
                assert not closed
                await asyncio.sleep(0.02)
                assert process.wait() == -signal.SIGKILL
                assert closed == [made]
                assert made.channel.closed

    virtual_time.run(body())


def test_an_agent_that_sends_anything_lives() -> None:
    """Its message ends the watch; the next deadline that it misses begins another."""

    async def body() -> None:
        with hung_process() as process:
            async with connection(process.pid) as (made, agent, closed):
                made.watch()
                await asyncio.sleep(0.5)
                agent.send(codec.encode("leave", {"group": ["toy"]}))
                await asyncio.sleep(5)
                assert process.poll() is None
                made.watch()
                await asyncio.sleep(1.01)
                assert process.wait() == -signal.SIGKILL
                assert closed == [made]

    virtual_time.run(body())


async def test_a_fault_of_ours_is_an_error_with_the_messages_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO, to the message at which it happened, and not the connection's end."""
    async with house() as home:

        def fault(*_: object) -> None:
            raise ZeroDivisionError

        agent = await home.agent("toy")
        with monkeypatch.context() as patched:
            patched.setattr(Policy, "check_join", fault)
            answer = await agent.ask("join", {"group": ["toy"], "protocol": "toy", "agent": "by hand"})
        assert answer.error == errno.EIO
        assert (await agent.ask("leave", {"group": ["toy"]})).error == 0


async def test_the_log_says_how_an_agents_connection_ended() -> None:
    """The reason is in the event (two sockets in one message), and the number of the requests that it had."""
    with capture_logs() as logs:
        async with house() as home:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock, connected_pair() as (one, two):
                sock.connect(str(home.folder / "agent.sock"))
                fds = array.array("i", [one.fileno(), two.fileno()])
                sock.sendmsg([b"two sockets at once"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
                assert await asyncio.get_running_loop().run_in_executor(None, sock.recv, 1) == b""
    (event,) = [it for it in logs if it["event"] == "an agent is gone"]
    assert event["error"]
    assert event["in_hand"] == 0


async def test_an_agent_that_sends_nonsense_is_cut_off() -> None:
    """After so many messages in a row; one that is right begins the count anew, and before a join each counts."""
    wrong = b"\x14\0\0\0\x20"
    async with house() as home:
        agent, stranger = await home.agent("toy"), await home.stranger()
        for _ in range(2):
            for _ in range(MOST_NONSENSE - 1):
                agent.send_bytes(wrong)
                assert (await agent.receive())[0].error == errno.EBADMSG
            assert (await agent.ask("leave", {"group": ["another"]})).error == 0
        for _ in range(MOST_NONSENSE):
            agent.send("accept", {"group": "another"})
            assert (await agent.receive())[0].error == errno.EPERM
        for _ in range(MOST_NONSENSE - 1):
            assert (await stranger.ask("accept", {"group": "toy"})).error == errno.EPERM
        stranger.send("accept", {"group": "toy"})
        for _ in range(MOST_NONSENSE):
            agent.send_bytes(wrong)
        for peer in (stranger, agent):
            await peer.closed()
        await serves(home)


async def test_an_answer_to_a_look_up_names_its_request() -> None:
    """An agent has several look-ups under way."""
    with connected_pair() as (ours, _):
        async with house() as home:
            agent, consumer = await home.agent("toy"), await home.consumer()
            keys = [{"identity": b"alice", "key": b"k" * 32, "hash": "sha256"}]
            consumer.send("submit", {**REQUEST, "message-type": 2, "auth-mode": 2, "psk": keys}, ours.fileno())
            number = (await agent.take_message()).values["request-id"]
            for identity in (b"alice", b"bob"):
                agent.send("psk-lookup", {"request-id": number, "identity": identity})
                assert (await agent.expect("psk-lookup")).values["request-id"] == number


class Restoring:
    """A source that notes what it is given back."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.names: list[str] = []
        self.statuses: list[int | None] = []

    def restored(self, custody: Custody, values: Mapping[str, Any], outcome: Outcome | None) -> None:
        self.names.append(values["source"])
        self.statuses.append(None if outcome is None else outcome.status)
        custody.release()


@pytest.mark.parametrize(
    ("values", "taken_by"),
    [
        ({"source": "kernel:blue", "kernel-consumer": True}, "kernel:blue"),
        ({"source": "kernel:blue"}, "kernel:blue"),
        ({"source": "kernel:gone", "kernel-consumer": True}, "kernel"),
        ({"source": "kernel:gone"}, None),
        ({"source": "nobody"}, None),
    ],
)
async def test_a_request_that_is_given_back_goes_to_its_source(values: dict[str, Any], taken_by: str | None) -> None:
    """The kernel's, of a namespace that is gone, to any of the kernel's; where there is none, the connection ends."""
    sources = [Restoring("kernel"), Restoring("kernel:blue")]
    with connected_pair() as (ours, theirs):
        async with house() as home:
            agent = await home.agent("toy")
            home.dispatcher.sources.update({it.name: cast(Source, it) for it in sources})
            assert (await agent.ask("restore", {"request-id": 7, "group": "toy", **values}, ours.fileno())).error == 0
            assert [it.name for it in sources if it.names] == ([taken_by] if taken_by else [])
            if taken_by is None:
                assert theirs.recv(1) == b""
            for source in sources:
                del home.dispatcher.sources[source.name]


async def test_a_success_of_a_group_that_is_not_the_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not count, because the group decides how it is checked; a failure is told whatever the group."""
    outcomes = attribute_codec(builtin_specification("local"), "outcome")
    kernel = Restoring("kernel")

    def check_join(policy: Policy, peer: PeerCredentials, group: str) -> None:
        if group != "toy":
            raise RequestRefused("not yours", errno=errno.EACCES)

    with connected_pair() as (ours, _):
        async with house() as home:
            agent = await home.agent("toy")
            monkeypatch.setattr(Policy, "check_join", check_join)
            home.dispatcher.sources["kernel"] = cast(Source, kernel)
            for group, status in (("toy", 0), ("another", 0), ("another", errno.EACCES)):
                values = {"request-id": 7, "group": group, "source": "kernel", "kernel-consumer": True}
                outcome = outcomes.encode({"status": status, "in-kernel": True})
                assert (await agent.ask("restore", {**values, "outcome": outcome}, ours.fileno())).error == 0
            assert kernel.statuses == [0, None, errno.EACCES]
            del home.dispatcher.sources["kernel"]


@pytest.mark.parametrize(
    ("left_out", "text"), [("source", "restore: source is missing"), ("group", "restore: group is missing")]
)
async def test_a_request_that_is_given_back_says_whose_it_was(left_out: str, text: str) -> None:
    """An agent that leaves out an attribute without which no source is found is told, and not thanked."""
    values = {"request-id": 7, "group": "toy", "source": "kernel"}
    del values[left_out]
    with connected_pair() as (ours, _):
        async with house() as home:
            agent = await home.agent("toy")
            answer = await agent.ask("restore", values, ours.fileno())
            assert (answer.error, answer.values["message"]) == (errno.EBADMSG, text)


async def test_a_request_that_cannot_be_sent_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The consumer reads the error's text, or its type where it has none."""
    for error, text in ((ValueError("too long a name"), "too long a name"), (ValueError(), "ValueError()")):

        def fail(*_: object, error: ValueError = error, **__: object) -> bytes:
            raise error

        with connected_pair() as (ours, _), monkeypatch.context() as patched:
            async with house() as home:
                patched.setattr("hsframework.dispatcher.agents.operations.accept_reply", fail)
                agent, consumer = await home.agent("toy"), await home.consumer()
                consumer.send("submit", REQUEST, ours.fileno())
                await home.queued(1)
                agent.send("accept", {"group": "toy"})
                result = await consumer.expect("result")
                assert result.values["status"] == errno.EIO
                assert result.values["message"] == f"the request cannot be handed over: {text}"
