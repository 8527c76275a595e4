"""Benchmark of what attacks of one local user cost root and another user.

    python -m benchmarks.fairness [--handshakes 200] [--rounds 3] [--only ATTACK ...]

Run it as root, who alone can be other users.  A service with cells, TLS 1.3 and ECDSA P-256; root and a user in turn
make handshakes one after the other, each over a connection of its own to the service, with both ends submitted by
themselves.  The figure is the median of the milliseconds from the connect to both sessions, while nobody attacks and
during each attack, and its ratio to the quiet one; the aim is a ratio of 2 at most.  Rounds of all of them alternate,
since a machine is not equally busy for long, and the median of the rounds is printed.

* *locked*: an allowed user hands over a socket whose lock he holds (userfaultfd)
* *submitting*: one has thousands of requests in flight, and ends in the middle of them, again and again
* *lingering*, *flooding*: a stranger leaves sockets that take minutes to close, or fills both sockets with connections

A program that computes takes its share of the processors, whatever it computes.  So for comparison:

* *computing*, *computing 2*: a user who does not use the service has one program, or two, that compute without end
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.support.running import running_service, serves
from hsframework.client import AsyncClient, HandshakeOptions
from hsframework.client.submits import encode_submit
from hsframework.interface import Identity, Role, Trust
from hsframework.local.packets import send_packet
from hsframework.netlink.messages import with_sequence
from hsframework.testing.certificates import Authority
from hsframework.testing.network import tcp_pair
from tests.load.locked_memory import held_lock, userfaultfd

NAME = "server.example"
ATTACKER, ANOTHER, STRANGER = 3000, 3001, 3002
CONFIGURATION = f'[log]\nlevel = "error"\n[[allow]]\nusers = ["{ATTACKER}", "{ANOTHER}"]\n'
ATTACKS = {"locked": ATTACKER, "submitting": ATTACKER, "lingering": STRANGER, "flooding": STRANGER}
"""The user by the attack."""
COMPUTING = {"computing": 1, "computing 2": 2}
"""The number of processes by the comparison."""
COMPUTE = f"import os; os.setuid({STRANGER}); print(flush=True)\nwhile True: pass"
WARM_UP = 5


async def _handshake(folder: Path, trust: Trust, identity: Identity) -> None:
    near, far = tcp_pair()
    with near, far:
        async with AsyncClient(folder) as client:
            await asyncio.gather(
                client.handshake(near, HandshakeOptions(peer_name=NAME, trust=trust, timeout=30)),
                client.handshake(far, HandshakeOptions(role=Role.SERVER, identities=(identity,), timeout=30)),
            )


def _median(folder: Path, trust: Trust, identity: Identity, number: int) -> float:
    """Return the median of the milliseconds of a handshake."""

    async def measure() -> list[float]:
        taken = []
        for _ in range(number + WARM_UP):
            start = time.perf_counter()
            await _handshake(folder, trust, identity)
            taken.append(1000 * (time.perf_counter() - start))
        return taken[WARM_UP:]

    return statistics.median(asyncio.run(measure()))


def _as_user(told: Connection, folder: Path, trust: Trust, identity: Identity) -> None:
    _become(ANOTHER)
    while True:
        told.send(_median(folder, trust, identity, told.recv()))


def _become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


@contextmanager
def _attack(name: str, folder: Path) -> Iterator[None]:
    """Run an attack that has begun to have its effect, for the length of the block."""
    if name == "locked":
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=_locked, args=(folder, theirs), daemon=True)
        process.start()
        ours.recv()
        try:
            yield
        finally:
            process.kill()
            process.join()
        return
    words = [[sys.executable, "-m", "tests.kernel.hostile", str(ATTACKS[name]), name, str(folder)]]
    with _programs(words):
        yield


@contextmanager
def _programs(commands: list[list[str]]) -> Iterator[None]:
    """Run programs that each write a line once they have begun, for the length of the block."""
    running = []
    try:
        for words in commands:
            process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            running.append(process)
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in running:
            process.kill()
            process.communicate()


def _locked(folder: Path, told: Connection) -> None:
    memory = userfaultfd()
    _become(ATTACKER)
    near = held_lock(memory)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        link.connect(str(folder / "consumer.sock"))
        send_packet(link, with_sequence(encode_submit(HandshakeOptions(group="tls13"), None), 1), near.fileno())
        told.send(None)
        time.sleep(3600)


def _row(name: str, rounds: list[list[float]], quiet: list[float]) -> None:
    figures = [statistics.median(column) for column in zip(*rounds, strict=True)]
    words = "".join(f"{figure:10.1f}{figure / before:8.2f}" for figure, before in zip(figures, quiet, strict=True))
    print(f"{name:12}{words}", flush=True)


def main() -> int:
    """Measure and print.  Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--handshakes", type=int, default=200, help="of each user at each point (default 200)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(ATTACKS), default=list(ATTACKS))
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("skipped: only root can be other users")
        return 0
    authority = Authority("Fairness CA")
    trust, identity = authority.trust(), authority.issue([NAME]).identity
    number: int = arguments.handshakes

    def ready(runtime: Path) -> bool:
        return serves(runtime, "tls13", tcp_pair)

    with running_service("tls13", lambda folder: CONFIGURATION, ready) as running:
        folder = running.folder
        _median(folder, trust, identity, 1)  # imports what another user may not read
        ours, theirs = multiprocessing.Pipe()
        user = multiprocessing.get_context("fork").Process(
            target=_as_user, args=(theirs, folder, trust, identity), daemon=True
        )
        user.start()

        def both() -> list[float]:
            ours.send(number)
            another = float(ours.recv())
            return [_median(folder, trust, identity, number), another]

        print(f"{os.cpu_count()} processors; milliseconds of a fresh handshake, and the ratio to quiet\n")
        print(f"{'':12}{'root':>18}{'another user':>18}")
        found: dict[str, list[list[float]]] = {}
        for _ in range(arguments.rounds):
            found.setdefault("quiet", []).append(both())
            for name in arguments.only:
                with _attack(name, folder):
                    found.setdefault(name, []).append(both())
            for name, processes in COMPUTING.items():
                with _programs([[sys.executable, "-c", COMPUTE]] * processes):
                    found.setdefault(name, []).append(both())
        quiet = [statistics.median(column) for column in zip(*found["quiet"], strict=True)]
        for name, rounds in found.items():
            _row(name, rounds, quiet)
        user.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
