"""Benchmark of QUIC handshakes per second through the whole service, as ratios to bare aioquic in the same run.

    python -m benchmarks.quic_handshakes [--seconds 5] [--concurrency 32] [--json FILE]

* *bare*: two aioquic connections joined in memory in one loop, the client verifying the server's chain by aioquic's own
  means, until the client has HANDSHAKE_DONE.  One process.
* *path*: a consumer submits both ends of pairs of UDP sockets that are connected with each other, and names a profile
  for each; a dispatcher and one or two workers run the handshakes; each pair counts once, when the consumer has both
  sessions.

Each ratio is the median of several rounds in which bare and path take turns, because the machine may do other work too.
Beside it is the processor time of a pair, which other work does not disturb: bare, in the worker, and in all of the
service.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import socket
import statistics
import sys
import time
from collections import defaultdict
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key

from benchmarks.support.running import Running, descendants, processor_time, running_service, serves
from hsframework.client import AsyncClient, HandshakeOptions
from hsframework.interface import AuthMode, Role
from hsframework.testing.certificates import Authority, Credential
from hsframework.testing.network import udp_pair

NAME = "server.example"
ALPN = "bench"
ROUNDS = 5
WARM = 10
"""Pairs before the clock starts."""
ADDRESS = ("127.0.0.1", 4433)
TIMES = (("bare_time", 12), ("agent_time", 7), ("service_time", 7))
"""Figures in columns, and the width of each."""
KEY_TYPES = ("ecdsa-p256", "rsa-2048")


class Credentials:
    """One authority and a server's certificate."""

    def __init__(self, key_type: str) -> None:
        self.key_type = key_type
        self.authority = Authority("Benchmark CA", key_type=key_type)
        self.server: Credential = self.authority.issue(names=[NAME], key_type=key_type)


def bare_rate(credentials: Credentials, seconds: float) -> tuple[float, float]:
    """Return the pairs of handshakes a second of bare aioquic, in one loop, and the processor seconds of a pair."""
    logging.getLogger("quic").setLevel(logging.ERROR)
    identity = credentials.server.identity
    certificate = x509.load_der_x509_certificate(identity.chain[0])
    key = load_der_private_key(identity.private_key.reveal(), None)
    trusted = credentials.authority.certificate_pem

    def pair() -> None:
        ours = QuicConfiguration(is_client=True, alpn_protocols=[ALPN], server_name=NAME, cadata=trusted)
        theirs = QuicConfiguration(is_client=False, alpn_protocols=[ALPN], certificate=certificate, private_key=key)
        client = QuicConnection(configuration=ours)
        server = QuicConnection(
            configuration=theirs, original_destination_connection_id=client.original_destination_connection_id
        )
        now = 0.0
        client.connect(ADDRESS, now)
        while not client._handshake_confirmed:
            now += 0.001
            for data, _ in client.datagrams_to_send(now):
                server.receive_datagram(data, ADDRESS, now)
            for data, _ in server.datagrams_to_send(now):
                client.receive_datagram(data, ADDRESS, now)

    for _ in range(WARM):
        pair()
    count, start, before = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        pair()
        count += 1
    return count / (time.perf_counter() - start), (time.process_time() - before) / count


def service(credentials: Credentials, processes: int, tickets: int) -> AbstractContextManager[Running]:
    """Run the service with ``processes`` workers for QUIC."""
    return running_service(
        "quic",
        lambda folder: _configuration(folder, credentials, processes, tickets),
        lambda runtime: serves(runtime, "quic", udp_pair),
    )


def _configuration(folder: Path, credentials: Credentials, processes: int, tickets: int) -> str:
    authority = credentials.authority.write(folder, "ca")
    server = credentials.server.write(folder, "server")
    return f"""
log.level = "warning"
agents.quic.processes = {processes}
plugins.quic.tickets = {tickets}
identities.server = {{ certificate = "{server.certificate}", private-key = "{server.private_key}" }}
trust.all.bundle = ["{authority}"]
profiles.server = {{ identities = ["server"] }}
profiles.client = {{ trust = "all" }}
"""


async def path_rate(folder: Path, concurrency: int, pairs: int) -> float:
    """Return the pairs of handshakes a second through the service.  Raises HsframeworkError if one fails."""
    common: dict[str, Any] = {"group": "quic", "alpn": (ALPN,)}
    client_options = HandshakeOptions(peer_name=NAME, profile="client", auth_mode=AuthMode.UNAUTHENTICATED, **common)
    server_options = HandshakeOptions(role=Role.SERVER, profile="server", **common)
    async with AsyncClient(folder) as consumer:

        async def many(work: list[tuple[socket.socket, socket.socket]]) -> None:
            while work:
                client, server = work.pop()
                with client, server:
                    await asyncio.gather(
                        consumer.handshake(server, server_options), consumer.handshake(client, client_options)
                    )

        await many([udp_pair() for _ in range(WARM)])
        work = [udp_pair() for _ in range(pairs)]
        start = time.perf_counter()
        await asyncio.gather(*(many(work) for _ in range(concurrency)))
        return pairs / (time.perf_counter() - start)


def processor_times(pid: int) -> list[float]:
    """Return the processor seconds so far of each descendant of a process."""
    return [processor_time(child) for child in descendants(pid)]


def measure(key_type: str, seconds: float, concurrency: int, tickets: int) -> dict[str, Any]:
    """Measure bare aioquic and the service with one and two workers, in turns."""
    credentials = Credentials(key_type)
    figures: dict[str, Any] = {"key": key_type, "tickets": tickets}
    rounds: dict[str, list[float]] = defaultdict(list)
    for processes in (1, 2):
        with service(credentials, processes, tickets) as (folder, pid, _):
            for _ in range(ROUNDS):
                bare, bare_time = bare_rate(credentials, seconds / ROUNDS)
                pairs = max(50, min(400, int(bare * seconds / ROUNDS)))
                before = processor_times(pid)
                rate = asyncio.run(path_rate(folder, concurrency, pairs))
                spent = [
                    (after - start) / (pairs + WARM) for after, start in zip(processor_times(pid), before, strict=True)
                ]
                rounds["bare"].append(bare)
                rounds["bare_time"].append(bare_time)
                rounds[f"path_{processes}"].append(rate)
                rounds[f"ratio_{processes}"].append(rate / bare)
                if processes == 1:
                    rounds["agent_time"].append(max(spent))
                    rounds["service_time"].append(sum(spent))
    return figures | {name: statistics.median(values) for name, values in rounds.items()}


def main() -> int:
    """Measure, print, and write JSON if asked to.  Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default 5)")
    parser.add_argument("--concurrency", type=int, default=32, help="pairs under way at once (default 32)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, {arguments.concurrency} pairs at a time; pairs a second, and the ratio to bare\n")
    print(f"{'':24}{'bare':>8}{'one agent':>18}{'two agents':>18}{'µs: bare':>12}{'agent':>7}{'all':>7}")
    every = []
    for key_type, tickets in ((KEY_TYPES[0], 0), (KEY_TYPES[1], 0), (KEY_TYPES[0], 1024)):
        figures = measure(key_type, arguments.seconds, arguments.concurrency, tickets)
        every.append(figures)
        path = "".join(f"{figures[f'path_{n}']:11.0f}{figures[f'ratio_{n}']:7.2f}" for n in (1, 2))
        name = f"{key_type}{', resumption' if tickets else ''}"
        times = "".join(f"{figures[name] * 1e6:{width}.0f}" for name, width in TIMES)
        print(f"{name:24}{figures['bare']:8.0f}{path}{times}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(every, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
