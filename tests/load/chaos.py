"""Disturber of a service's processes, and consumers that work meanwhile and count what each request ends with."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import multiprocessing
import os
import random
import resource
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from hsframework.client import AsyncClient, Client, HandshakeOptions
from hsframework.client.submits import encode_submit
from hsframework.client.wire import codec
from hsframework.errors import HsframeworkError
from hsframework.local.packets import messages_of, receive_packet, send_packet
from hsframework.netlink.messages import with_sequence
from hsframework.testing.network import tcp_pair
from tests.load.traffic import Credentials, handshake_pair
from tests.support.running import WAIT, Service, tcp_pairs

BEHAVIOURS = {"well": 90, "refuses": 3, "raises": 3, "returns_nonsense": 3, "never_returns": 3, "exits": 1, "blocks": 1}
"""Behaviours of the toy's handshakes, with their shares."""

LONGEST_PAUSE = 0.4
"""Seconds between two disturbances, at most."""

LONGEST_STOP = 1.5
"""Seconds for which a process is stopped or kept short, at most."""

AT_ONCE = 16
Ends = Counter[str]


class Disturber:
    """Thread that signals processes of a service at random, and keeps them short of files and of memory."""

    def __init__(self, service: Service, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self._service = service
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Disturber:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        acts = (self._kill, self._term, self._stop, self._without_files, self._without_memory)
        while not self._over.wait(self._random.uniform(0.02, LONGEST_PAUSE)):
            with contextlib.suppress(OSError):  # it has ended
                act, (role, pid) = self._random.choice(acts), self._victim()
                if pid == self._service.pid:
                    # Whatever ends it ends the service.
                    act, role = self._stop, "supervisor"
                self.done[f"{act.__name__[1:]} {role}"] += 1
                act(pid)

    def _victim(self) -> tuple[str, int]:
        """Return a process, each kind of them as likely as the others."""
        kinds: dict[str, list[int]] = {}
        for pid in self._service.processes():
            with contextlib.suppress(OSError):
                kinds.setdefault(Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0 "), []).append(pid)
        kind = self._random.choice(sorted(kinds))
        return kind.removeprefix("hsframework "), self._random.choice(kinds[kind])

    def _kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    def _term(self, pid: int) -> None:
        os.kill(pid, signal.SIGTERM)

    def _stop(self, pid: int) -> None:
        fd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(fd, signal.SIGSTOP)
            self._over.wait(self._random.uniform(0, LONGEST_STOP))
            signal.pidfd_send_signal(fd, signal.SIGCONT)
        finally:
            os.close(fd)

    def _without_files(self, pid: int) -> None:
        self._limit(pid, resource.RLIMIT_NOFILE, len(os.listdir(f"/proc/{pid}/fd")))

    def _without_memory(self, pid: int) -> None:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
        self._limit(pid, resource.RLIMIT_AS, pages * resource.getpagesize())

    def _limit(self, pid: int, which: int, now: int) -> None:
        """Let a process have what it has and no more, for a while."""
        soft, hard = resource.prlimit(pid, which)
        resource.prlimit(pid, which, (now, hard))
        self._over.wait(self._random.uniform(0, LONGEST_STOP))
        resource.prlimit(pid, which, (soft, hard))


async def pairs(folder: Path, credentials: Credentials, end: float) -> Ends:
    """Run handshakes of tls13 with both ends ours over asyncio, and send data where both ends have a session."""
    ends: Ends = Counter()
    while time.monotonic() < end:
        with contextlib.suppress(HsframeworkError):
            async with AsyncClient(folder) as client:
                while time.monotonic() < end:
                    with tcp_pairs() as (pair,):
                        try:
                            near, far = (each.stream() for each in await handshake_pair(client, pair, credentials))
                            await near.send(b"hello")
                            assert await far.receive() == b"hello"
                        except HsframeworkError as error:
                            ends[errno.errorcode[error.errno]] += 1
                            await asyncio.sleep(0.01)
                        else:
                            ends["ok"] += 1
    return ends


def alone(folder: Path, end: float, seed: int) -> Ends:
    """Run handshakes of the toy one after the other, over the blocking client."""
    ends: Ends = Counter()
    choose = random.Random(seed)
    while time.monotonic() < end:
        near, far = tcp_pair()
        with near, far:
            try:
                with Client(folder) as client:
                    client.handshake(near, _options(choose))
            except HsframeworkError as error:
                ends[errno.errorcode[error.errno]] += 1
            else:
                ends["ok"] += 1
    return ends


def by_hand(folder: Path, end: float, seed: int) -> Ends:
    """Submit many at once over a link, and check that each gets one answer or the link its end; some links go deaf."""
    ends: Ends = Counter()
    choose = random.Random(seed)
    while time.monotonic() < end:
        with contextlib.ExitStack() as opened:
            link = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            link.settimeout(WAIT)
            waiting = set(range(1, AT_ONCE + 1))
            try:
                link.connect(str(folder / "consumer.sock"))
                for number in waiting:
                    for sock in (pair := tcp_pair()):
                        opened.enter_context(sock)
                    submit = encode_submit(_options(choose), None)
                    send_packet(link, with_sequence(submit, number), pair[0].fileno())
                if choose.random() < 0.1:
                    ends["left"] += len(waiting)
                    continue
                while waiting:
                    data, _ = receive_packet(link)
                    if not data:
                        break
                    for message in map(codec().decode, messages_of(data)):
                        waiting.remove(message.sequence)  # KeyError: an answer to nothing, or a second one
                        status = message.values.get("status", message.error)
                        ends[errno.errorcode[status] if status else "ok"] += 1
            except (ConnectionError, BrokenPipeError):
                pass
            ends["link lost"] += len(waiting)
    return ends


def _options(choose: random.Random) -> HandshakeOptions:
    (behaviour,) = choose.choices(list(BEHAVIOURS), list(BEHAVIOURS.values()))
    return HandshakeOptions(group="toy", peer_name=behaviour, timeout=choose.uniform(0.2, 3))


@contextlib.contextmanager
def in_processes(
    *works: tuple[int, Callable[[Path, float, int], Ends], Path, float, int],
) -> Iterator[Callable[[], list[Ends]]]:
    """Run consumers as processes of users: ``uid, consumer`` and its arguments.  Yields what waits for their counts."""
    context = multiprocessing.get_context("fork")
    queue: SimpleQueue[Ends | str] = context.SimpleQueue()
    processes = [context.Process(target=_as_user, args=(queue, *work), daemon=True) for work in works]
    for process in processes:
        process.start()

    def ends() -> list[Ends]:
        found = [queue.get() for _ in processes]
        assert not (wrong := [each for each in found if isinstance(each, str)]), wrong
        return [each for each in found if isinstance(each, Counter)]

    try:
        yield ends
    finally:
        for process in processes:
            process.kill()
            process.join()


def _as_user(
    queue: SimpleQueue[Ends | str],
    uid: int,
    work: Callable[[Path, float, int], Ends],
    folder: Path,
    end: float,
    seed: int,
) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    try:
        queue.put(work(folder, end, seed))
    except BaseException as error:
        queue.put(f"{work.__name__} of user {uid}: {error!r}")
