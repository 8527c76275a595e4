"""Handshakes per second through the whole path, as ratios to the bare library on the same machine in the same run.

    python -m benchmarks.handshakes [--seconds 5] [--concurrency 64] [--json FILE]

* *bare*: pyOpenSSL client and server joined by memory BIOs in one loop, contexts made once, chains verified by OpenSSL,
  secrets taken out by the keylog callback.  One process.
* *path*: a consumer hands over both ends of TCP connections over loopback that are there already, as a kernel
  consumer's are and stay, and names a profile for each; a dispatcher and one or two agent processes run the
  handshakes; each pair counts once, when the consumer has both sessions.  Consumer, dispatcher and agents are
  processes of their own and share the machine's cores.
* *s_time*: `openssl s_time -new` against `openssl s_server`, for scale.

Each ratio is the median of several rounds in which bare and path take turns, since the machine may do other things too.
Start-up is from the start of the process until a request is taken; memory is Pss from /proc/PID/smaps_rollup; the
consumer's processor time has making and closing the connections in it, which the rates have not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key
from OpenSSL import SSL, crypto

from benchmarks.support.running import (
    Running,
    children,
    processor_time,
    proportional_memory,
    running_service,
    serves,
)
from hsframework.client import AsyncClient, HandshakeOptions
from hsframework.interface import AuthMode, Role
from hsframework.supervisor.main import plugin_names
from hsframework.testing.certificates import Authority

NAME = "server.example"
ROUNDS = 5
WARM_UP = 20


@dataclass(frozen=True)
class Setup:
    """What both ends show each other."""

    name: str
    key_type: str
    mutual: bool = False


SETUPS = (
    Setup("ECDSA P-256, server alone", "ecdsa-p256"),
    Setup("RSA-2048, server alone", "rsa-2048"),
    Setup("ECDSA P-256, both ends", "ecdsa-p256", mutual=True),
    Setup("RSA-2048, both ends", "rsa-2048", mutual=True),
)


class Credentials:
    """One authority, a server's certificate and a client's."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.authority = Authority("Benchmark CA", key_type=setup.key_type)
        self.server = self.authority.issue(names=[NAME], key_type=setup.key_type)
        self.client = self.authority.issue(names=["client.example"], key_type=setup.key_type)


def bare_contexts(credentials: Credentials) -> tuple[SSL.Context, SSL.Context]:
    """The client's and the server's."""
    contexts = []
    for issued, verifies, shows in (
        (credentials.client, True, credentials.setup.mutual),
        (credentials.server, credentials.setup.mutual, True),
    ):
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_keylog_callback(lambda connection, line: None)
        if shows:
            context.use_certificate(x509.load_der_x509_certificate(issued.identity.chain[0]))
            context.use_privatekey(load_der_private_key(issued.identity.private_key.reveal(), None))  # type: ignore[arg-type]
        if verifies:
            store = context.get_cert_store()
            assert store is not None
            store.add_cert(crypto.load_certificate(crypto.FILETYPE_ASN1, credentials.authority.trust().anchors[0]))
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
        contexts.append(context)
    return contexts[0], contexts[1]


def bare_rate(contexts: tuple[SSL.Context, SSL.Context], seconds: float) -> float:
    """Pairs of handshakes a second, in one loop."""

    def pair() -> None:
        client, server = (SSL.Connection(context, None) for context in contexts)
        client.set_tlsext_host_name(NAME.encode())
        client.set_connect_state()
        server.set_accept_state()
        unfinished = {client, server}
        while unfinished:
            for here, there in ((client, server), (server, client)):
                with suppress(SSL.WantReadError):
                    here.do_handshake()
                    unfinished.discard(here)
                with suppress(SSL.WantReadError):
                    there.bio_write(here.bio_read(65536))

    for _ in range(20):
        pair()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        pair()
        count += 1
    return count / (time.perf_counter() - start)


def processes_of(service: Running) -> tuple[int, int, list[int]]:
    """The dispatcher, the keeper of tls13, and its agents."""
    dispatcher, keeper = children(service.pid)[:2]
    return dispatcher, keeper, children(keeper)


def memory(service: Running) -> dict[str, int]:
    """KiB of each process, by its role."""
    dispatcher, keeper, agents = processes_of(service)
    found = {"supervisor": service.pid, "dispatcher": dispatcher, "keeper of tls13": keeper}
    found |= {f"agent {number}": agent for number, agent in enumerate(agents, 1)}
    return {role: proportional_memory(pid) for role, pid in found.items()}


def processor_times(service: Running) -> dict[str, float]:
    """Seconds of each kind of process so far, to the hundredth; ours is the consumer."""
    dispatcher, _, agents = processes_of(service)
    return {
        "consumer": time.process_time(),
        "dispatcher": processor_time(dispatcher),
        "agents": sum(map(processor_time, agents)),
    }


def connections(number: int) -> list[tuple[socket.socket, socket.socket]]:
    """So many TCP connections over loopback, both ends."""
    pairs = []
    with socket.create_server(("127.0.0.1", 0), backlog=number) as server:
        for _ in range(number):
            client = socket.create_connection(server.getsockname())
            pairs.append((client, server.accept()[0]))
    return pairs


async def path_rate(folder: Path, setup: Setup, concurrency: int, pairs: int) -> float:
    """Pairs a second; raises when one fails.  The clock stops when the last session is there; then all are closed."""
    shown = AuthMode.X509 if setup.mutual else AuthMode.UNAUTHENTICATED
    client_options = HandshakeOptions(peer_name=NAME, profile="client", auth_mode=shown)
    server_options = HandshakeOptions(role=Role.SERVER, profile="server")
    async with AsyncClient(folder) as consumer:

        async def many(work: list[tuple[socket.socket, socket.socket]]) -> None:
            while work:
                client, server = work.pop()
                other = asyncio.create_task(consumer.handshake(client, client_options))
                await consumer.handshake(server, server_options)
                await other

        async def timed(number: int) -> float:
            made = connections(number)
            try:
                work = list(made)
                start = time.perf_counter()
                await asyncio.gather(*(many(work) for _ in range(concurrency)))
                return time.perf_counter() - start
            finally:
                for client, server in made:
                    client.close()
                    server.close()

        await timed(WARM_UP)
        return pairs / await timed(pairs)


def _configuration(folder: Path, credentials: Credentials, processes: int) -> str:
    authority = credentials.authority.write(folder, "ca")
    server = credentials.server.write(folder, "server")
    client = credentials.client.write(folder, "client")
    demand = "require" if credentials.setup.mutual else "none"
    return f"""
log.level = "warning"
agents.tls13.processes = {processes}
identities.server = {{ certificate = "{server.certificate}", private-key = "{server.private_key}" }}
identities.client = {{ certificate = "{client.certificate}", private-key = "{client.private_key}" }}
trust.all.bundle = ["{authority}"]
profiles.server = {{ identities = ["server"], trust = "all", client-certificate = "{demand}" }}
profiles.client = {{ identities = ["client"], trust = "all" }}
"""


def s_time_rate(credentials: Credentials, folder: Path, seconds: int) -> float | None:
    """New connections a second that `openssl s_time` counts in real time."""
    if shutil.which("openssl") is None:
        return None
    files = credentials.server.write(folder, "server")
    authority = credentials.authority.write(folder, "ca")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [
            "openssl",
            "s_server",
            "-quiet",
            "-tls1_3",
            "-accept",
            f"127.0.0.1:{port}",
            "-www",
            "-cert",
            str(files.certificate),
            "-key",
            str(files.private_key),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.02)
        text = subprocess.run(
            [
                "openssl",
                "s_time",
                "-new",
                "-connect",
                f"127.0.0.1:{port}",
                "-time",
                str(seconds),
                "-CAfile",
                str(authority),
            ],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
    finally:
        server.kill()
        server.wait()
    match = re.search(r"(\d+) connections in (\d+) real seconds", text)
    return int(match.group(1)) / int(match.group(2)) if match else None


def service(credentials: Credentials, processes: int, *, alone: bool = True) -> AbstractContextManager[Running]:
    """A running service.  ``alone``: of what is installed, TLS 1.3 only."""
    return running_service(
        "tls13" if alone else None,
        lambda folder: _configuration(folder, credentials, processes),
        lambda runtime: serves(runtime, "tls13", lambda: connections(1)[0]),
    )


def measure(setup: Setup, seconds: float, concurrency: int) -> dict[str, Any]:
    """Bare and whole path with one and two agent processes, in turns."""
    credentials = Credentials(setup)
    contexts = bare_contexts(credentials)
    figures: dict[str, Any] = {"setup": setup.name, "bare": []}
    for processes in (1, 2):
        with service(credentials, processes) as running:
            rates, ratios = [], []
            spent = {"consumer": 0.0, "dispatcher": 0.0, "agents": 0.0}
            count = 0
            for _ in range(ROUNDS):
                bare = bare_rate(contexts, seconds / ROUNDS)
                pairs = max(100, min(2000, int(bare * seconds / ROUNDS)))
                before = processor_times(running)
                rate = asyncio.run(path_rate(running.folder, setup, concurrency, pairs))
                after = processor_times(running)
                count += pairs + WARM_UP
                for process in spent:
                    spent[process] += after[process] - before[process]
                figures["bare"].append(bare)
                rates.append(rate)
                ratios.append(rate / bare)
            figures[f"path_{processes}"] = statistics.median(rates)
            figures[f"ratio_{processes}"] = statistics.median(ratios)
            figures[f"start_up_{processes}"] = running.start_up
            figures[f"memory_{processes}"] = memory(running)
            figures[f"processor_time_{processes}"] = {name: 1e6 * spent[name] / count for name in spent}
    figures["bare"] = statistics.median(figures["bare"])
    return figures


def start_up_together() -> float:
    """Seconds until a request is taken, with every plugin that is installed."""
    with service(Credentials(SETUPS[0]), 1, alone=False) as running:
        return running.start_up


def main() -> int:
    """Measure, print, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default 5)")
    parser.add_argument("--concurrency", type=int, default=64, help="pairs under way at once (default 64)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, {arguments.concurrency} pairs at a time; pairs a second, and the ratio to bare\n")
    print(f"{'':28}{'bare':>8}{'one agent':>18}{'two agents':>18}")
    every = []
    for setup in SETUPS:
        figures = measure(setup, arguments.seconds, arguments.concurrency)
        every.append(figures)
        path = "".join(f"{figures[f'path_{n}']:11.0f}{figures[f'ratio_{n}']:7.2f}" for n in (1, 2))
        print(f"{setup.name:28}{figures['bare']:8.0f}{path}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        scale = s_time_rate(Credentials(SETUPS[0]), Path(name), max(2, int(arguments.seconds)))
    if scale:
        print(f"\nopenssl s_time -new ({SETUPS[0].name}): {scale:.0f} connections a second")
    print(f"start-up until a request is taken: {min(figures['start_up_1'] for figures in every):.2f} s")
    together = min(start_up_together() for _ in range(3))
    print(f"the same with every plugin that is installed ({', '.join(plugin_names())}): {together:.2f} s")
    for number in (1, 2):
        shares = every[0][f"processor_time_{number}"]
        split = ", ".join(f"{name} {share:.0f}" for name, share in shares.items())
        print(
            f"processor time of a pair ({SETUPS[0].name}), {number} agent(s): {sum(shares.values()):.0f} µs ({split})"
        )
    for role, size in every[0]["memory_1"].items():
        print(f"memory of {role}: {size / 1024:.1f} MiB")
    if arguments.json:
        arguments.json.write_text(json.dumps({"setups": every, "s_time": scale}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
