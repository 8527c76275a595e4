"""Benchmark of handshakes per second through the whole service, as ratios to the bare library in the same run.

    python -m benchmarks.handshakes [--seconds 5] [--concurrency 64] [--json FILE]

* *bare*: pyOpenSSL client and server joined by memory BIOs in one loop, contexts made once, chains verified by OpenSSL,
  secrets taken out by the keylog callback.  One process.
* *path*: a consumer submits both ends of TCP connections over loopback, which are open before and after, as a kernel
  consumer's are, and names a profile for each; a dispatcher and one or two workers run the handshakes; each pair counts
  once, when the consumer has both sessions.  Consumer, dispatcher and workers are processes of their own and share the
  machine's cores.
* *s_time*: `openssl s_time -new` against `openssl s_server`, for scale.

Each ratio is the median of several rounds in which bare and path take turns, because the machine may do other work too.
Start-up is from the start of the process until a request is taken; memory is Pss from /proc/PID/smaps_rollup; the
consumer's processor time includes making and closing the connections, and the rates do not.
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
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key
from OpenSSL import SSL, crypto

from benchmarks.support.running import (
    Running,
    child_titled,
    children,
    processor_time,
    proportional_memory,
    running_service,
    serves,
)
from hsframework.client import AsyncClient, HandshakeOptions
from hsframework.interface import AuthMode, Role
from hsframework.registry.installed import plugin_names
from hsframework.testing.certificates import Authority

NAME = "server.example"
ROUNDS = 5
WARM_UP = 20


@dataclass(frozen=True)
class Setup:
    """The certificates that both ends present."""

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
    """One authority, a server's certificate and a client's, of a setup's key type."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.authority = Authority("Benchmark CA", key_type=setup.key_type)
        self.server = self.authority.issue(names=[NAME], key_type=setup.key_type)
        self.client = self.authority.issue(names=["client.example"], key_type=setup.key_type)


def bare_contexts(credentials: Credentials) -> tuple[SSL.Context, SSL.Context]:
    """Make the OpenSSL contexts of client and server."""
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
    """Return the pairs of handshakes a second of the bare library, in one loop."""

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
    """Return the process ids of the dispatcher, the keeper of tls13, and its workers."""
    dispatcher, keeper = (child_titled(service.pid, f"hsframework {name}") for name in ("dispatcher", "agent tls13"))
    return dispatcher, keeper, children(keeper)


def memory(service: Running) -> dict[str, int]:
    """Return the memory of each process in KiB, by its role."""
    dispatcher, keeper, agents = processes_of(service)
    found = {"supervisor": service.pid, "dispatcher": dispatcher, "keeper of tls13": keeper}
    found |= {f"agent {number}": agent for number, agent in enumerate(agents, 1)}
    return {role: proportional_memory(pid) for role, pid in found.items()}


def processor_times(service: Running) -> dict[str, float]:
    """Return the processor seconds of each kind of process so far, to the hundredth; this process is the consumer."""
    dispatcher, _, agents = processes_of(service)
    return {
        "consumer": time.process_time(),
        "dispatcher": processor_time(dispatcher),
        "agents": sum(map(processor_time, agents)),
    }


def connections(number: int) -> list[tuple[socket.socket, socket.socket]]:
    """Open ``number`` TCP connections over loopback, and return both ends of each."""
    pairs = []
    with socket.create_server(("127.0.0.1", 0), backlog=number) as server:
        for _ in range(number):
            client = socket.create_connection(server.getsockname())
            pairs.append((client, server.accept()[0]))
    return pairs


async def path_rate(folder: Path, setup: Setup, concurrency: int, pairs: int) -> float:
    """Return the pairs of handshakes a second through the service.  Raises HsframeworkError if one fails.

    The clock stops when the consumer has the last session; the connections are closed afterwards.
    """
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


def configuration_text(folder: Path, credentials: Credentials, processes: int) -> str:
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
    """Return the new connections a second that `openssl s_time` counts in real time; None without openssl."""
    if shutil.which("openssl") is None:
        return None
    authority = credentials.authority.write(folder, "ca")
    with s_server(credentials, folder) as address:
        words = ["openssl", "s_time", "-new", "-connect", address, "-time", str(seconds), "-CAfile", str(authority)]
        text = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    match = re.search(r"(\d+) connections in (\d+) real seconds", text)
    return int(match.group(1)) / int(match.group(2)) if match else None


@contextmanager
def s_server(credentials: Credentials, folder: Path) -> Iterator[str]:
    """Run `openssl s_server`, and yield its address (``host:port``) once it listens."""
    files = credentials.server.write(folder, "server")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    address = f"127.0.0.1:{port}"
    words = ["openssl", "s_server", "-quiet", "-tls1_3", "-accept", address, "-www"]
    words += ["-cert", str(files.certificate), "-key", str(files.private_key)]
    silent = subprocess.DEVNULL
    server = subprocess.Popen(words, stdin=silent, stdout=silent, stderr=silent)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.02)
        yield address
    finally:
        server.kill()
        server.wait()


def service(credentials: Credentials, processes: int, *, alone: bool = True) -> AbstractContextManager[Running]:
    """Run the service with ``processes`` workers for TLS 1.3; ``alone``: without the other installed plugins."""
    return running_service(
        "tls13" if alone else None,
        lambda folder: configuration_text(folder, credentials, processes),
        lambda runtime: serves(runtime, "tls13", lambda: connections(1)[0]),
    )


def measure(setup: Setup, seconds: float, concurrency: int) -> dict[str, Any]:
    """Measure the bare library and the service with one and two workers, in turns."""
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
    """Return the seconds until a request is taken, with every plugin that is installed."""
    with service(Credentials(SETUPS[0]), 1, alone=False) as running:
        return running.start_up


def main() -> int:
    """Measure, print, and write JSON if asked to.  Return the exit status."""
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
