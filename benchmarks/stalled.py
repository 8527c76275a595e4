"""Benchmark of the memory of a handshake that waits for a silent peer, in all processes of the service together.

    python -m benchmarks.stalled [--number 2000] [--json FILE]

Run it as root, who alone may read the memory of the service's processes.  Each row is a service of its own with one
worker, to which NUMBER connections over loopback are submitted, and the difference of Pss (/proc/PID/smaps_rollup;
shared pages count by the share) over supervisor, dispatcher, keeper and worker, without the kernel's own memory for
sockets.

* *server, nothing came*: the peer has connected and sends nothing.
* *server, answered*: the peer has sent its ClientHello, and does not answer the server's flight.
* *client, nothing came*: our ClientHello has been sent, and no answer arrives.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import resource
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from benchmarks.support.running import Running, descendants, proportional_memory, running_service
from hsframework.client import AsyncClient, HandshakeOptions
from hsframework.errors import HsframeworkError
from hsframework.interface import Role
from hsframework.testing.certificates import Authority
from hsframework.testing.network import tcp_pair

NAME = "server.example"
DEADLINE = 60.0
CONFIGURATION = """
[log]
level = "error"
[limits]
groups = 1
per-source = 100000
per-consumer = 100000
per-address = 100000
"""


def client_hello() -> bytes:
    """Return the first flight of a TLS 1.3 client of Python's ssl module."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=NAME).do_handshake()
    return outgoing.read()


def service() -> AbstractContextManager[Running]:
    """Run the service with TLS 1.3 only."""
    return running_service("tls13", lambda _: CONFIGURATION, lambda runtime: (runtime / "consumer.sock").exists())


def memory(pid: int) -> float:
    """Return the Pss of all processes of a service, in KiB."""
    return float(sum(map(proportional_memory, (pid, *descendants(pid)))))


@contextmanager
def connections(number: int) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Open ``number`` TCP connections over loopback, and yield both ends of each."""
    with ExitStack() as opened:
        pairs = [tcp_pair() for _ in range(number)]
        for end in itertools.chain(*pairs):
            opened.enter_context(end)
        yield pairs


async def fresh(client: AsyncClient, near: HandshakeOptions, far: HandshakeOptions) -> float:
    """Return the duration of one whole handshake in seconds; a failed one is repeated until the service is ready."""
    end = time.monotonic() + 30
    while True:
        with connections(1) as ((one, other),):
            begun = time.perf_counter()
            try:
                await asyncio.gather(client.handshake(one, near), client.handshake(other, far))
                return time.perf_counter() - begun
            except HsframeworkError:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.05)


async def stalled(kind: str, number: int) -> dict[str, float]:
    """Measure one row."""
    authority = Authority("Benchmark CA", key_type="ecdsa-p256")
    client = HandshakeOptions(peer_name=NAME, trust=authority.trust(), timeout=DEADLINE)
    identity = authority.issue(names=[NAME], key_type="ecdsa-p256").identity
    server = HandshakeOptions(role=Role.SERVER, identities=(identity,), timeout=DEADLINE)
    speech = client_hello() if kind == "server, answered" else b""
    with service() as (folder, pid, _), connections(number) as pairs:
        async with AsyncClient(folder) as waiting, AsyncClient(folder) as lively:
            for _ in range(20):
                await fresh(lively, client, server)
            before = memory(pid)
            for _, far in pairs:
                far.send(speech)
            options = client if kind.startswith("client") else server
            tasks = [asyncio.create_task(waiting.handshake(near, options)) for near, _ in pairs]
            await asyncio.sleep(0)
            if kind != "server, nothing came":
                await asyncio.gather(*(asyncio.to_thread(_answered, far) for _, far in pairs))
            beside = [await fresh(lively, client, server) for _ in range(20)]
            each = (memory(pid) - before) / number
            lost = sum(task.done() for task in tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return {"KiB": each, "lost": lost, "fresh_ms": sorted(beside)[len(beside) // 2] * 1000}


def _answered(sock: socket.socket) -> None:
    sock.settimeout(DEADLINE)
    sock.recv(1, socket.MSG_PEEK)


def main() -> int:
    """Measure, print, and write JSON if asked to.  Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=2000, help="of connections (default 2000)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if os.geteuid():
        print("stalled.py: run it as root: nobody else may look into the service's processes", file=sys.stderr)
        return 2
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"{arguments.number} stalled handshakes    KiB each    a fresh handshake beside them")
    figures = {}
    for kind in ("server, nothing came", "server, answered", "client, nothing came"):
        figures[kind] = row = asyncio.run(stalled(kind, arguments.number))
        print(f"{kind:24} {row['KiB']:9.1f} {row['fresh_ms']:14.1f} ms", flush=True)
        if row["lost"]:
            print(f"  {row['lost']:.0f} of them ended before they were counted")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
