"""Cells: a user who hands over what blocks for ever holds up his own requests, and nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import multiprocessing
import os
import queue
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from hsframework.client import AsyncClient, Client, HandshakeOptions
from hsframework.client.submits import encode_submit
from hsframework.errors import HsframeworkError
from hsframework.local.packets import send_packet
from hsframework.netlink.messages import with_sequence
from hsframework.supervisor.cells import NUMBERS
from hsframework.testing.network import tcp_pair
from tests.load.locked_memory import held_lock, userfaultfd
from tests.load.traffic import Credentials, check_served
from tests.support.lingering import lingering
from tests.support.running import (
    WAIT,
    Running,
    Service,
    children,
    install_plugin,
    only,
    running_service,
    short_folder,
    sockets,
    status_of,
    tcp_pairs,
    until,
)

TOY = Path(__file__).with_name("toy_plugin.py").read_text()
USER, ANOTHER, STRANGER = 1000, 1001, 1002
MANY_FILES = 400
"""More than any process has without a flood, and more connections than wait for one cell."""

OPTIONS = HandshakeOptions(group="toy", timeout=10)
RULES = f'[[allow]]\nusers = ["{USER}", "{ANOTHER}"]\n'


@contextlib.contextmanager
def together() -> Iterator[Service]:
    """Run a service with the agents that it starts."""
    with running_service(RULES, plugins={"toy": TOY}) as running:
        running.wait_for_agents()
        running.wait_for_agents(protocol="toy")
        yield running


@contextlib.contextmanager
def apart() -> Iterator[Service]:
    """Run a service as the units have it: each agent that serves root is started by itself."""
    with short_folder() as folder, contextlib.ExitStack() as stack:
        install_plugin(folder / "site", "toy", TOY)
        service = Service(folder, only("tls13", "toy") + RULES, folder / "site", "--agents-apart")
        stack.callback(service.clean_up)
        for plugin in ("tls13", "toy"):
            words = ("agent", plugin, "--config", str(folder / "hsframework.toml"))
            agent = Running(words, folder, folder / "site")
            stack.callback(agent.clean_up)
            agent.log.wait("joined", protocol=plugin)
        yield service
        assert service.stop() == 0


@pytest.fixture(scope="module", params=[together, apart], ids=["together", "apart"])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    with request.param() as running:
        # Imports what the other users may not read.
        assert handshake(running.runtime_dir) == "ok"
        yield running


class Somebody:
    """A process of another user, which does what it is told."""

    def __init__(self, uid: int) -> None:
        self._ours, theirs = multiprocessing.get_context("fork").Pipe()
        self._process = multiprocessing.get_context("fork").Process(target=_become, args=(uid, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def __call__(self, act: Callable[..., Any], *values: Any) -> Any:
        self._ours.send((act, values))
        return self._ours.recv()

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._ours.close()


def _become(uid: int, told: Connection) -> None:
    _kept.append(userfaultfd())
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    while True:
        act, values = told.recv()
        told.send(act(*values))


@pytest.fixture
def somebody() -> Iterator[Callable[[int], Somebody]]:
    with contextlib.ExitStack() as stack:

        def start(uid: int) -> Somebody:
            return stack.enter_context(contextlib.closing(Somebody(uid)))

        yield start


def handshake(runtime_dir: Path, sock: socket.socket | None = None, options: HandshakeOptions = OPTIONS) -> str:
    """Run a handshake of the toy's, and return its end: ``ok``, or the error's name."""
    with tcp_pairs() as ((near, _),), Client(runtime_dir) as client:
        try:
            client.handshake(sock or near, options)
        except HsframeworkError as error:
            return errno.errorcode[error.errno]
    return "ok"


_kept: list[object] = []


def hand_over_lingering(path: str, number: int) -> None:
    """Hand over sockets whose last close takes an hour, with messages that are refused, over connections that end."""
    for _ in range(number):
        near, far = lingering()
        _kept.append(far)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
            link.connect(path)
            send_packet(link, struct.pack("=IHHII", 16, 0x20, 0, 1, 0), near.fileno())
            # Where the service has closed its copy by now, this is the last one.
            threading.Thread(target=os.close, args=(near.detach(),), daemon=True).start()


_ends: queue.SimpleQueue[str] = queue.SimpleQueue()


def _ended() -> str:
    """Return the end of the handshake that was under way."""
    return _ends.get(timeout=WAIT)


def hand_over_locked(path: str, runtime_dir: Path) -> None:
    """Hand over a socket whose lock a thread of this process holds for as long as it lives, beside a good handshake."""
    waits = HandshakeOptions(group="toy", peer_name="never_returns", timeout=WAIT)
    near, far = tcp_pair()
    _kept.append((near, far))
    threading.Thread(target=lambda: _ends.put(handshake(runtime_dir, near, waits)), daemon=True).start()
    assert far.recv(3) == b"toy"
    fault = _kept[0]
    assert isinstance(fault, int)
    near = held_lock(fault)
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link.connect(path)
    send_packet(link, with_sequence(encode_submit(OPTIONS, None), 1), near.fileno())
    _kept.append((near, link))


def test_who_shares_a_fate_shares_a_process(service: Service, somebody: Callable[[int], Somebody]) -> None:
    """Each user has a cell with a number of its own, without any capability, and a worker of his own."""
    before = set(service.workers("toy"))
    for uid in (USER, ANOTHER):
        assert somebody(uid)(handshake, service.runtime_dir) == "ok"
    cells = [event["process"] for uid in (USER, ANOTHER) for event in _started(service, uid)]
    numbers = [set(status_of(pid)["Uid"].split()) for pid in cells]
    assert len(set.union(*numbers)) == 2
    for pid, number in zip(cells, numbers, strict=True):
        assert int(*number) in NUMBERS
        facts = status_of(pid)
        assert not facts["Groups"].split()
        assert {int(facts[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb")} == {0}
        assert facts["NoNewPrivs"] == "1"
        assert facts["Seccomp"] == "2", "it may make few system calls"
        assert not sockets(pid) & (sockets(service.pid) | sockets(service.dispatcher)), "it inherits none"
        assert os.stat(f"/proc/{pid}/status").st_uid == 0, "not dumpable"
    workers = set(service.workers("toy")) - before
    assert len(workers) == 2
    assert {status_of(pid)["Seccomp"] for pid in workers} == {"2"}, "they cannot signal each other"
    assert somebody(STRANGER)(handshake, service.runtime_dir) == "EACCES"
    (strangers,) = service.log.events("started", child="cell of strangers")
    assert os.getpriority(os.PRIO_PROCESS, strangers["process"]) == 19, "a flood takes what others leave"
    assert len(set(service.workers("toy")) - before) == 2


def test_a_socket_that_is_locked(
    service: Service, somebody: Callable[[int], Somebody], credentials: Credentials
) -> None:
    """A user's cell waits for the socket's lock: root, another user, and he himself, in another cell, are served."""
    evil = somebody(USER)
    mark = service.log.mark
    evil(hand_over_locked, str(service.runtime_dir / "consumer.sock"), service.runtime_dir)
    hung = service.log.wait("a cell hangs and is killed", child=f"cell of user {USER}", since=mark)["process"]
    assert evil(_ended) == "ECONNRESET", "what was under way there ends at once, and not by its own time"
    asyncio.run(_served(service, credentials))
    for uid in (ANOTHER, USER):
        assert somebody(uid)(handshake, service.runtime_dir) == "ok"
    evil.close()
    until(lambda: hung not in children(service.pid), "it has ended")


@pytest.mark.parametrize("name", ["consumer", "agent"])
def test_sockets_that_linger(
    service: Service, somebody: Callable[[int], Somebody], credentials: Credentials, name: str
) -> None:
    """A stranger leaves more of them than a process has threads to close: neither root nor a user sees anything."""
    stranger = somebody(STRANGER)
    stranger(hand_over_lingering, str(service.runtime_dir / f"{name}.sock"), 80)
    asyncio.run(_served(service, credentials))
    assert somebody(USER)(handshake, service.runtime_dir) == "ok"
    threads = [int(status_of(pid)["Threads"]) for pid in (service.pid, service.dispatcher)]
    assert threads[0] == 1
    assert threads[1] <= 2


def test_a_cell_that_floods_gives_way(somebody: Callable[[int], Somebody]) -> None:
    """A user with thousands of requests in flight: his cell becomes nice; another user's and the dispatcher do not."""
    processors = os.sched_getaffinity(0)
    with contextlib.ExitStack() as stack:
        # Of one processor a cell uses much, however many the machine has.
        os.sched_setaffinity(0, {min(processors)})
        stack.callback(os.sched_setaffinity, 0, processors)
        service = stack.enter_context(together())
        os.sched_setaffinity(0, processors)
        ordinary = os.getpriority(os.PRIO_PROCESS, service.pid)
        assert handshake(service.runtime_dir) == "ok", "and what other users may not read is imported"
        assert somebody(ANOTHER)(handshake, service.runtime_dir) == "ok"
        words = [sys.executable, "-m", "tests.kernel.hostile", str(USER), "submitting", str(service.runtime_dir)]
        attacker = stack.enter_context(subprocess.Popen(words, stdout=subprocess.DEVNULL))
        stack.callback(attacker.kill)
        flooded = service.log.wait("started", child=f"cell of user {USER}")["process"]
        until(lambda: os.getpriority(os.PRIO_PROCESS, flooded) > ordinary, "it gives way")
        (other,) = _started(service, ANOTHER)
        for pid in (service.dispatcher, other["process"]):
            assert os.getpriority(os.PRIO_PROCESS, pid) == ordinary
        until(lambda: _files(flooded) > MANY_FILES, "his cell has his sockets")
        for pid in (service.pid, service.dispatcher, other["process"]):
            assert _files(pid) < MANY_FILES, "and nobody else has"


async def _served(service: Service, credentials: Credentials) -> None:
    async with AsyncClient(service.runtime_dir) as client:
        for _ in range(5):
            await check_served(client, credentials)


def _files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _started(service: Service, uid: int) -> list[dict[str, Any]]:
    return service.log.events("started", child=f"cell of user {uid}")
