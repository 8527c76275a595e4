"""The keeper in a process of its own: workers are forked, replaced, stopped; privileges are gone; no file is opened."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hsframework.agent.keeper import FORK_PAUSE, Keeper
from hsframework.agent.warmup import ExitStatus
from hsframework.local.control import (
    KEEPER_TO_SUPERVISOR,
    SUPERVISOR_TO_KEEPER,
    CellHung,
    Failed,
    FromKeeper,
    Go,
    KeeperAlive,
    Loaded,
    ServeCell,
    Serving,
    WorkerDied,
    WorkerJoined,
)
from hsframework.local.control_form import LONGEST_TEXT, MAX_MESSAGE, Message
from hsframework.netlink.messages import NLM_F_ACK
from hsframework.process.service_manager import ServiceManager
from tests.unit.agent.fakes import WAIT, AgentPeer, FakeDispatcher, dispatcher, pair

ROOT = Path(__file__).parents[3]


@dataclass
class House:
    """A keeper's process and the dispatcher that its workers join."""

    process: Process
    dispatcher: FakeDispatcher
    control: socket.socket | None

    async def hear(self) -> FromKeeper:
        """Receive the keeper's next report, but for its signs of life."""
        assert self.control is not None
        while True:
            data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.control, MAX_MESSAGE), WAIT)
            message = KEEPER_TO_SUPERVISOR.decode(data)
            if message != KeeperAlive():
                return message

    def go(self, data: bytes = SUPERVISOR_TO_KEEPER.encode(Go())) -> None:
        """Send what the supervisor sends once the dispatcher knows the agent's user."""
        assert self.control is not None
        self.control.send(data)

    def serve_cell(self, number: int) -> AgentPeer:
        """Have a worker forked for a cell, and return the cell's end of its link."""
        assert self.control is not None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self.control, [SUPERVISOR_TO_KEEPER.encode(ServeCell(number, "toy"))], [theirs.fileno()])
        ours.setblocking(False)
        return AgentPeer(ours)

    async def ended(self) -> tuple[int, str]:
        """Exit status and log."""
        _, log = await asyncio.wait_for(self.process.communicate(), WAIT)
        assert self.process.returncode is not None
        return self.process.returncode, log.decode()

    async def stop(self) -> tuple[int, str]:
        """Send SIGTERM, and wait for the end."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()


@contextlib.asynccontextmanager
async def keeper(*, controlled: bool = False, **options: Any) -> AsyncIterator[House]:
    """Run a keeper with these options (see keeper_process); killed at the end when it is still there."""
    async with dispatcher() as fake:
        # The agent's user must get through to the socket, as in a real runtime directory.
        fake.path.parent.chmod(0o755)
        fake.path.chmod(0o666)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        if controlled:
            options["control"] = theirs.fileno()
        with ours:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.unit.agent.keeper_process", str(fake.path), json.dumps(options),
                stderr=PIPE, cwd=ROOT, pass_fds=[theirs.fileno()] if controlled else [],
            )  # fmt: skip
            theirs.close()
            try:
                yield House(process, fake, ours if controlled else None)
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.communicate()


async def shake(peer: AgentPeer, number: int = 1) -> dict[str, Any]:
    """Run one toy handshake through a worker, and return the values of its DONE."""
    with pair() as (ours, theirs):
        theirs.send(b"\x05world")
        peer.give(await peer.asked(), ours.fileno(), number)
        return (await peer.receive("done")).values


async def test_workers_serve_and_stop() -> None:
    """Two processes join and serve; SIGTERM ends them gracefully, and the keeper with status 0."""
    async with keeper(processes=2) as house:
        peers = [await house.dispatcher.agent(), await house.dispatcher.agent()]
        assert len({peer.pid for peer in peers} - {house.process.pid}) == 2
        for peer in peers:
            assert (await shake(peer))["status"] == 0
        stopping = asyncio.create_task(house.stop())
        for peer in peers:
            peer.refuse(await peer.receive("leave"), 0)
            await peer.closed()
        status, log = await stopping
        assert status == ExitStatus.OK
        assert ("the agent runs as the user that started it" in log) is (os.geteuid() != 0)


async def test_killed_worker_is_replaced() -> None:
    """kill -9 of a worker: another process joins at once, serves, and the supervisor gets word of both."""
    async with keeper(controlled=True) as house:
        assert await house.hear() == Loaded(("toy",), ("toy",))
        house.go()
        first = await house.dispatcher.agent()
        assert await house.hear() == WorkerJoined(first.pid)
        assert await house.hear() == Serving((first.pid,))
        os.kill(first.pid, signal.SIGKILL)
        assert await house.hear() == WorkerDied(first.pid, -signal.SIGKILL)
        second = await house.dispatcher.agent()
        assert await house.hear() == WorkerJoined(second.pid)
        assert second.pid != first.pid
        assert (await shake(second))["status"] == 0


async def test_the_workers_of_a_cell_that_hangs() -> None:
    """Those are killed, which wait for its answers; another cell's goes on."""
    async with keeper(controlled=True) as house:
        assert await house.hear() == Loaded(("toy",), ("toy",))
        house.go()
        await house.dispatcher.agent()
        peers = [house.serve_cell(number) for number in (1, 2)]
        for peer in peers:
            await peer.joined()
        house.go(SUPERVISOR_TO_KEEPER.encode(CellHung(1)))
        await peers[0].closed()
        assert (await shake(peers[1]))["status"] == 0


async def test_no_worker_before_the_supervisor_says_go_and_none_after_it_is_gone() -> None:
    """Until ``go`` nothing joins; a supervisor that is gone ends everything."""
    async with keeper(controlled=True) as house:
        assert isinstance(await house.hear(), Loaded)
        joining = asyncio.create_task(house.dispatcher.agent())
        await asyncio.sleep(0)
        assert not joining.done()
        house.go()
        peer = await joining
        assert house.control is not None
        house.control.close()
        peer.refuse(await peer.receive("leave"), 0)
        status, _ = await house.ended()
        assert status == ExitStatus.OK


async def test_workers_that_die_again_and_again() -> None:
    """The keeper gives up after six deaths in ten seconds, with an error."""
    async with keeper(behaviour="kill") as house:
        for _ in range(6):
            peer = await house.dispatcher.agent()
            with pair() as (ours, _):
                peer.give(await peer.asked(), ours.fileno())
                await peer.closed()
        status, log = await house.ended()
        assert status == ExitStatus.FAILED
        assert "workers die as soon as they are started" in log


def test_a_fork_that_fails_is_not_tried_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For want of memory or processes: the keeper waits, sees to everything else meanwhile, and forks then."""
    now, failures = [100.0], [OSError(errno.EAGAIN, "no processes")] * 2
    workers: list[int] = []

    def fork() -> None:
        if failures:
            raise failures.pop()
        workers.append(len(workers))

    monkeypatch.setattr("hsframework.agent.keeper.time.monotonic", lambda: now[0])
    played: Any = SimpleNamespace(
        _begun=True, _next_fork=0.0, _options=SimpleNamespace(processes=2), _active=lambda: workers, _fork=fork
    )
    assert Keeper._fork_missing(played) == FORK_PAUSE
    assert len(failures) == 1
    now[0] += FORK_PAUSE / 2
    assert Keeper._fork_missing(played) == FORK_PAUSE / 2
    assert len(failures) == 1
    now[0] += FORK_PAUSE / 2
    assert Keeper._fork_missing(played) == FORK_PAUSE
    now[0] += FORK_PAUSE
    assert Keeper._fork_missing(played) is None
    assert workers == [0, 1]
    workers.clear()
    played._begun = False
    assert Keeper._fork_missing(played) is None
    assert not workers


class Selector:
    """Watch of a keeper's files, played: it refuses the second."""

    def __init__(self) -> None:
        self.watched: list[object] = []

    def register(self, file: object, events: int, data: object) -> None:
        if self.watched:
            raise OSError(errno.ENOSPC, "no watches")
        self.watched.append(file)

    def unregister(self, file: object) -> None:
        self.watched.remove(file)


def test_a_fork_that_fails_half_way_leaves_nothing() -> None:
    """The new process is killed and reaped; nothing of it is watched, and no file is left open."""
    before, started = len(os.listdir("/proc/self/fd")), []

    def forked(ours: socket.socket, theirs: socket.socket, links: Sequence[socket.socket]) -> int:
        pid = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "3600")
        started.append(pid)
        return pid

    played: Any = SimpleNamespace(_selector=Selector(), _forked=forked, _workers={})
    with pytest.raises(OSError, match="no watches"):
        Keeper._fork(played)
    with pytest.raises(ChildProcessError):
        os.waitpid(started[0], 0)
    assert not played._selector.watched
    assert not played._workers
    assert len(os.listdir("/proc/self/fd")) == before


class Told:
    """A worker and its end of the socket, played."""

    def __init__(self, pid: int, *, retired: bool = False) -> None:
        self.pid, self.retired, self.joined, self.cell = pid, retired, False, None
        self.told: list[bytes] = []
        self.report = self

    def send(self, message: bytes, flags: int) -> None:
        self.told.append(message)


def test_serving_is_reported_once_and_retired_workers_are_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once all workers have joined; those that join later are reported alone, and release those that have retired."""
    reports: list[Message] = []
    monkeypatch.setattr("hsframework.agent.keeper._report", lambda control, message: reports.append(message))
    one, two, old = Told(1), Told(2), Told(9, retired=True)
    workers: dict[int, Any] = {1: one, 2: two, 9: old}
    options = SimpleNamespace(processes=2, manager=ServiceManager({}))
    warm = SimpleNamespace(served=())
    played: Any = SimpleNamespace(_workers=workers, _control=None, _announced=False, _options=options, _warm=warm)
    played._active = lambda: [it for it in workers.values() if not it.retired]
    Keeper._joined(played, cast(Any, one))
    Keeper._joined(played, cast(Any, one))
    assert reports == [WorkerJoined(1)]
    assert not old.told
    Keeper._joined(played, cast(Any, two))
    assert reports == [WorkerJoined(1), WorkerJoined(2), Serving((1, 2))]
    two.retired, workers[3] = True, Told(3)
    Keeper._joined(played, workers[3])
    assert reports[3:] == [WorkerJoined(3)]
    assert [len(it.told) for it in (one, two, old, workers[3])] == [0, 1, 2, 0]


async def test_workers_die_with_their_keeper() -> None:
    """kill -9 of the keeper leaves no worker behind."""
    async with keeper(processes=2) as house:
        peers = [await house.dispatcher.agent(), await house.dispatcher.agent()]
        house.process.kill()
        for peer in peers:
            await peer.closed()
        status, _ = await house.ended()
        assert status == -signal.SIGKILL


async def test_join_refused() -> None:
    """A dispatcher that does not let the agent join ends the keeper with a status of its own."""
    async with keeper() as house:
        peer = await house.dispatcher.connection()
        peer.refuse(await peer.receive("join"), errno.EACCES, "user 5 may not join")
        status, log = await house.ended()
        assert status == ExitStatus.REFUSED
        assert "user 5 may not join" in log


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"settings": {"greetin": "x"}}, "did you mean 'greeting'"),
        ({"plugin": "nothing"}, "no plugin 'nothing' is installed (installed: plugin-0); install hsframework-nothing"),
        ({"plugin": "toy"}, "'toy' is a protocol of the plugin 'plugin-0', by which its agent is named"),
        ({"behaviour": "broken"}, "'plugin-0' failed to prepare toy: RuntimeError"),
        ({"groups": ["x" * (LONGEST_TEXT + 1)]}, "the plugin's groups or protocols cannot be reported"),
    ],
)
async def test_what_keeps_a_keeper_from_starting(options: dict[str, Any], said: str) -> None:
    """Wrong settings, no such plugin, a protocol in its place, one that cannot be prepared: status 2, and a report."""
    async with keeper(controlled=True, **options) as house:
        report = await house.hear()
        status, log = await house.ended()
    assert status == ExitStatus.CONFIGURATION
    assert isinstance(report, Failed)
    assert report.status == ExitStatus.CONFIGURATION
    assert said in report.message
    assert said in log


@pytest.mark.parametrize("data", [b"nonsense", b'{"event": "stop"}', WorkerJoined(1).encode(), b"[" * 50_000])
async def test_nonsense_from_the_supervisor(data: bytes) -> None:
    """A message that makes no sense is logged, and changes nothing."""
    async with keeper(controlled=True) as house:
        assert isinstance(await house.hear(), Loaded)
        house.go(data)
        house.go()
        peer = await house.dispatcher.agent()
        stopping = asyncio.create_task(house.stop())
        peer.refuse(await peer.receive("leave"), 0)
        status, log = await stopping
        assert status == ExitStatus.OK
        assert log.count("a message of the supervisor is not understood") == 1


async def test_a_plugin_that_changes_what_signals_do() -> None:
    """SIGCHLD and SIGTERM ignored, the wake-up fd taken away at each fork: a dead worker is replaced all the same, and
    SIGTERM ends everything in good order."""
    async with keeper(behaviour="careless") as house:
        first = await house.dispatcher.agent()
        os.kill(first.pid, signal.SIGKILL)
        second = await house.dispatcher.agent()
        stopping = asyncio.create_task(house.stop())
        second.refuse(await second.receive("leave"), 0)
        assert (await stopping)[0] == ExitStatus.OK


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_worker_that_retires_leaves_when_another_has_joined(processes: int) -> None:
    """In between it is a member that takes nothing, so that its group is open and requests wait for the other one."""
    async with keeper(behaviour="hoard", processes=processes) as house:
        first, *others = [await house.dispatcher.agent() for _ in range(processes)]
        assert (await shake(first))["status"] == errno.EIO
        second = await house.dispatcher.connection()
        join = await second.receive("join")
        first.send("ready", {"group": "toy"})
        first.send("cancel", {"request-id": 9}, sequence=7, flags=NLM_F_ACK)
        assert (await first.receive("error")).sequence == 7
        second.refuse(join, 0)
        first.refuse(await first.receive("leave"), 0)
        await first.closed()
        stopping = asyncio.create_task(house.stop())
        for peer in (second, *others):
            peer.refuse(await peer.receive("leave"), 0)
        status, log = await stopping
        assert status == ExitStatus.OK, log


async def test_a_worker_that_dies_before_it_reads_that_it_was_replaced() -> None:
    """Its end is no fault of the keeper's, which serves on."""
    async with keeper(behaviour="hoard") as house:
        first = await house.dispatcher.agent()
        assert (await shake(first))["status"] == errno.EIO
        second = await house.dispatcher.connection()
        os.kill(first.pid, signal.SIGSTOP)
        await second.joined()
        assert (await shake(second))["status"] == errno.EIO
        third = await house.dispatcher.agent()
        os.kill(first.pid, signal.SIGKILL)
        await first.closed()
        second.refuse(await second.receive("leave"), 0)
        await second.closed()
        stopping = asyncio.create_task(house.stop())
        third.refuse(await third.receive("leave"), 0)
        status, log = await stopping
        assert status == ExitStatus.OK, log


async def test_privileges_are_gone() -> None:
    """A worker has no capability, no groups, cannot gain privileges, is filtered, and is not root."""
    async with keeper() as house:
        peer = await house.dispatcher.agent()
        lines = Path(f"/proc/{peer.pid}/status").read_text().splitlines()  # noqa: ASYNC240  (it never blocks)
        facts = {line.split(":")[0]: " ".join(line.split(":")[1].split()) for line in lines}
    assert facts["NoNewPrivs"] == "1"
    assert facts["Seccomp"] == "2"
    assert {facts[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    uids, gids = set(facts["Uid"].split()), set(facts["Gid"].split())
    assert (len(uids), len(gids)) == (1, 1)
    if os.geteuid() == 0:
        assert 60800 <= int(uids.pop()) < 61056
        assert facts["CapBnd"] == "0" * 16
        assert facts["Groups"] == ""


async def test_nothing_is_opened_after_the_warm_up() -> None:
    """A handshake, a plugin's fault with its traceback in the log, a killed worker and its replacement: no file is
    opened and no module imported."""
    async with keeper(behaviour="fail", watch=True) as house:
        peer = await house.dispatcher.agent()
        assert (await shake(peer))["status"] == errno.EIO
        os.kill(peer.pid, signal.SIGKILL)
        peer = await house.dispatcher.agent()
        assert (await shake(peer))["status"] == errno.EIO
        stopping = asyncio.create_task(house.stop())
        peer.refuse(await peer.receive("leave"), 0)
        _, log = await stopping
    assert log.count("a fault in the toy") == 2
    assert "keeper_process.py" in log
    assert "OPENED" not in log


async def test_the_watch_itself_sees() -> None:
    """The same watch tells of a handshake that opens a file, or tries to where the agent's user may not."""
    async with keeper(behaviour="reads", watch=True) as house:
        peer = await house.dispatcher.agent()
        assert (await shake(peer))["status"] in (0, errno.EIO)
        stopping = asyncio.create_task(house.stop())
        peer.refuse(await peer.receive("leave"), 0)
        assert f"OPENED open ('{os.__file__}'" in (await stopping)[1]
