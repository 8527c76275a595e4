"""Handshakes per second through the whole path, as ratios to the bare library on the same machine in the same run.

    python benchmarks/handshakes.py [--seconds 5] [--concurrency 64] [--json FILE]

* *bare*: pyOpenSSL client and server joined by memory BIOs in one loop, contexts made once; certificate ECDSA P-256,
  the client verifies chain and name (OpenSSL's own verification).  One process.
* *path*: a consumer hands over both ends of TCP connections over loopback that are there already, as a kernel consumer's
  are; a dispatcher and one or two agent processes run the handshakes; each pair counts once, when the consumer has both
  sessions.  Consumer, dispatcher and agents are processes of their own and share the machine's cores.
* *s_time*: `openssl s_time -new` against `openssl s_server`, for scale.

Start-up is from the start of the process to the first agent's joining; memory is Pss from /proc/PID/smaps_rollup.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from OpenSSL import SSL, crypto

from hsframework.client import AsyncClient, Client, HandshakeOptions
from hsframework.errors import HandshakeError, HsframeworkError, RequestRefused
from hsframework.interface import Identity, Role, Trust
from hsframework.testing.certificates import Authority

NAME = "server.example"


class Credentials:
    """One authority and one server certificate, for every measurement."""

    def __init__(self) -> None:
        self.authority = Authority("Benchmark CA", key_type="ecdsa-p256")
        self.issued = self.authority.issue(names=[NAME], key_type="ecdsa-p256")

    @property
    def identity(self) -> Identity:
        """The server's."""
        return self.issued.identity

    @property
    def trust(self) -> Trust:
        """The client's."""
        return self.authority.trust()


def bare_rate(credentials: Credentials, seconds: float) -> float:
    """Pairs of handshakes a second, in one loop."""
    server_context = SSL.Context(SSL.TLS_SERVER_METHOD)
    client_context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    for context in (server_context, client_context):
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
    server_context.use_certificate(crypto.load_certificate(crypto.FILETYPE_ASN1, credentials.identity.chain[0]))
    server_context.use_privatekey(
        crypto.load_privatekey(crypto.FILETYPE_ASN1, credentials.identity.private_key.reveal())
    )
    store = client_context.get_cert_store()
    assert store is not None
    store.add_cert(crypto.load_certificate(crypto.FILETYPE_ASN1, credentials.trust.anchors[0]))
    client_context.set_verify(SSL.VERIFY_PEER)

    def pair() -> None:
        client, server = SSL.Connection(client_context, None), SSL.Connection(server_context, None)
        client.set_tlsext_host_name(NAME.encode())
        client.set_verify(SSL.VERIFY_PEER)
        client.set_connect_state()
        server.set_accept_state()
        unfinished = {client, server}
        while unfinished:
            for here, there in ((client, server), (server, client)):
                try:
                    here.do_handshake()
                    unfinished.discard(here)
                except SSL.WantReadError:
                    pass
                try:
                    there.bio_write(here.bio_read(65536))
                except SSL.WantReadError:
                    pass

    for _ in range(50):
        pair()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        pair()
        count += 1
    return count / (time.perf_counter() - start)


class Service:
    """`hsframework run` in a folder of its own."""

    def __init__(self, folder: Path, processes: int) -> None:
        configuration = folder / "hsframework.toml"
        configuration.write_text(
            f'runtime-dir = "{folder}/run"\n[log]\nlevel = "warning"\n[agents.tls13]\nprocesses = {processes}\n'
        )
        start = time.perf_counter()
        self.process = subprocess.Popen([sys.executable, "-m", "hsframework", "run", "--config", str(configuration)])
        self.folder = folder / "run"
        self.start_up = self._wait() - start

    def _wait(self) -> float:
        deadline = time.perf_counter() + 30
        while time.perf_counter() < deadline:
            if self.process.poll() is not None:
                raise SystemExit("the service did not start")
            if _serves(self.folder):
                return time.perf_counter()
            time.sleep(0.002)
        raise SystemExit("the service did not start within 30 s")

    def memory(self) -> dict[str, int]:
        """KiB of each process, by its role."""
        found: dict[str, int] = {}
        for pid, name in _descendants(self.process.pid):
            found[name] = found.get(name, 0) + proportional_memory(pid)
        return found

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(15)


def _serves(folder: Path) -> bool:
    """Does an agent serve the group tls13?  Asked with a handshake whose peer says nothing."""
    ours, theirs = connections(1)[0]
    with ours, theirs:
        try:
            with Client(folder) as client:
                client.handshake(ours, HandshakeOptions(timeout=0.001))
        except RequestRefused:
            return False
        except HandshakeError:
            return True
        except HsframeworkError:
            return False
    return True


def _descendants(pid: int) -> Iterator[tuple[int, str]]:
    yield pid, Path(f"/proc/{pid}/comm").read_text().strip()
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from _descendants(int(child))


def proportional_memory(pid: int) -> int:
    """Pss in KiB: shared pages count by the share."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    match = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(match.group(1)) if match else 0


def connections(number: int) -> list[tuple[socket.socket, socket.socket]]:
    """So many TCP connections over loopback, both ends."""
    pairs = []
    with socket.create_server(("127.0.0.1", 0), backlog=number) as server:
        for _ in range(number):
            client = socket.create_connection(server.getsockname())
            pairs.append((client, server.accept()[0]))
    return pairs


async def path_rate(folder: Path, credentials: Credentials, concurrency: int, pairs: int) -> float:
    """Pairs a second; raises when one fails."""
    client_options = HandshakeOptions(peer_name=NAME, trust=credentials.trust)
    server_options = HandshakeOptions(role=Role.SERVER, identities=(credentials.identity,))
    async with AsyncClient(folder) as consumer:

        async def one(pair: tuple[socket.socket, socket.socket]) -> None:
            await asyncio.gather(
                consumer.handshake(pair[0], client_options), consumer.handshake(pair[1], server_options)
            )

        async def many(work: list[tuple[socket.socket, socket.socket]]) -> None:
            while work:
                ends = work.pop()
                await one(ends)
                for end in ends:
                    end.close()

        warm = connections(20)
        await many(warm)
        work = connections(pairs)
        start = time.perf_counter()
        await asyncio.gather(*(many(work) for _ in range(concurrency)))
        return pairs / (time.perf_counter() - start)


def s_time_rate(credentials: Credentials, folder: Path, seconds: int) -> float | None:
    """New connections a second that `openssl s_time` counts in real time."""
    if shutil.which("openssl") is None:
        return None
    files = credentials.issued.write(folder)
    (folder / "ca.pem").write_bytes(credentials.authority.certificate_pem)
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
                str(folder / "ca.pem"),
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


@contextmanager
def service(processes: int) -> Iterator[Service]:
    """A running service."""
    with tempfile.TemporaryDirectory(prefix="hsframework-bench-") as name:
        Path(name).chmod(0o755)
        running = Service(Path(name), processes)
        try:
            yield running
        finally:
            running.stop()


def main() -> int:
    """Measure, print, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default 5)")
    parser.add_argument("--concurrency", type=int, default=64, help="pairs under way at once (default 64)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    credentials = Credentials()
    figures: dict[str, Any] = {"cores": os.cpu_count(), "concurrency": arguments.concurrency}
    figures["bare"] = bare_rate(credentials, arguments.seconds)
    print(f"bare pyOpenSSL, one loop          {figures['bare']:8.0f} pairs/s   1.00", flush=True)
    for processes in (1, 2):
        with service(processes) as running:
            figures[f"start_up_{processes}"] = running.start_up
            pairs = max(200, int(figures["bare"] * arguments.seconds))
            rate = asyncio.run(path_rate(running.folder, credentials, arguments.concurrency, min(pairs, 4000)))
            figures[f"path_{processes}"] = rate
            figures[f"memory_{processes}"] = running.memory()
        print(
            f"whole path, {processes} agent process{'es' if processes > 1 else '  '}   "
            f"{rate:8.0f} pairs/s   {rate / figures['bare']:.2f}",
            flush=True,
        )
    figures["bare_again"] = bare_rate(credentials, arguments.seconds)
    print(
        f"bare again (how steady is it)     {figures['bare_again']:8.0f} pairs/s   "
        f"{figures['bare_again'] / figures['bare']:.2f}"
    )
    with tempfile.TemporaryDirectory() as name:
        figures["s_time"] = s_time_rate(credentials, Path(name), max(2, int(arguments.seconds)))
    if figures["s_time"]:
        print(
            f"openssl s_time -new               {figures['s_time']:8.0f} conns/s   "
            f"{figures['s_time'] / figures['bare']:.2f}"
        )
    print(f"start-up to first READY           {figures['start_up_1']:8.3f} s")
    for name, size in figures["memory_1"].items():
        print(f"memory, {name:<25} {size:8d} KiB (Pss, with one agent process)")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
