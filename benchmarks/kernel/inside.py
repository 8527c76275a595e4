"""The measurements of :mod:`benchmarks.kernel`, run in the test kernel; the argument names a file for the figures."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.stalled import client_hello
from hsframework.testing.certificates import Credential
from tests.kernel.consumers import tlshd, x509
from tests.kernel.house import ROOT, End, House, house
from tests.kernel.requests import Ask, Device, make_requests, silent
from tests.support.running import children, proportional_memory, sockets, until

NAME = "server.test"
ASK = Ask(NAME)
REQUESTS = 400
AT_ONCE = (16, 64)
WARM = 40
STALLED = 200
IN_FLIGHT = 10
Server = House | subprocess.Popen[bytes]


@contextlib.contextmanager
def ours(credential: Credential) -> Iterator[House]:
    """Run hsframework with one worker, the default, and with the log of a service."""
    log = '[log]\nlevel = "info"\nformat = "json"\n'
    with house(client=End(credential), server=End(credential), more=log) as service:
        yield service


@contextlib.contextmanager
def theirs(credential: Credential) -> Iterator[subprocess.Popen[bytes]]:
    """Run tlshd, which logs errors only."""
    section = x509(credential, "benchmark")
    sections = {"authenticate.client": section, "authenticate.server": section}
    with tlshd(sections, verbose=False) as process:
        yield process


SERVICES: dict[str, Callable[[Credential], contextlib.AbstractContextManager[Server]]] = {
    "hsframework": ours,
    "tlshd": theirs,
}


def rates(device: Device) -> dict[int, dict[str, Any]]:
    """Measure requests, and return the figures by the number of requests at a time."""
    found = {}
    for at_once in AT_ONCE:
        tally = make_requests(device, REQUESTS, at_once, ASK)
        found[at_once] = asdict(tally) | {"rate": tally.rate}
    return found


def stalled(server: Server, device: Device, speech: bytes) -> dict[str, float]:
    """Measure memory and processes of each of many handshakes whose peer sends ``speech`` only."""
    memory, count = settled_memory(server), len(processes(server))
    with silent(device) as peers:
        peers.add(STALLED, speech)
        if speech:
            peers.answered()
        each = {
            "kib": (settled_memory(server) - memory) / STALLED,
            "processes": (len(processes(server)) - count) / STALLED,
            "ended early": len(device.ended(0)),
        }
        peers.hang_up()
        peers.ended(STALLED - int(each["ended early"]))
    return each


def processes(server: Server) -> list[int]:
    """Return the ids of the service's processes."""
    if isinstance(server, House):
        return server.processes()
    return [server.pid, *children(server.pid)]


def settled_memory(server: Server) -> int:
    """Return the Pss of the service's processes in KiB, once it no longer changes much."""
    before, now = -1000, 0
    while abs(now - before) > 64:
        before, now = now, sum(map(proportional_memory, processes(server)))
        time.sleep(0.5)
    return now


def kill(service: House, device: Device, victim: Callable[[], int]) -> dict[str, float]:
    """Kill a process with requests in flight.

    Returns the milliseconds until their consumers have their outcomes, and until the next request is served.
    """
    with silent(device) as peers:
        agent = service.workers()[0]
        before = len(sockets(agent))
        peers.add(IN_FLIGHT)
        until(lambda: len(sockets(agent)) >= before + IN_FLIGHT, "the worker has all of them in hand")
        begun = time.monotonic()
        os.kill(victim(), signal.SIGKILL)
        ended = peers.ended(IN_FLIGHT)
        heard = max(item.at for item in ended) - begun
    while not served(device):
        pass
    return {"lost": IN_FLIGHT - len(ended), "heard": heard * 1000, "serving": (time.monotonic() - begun) * 1000}


def served(device: Device) -> bool:
    """Return True if both ends of one connection get a session; False also if no agent serves yet."""
    try:
        return make_requests(device, 2, 2, ASK).served == 2
    except OSError:
        return False


def main(path: Path, rounds: int, kills: int) -> None:
    """Measure ours and tlshd in turns, and write the figures to ``path``."""
    credential = ROOT.issue([NAME])
    speeches = {"nothing came": b"", "answered": client_hello()}
    found: dict[str, Any] = {name: {"rates": [], "stalled": {}, "kills": {}} for name in SERVICES}
    with Device() as device:
        for turn in range(rounds):
            for name, start in SERVICES.items():
                with start(credential) as server:
                    make_requests(device, WARM, 8, ASK)
                    found[name]["rates"].append(rates(device))
                    if turn == 0 and kills:
                        for kind, speech in speeches.items():
                            found[name]["stalled"][kind] = stalled(server, device, speech)
        if kills:
            with ours(credential) as service:
                make_requests(device, WARM, 8, ASK)
                victims = {"agent": lambda: service.workers()[0], "dispatcher": lambda: service.dispatcher}
                for name, victim in victims.items():
                    found["hsframework"]["kills"][name] = [kill(service, device, victim) for _ in range(kills)]
    path.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
