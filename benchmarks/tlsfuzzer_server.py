"""Server for tlsfuzzer, the suite of TLS conversations, through the whole service; with the suite's checkout, its run.

    python -m benchmarks.tlsfuzzer_server [--key rsa] [--port 4433]                     # serve until interrupted
    python -m benchmarks.tlsfuzzer_server [--key rsa] --suite ~/tlsfuzzer [--only PATTERN]   # run and count

The suite is not part of this project: ``git clone`` it, and install ``tlslite-ng`` for the Python that ``--python``
names.  Four ports are served: HTTP on the first, an echo on the second, HTTP with a request for a client certificate
on the third, and HTTP for the pre-shared key 0xaa named ``test`` on the fourth.

The scripts' own defaults count; what is given to each beside them is in :data:`SCRIPTS`.  Below each script stand the
conversations that failed; the last lines are TOTAL, PASS and FAIL.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fnmatch
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from hsframework.client import AsyncClient, HandshakeOptions
from hsframework.errors import HsframeworkError
from hsframework.interface import AsyncStream, CertificateDemand, PresharedKey, Role, Secret
from hsframework.testing.certificates import Authority
from hsframework.testing.service import running_service

HTTP, ECHO, CLIENTS, PSK = range(4)
KEYS = {"rsa": "rsa-2048", "ecdsa": "ecdsa-p256"}
PATIENCE = 10.0
"""Seconds of silence after which a session ends."""
DRAIN = 1.0
"""Seconds in which a client may read what was sent to it last, before its connection is closed."""
ANSWER = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n"
CERTIFICATES = ("-k", "{client}/client.key", "-c", "{client}/client.pem")
CONFIGURATION = """
[plugins.tls13]
groups = [
    "X25519MLKEM768", "X25519", "SecP256r1MLKEM768", "P-256", "SecP384r1MLKEM1024", "P-384", "P-521", "X448",
    "ffdhe2048", "ffdhe3072", "ffdhe4096",
]
"""
SCHEMES = (
    "mldsa65 mldsa87 mldsa44 ecdsa_secp256r1_sha256 ecdsa_secp384r1_sha384 ecdsa_secp521r1_sha512 ed25519 ed448 "
    "ecdsa_brainpoolP256r1tls13_sha256 ecdsa_brainpoolP384r1tls13_sha384 ecdsa_brainpoolP512r1tls13_sha512 "
    "rsa_pss_pss_sha256 rsa_pss_pss_sha384 rsa_pss_pss_sha512 rsa_pss_rsae_sha256 rsa_pss_rsae_sha384 "
    "rsa_pss_rsae_sha512 rsa_pkcs1_sha256 rsa_pkcs1_sha384 rsa_pkcs1_sha512 7+8"
)


class Script(NamedTuple):
    """One of the suite's scripts, without ``test-tls13-`` and ``.py``."""

    name: str
    port: int = HTTP
    arguments: tuple[str, ...] = ()
    keys: tuple[str, ...] = ("rsa", "ecdsa")


SCRIPTS = (
    *(
        Script(name)
        for name in (
            "conversation", "ecdhe-curves", "invalid-ciphers", "keyshare-omitted", "legacy-version", "mlkem",
            "multiple-ccs-messages", "unencrypted-alert", "zero-content-type",
        )
    ),
    # These offer signatures of RSA alone.
    *(
        Script(name, keys=("rsa",))
        for name in (
            "0rtt-garbage", "ccs", "crfg-curves", "dhe-shared-secret-padding", "empty-alert", "ffdhe-sanity",
            "finished", "finished-plaintext", "hrr", "nociphers", "pkcs-signature", "record-layer-limits",
            "record-padding", "rsa-signatures", "serverhello-random", "shuffled-extentions", "signature-algorithms",
            "symetric-ciphers", "unrecognised-groups", "zero-length-data",
        )
    ),
    Script("ecdsa-support", keys=("ecdsa",)),
    Script("connection-abort", arguments=("-e", "After NewSessionTicket")),
    Script("keyupdate", arguments=("--coalescing",), keys=("rsa",)),
    Script("keyupdate-from-server", arguments=("--coalescing",), keys=("rsa",)),
    Script("large-number-of-extensions", arguments=("--supgroup",), keys=("rsa",)),
    Script("lengths", ECHO),
    Script("certificate-request", CLIENTS, (*CERTIFICATES, "-s", SCHEMES), ("rsa",)),
    Script("certificate-verify", CLIENTS, (*CERTIFICATES, "-s", SCHEMES), ("rsa",)),
    Script("psk_dhe_ke", PSK),
    Script("psk_ke", PSK, keys=("rsa",)),
)  # fmt: skip
"""Left out: scripts that need tickets (none is sent), 0-RTT, TLS 1.2 (version-negotiation), post-handshake
authentication, certificate compression, groups or keys that are not served, and statistics of time."""


class Outcome(NamedTuple):
    """The counts of one script, and its conversations that failed, with the reason in the suite's words."""

    script: Script
    total: int
    passed: int
    failed: tuple[str, ...]
    output: str


async def serve(client: AsyncClient, sock: socket.socket, options: HandshakeOptions, *, echo: bool) -> None:
    """Serve one connection to its end."""
    with sock:
        sock.setblocking(False)
        with contextlib.suppress(HsframeworkError, OSError, TimeoutError):
            session = await client.handshake(sock, options)
            stream = session.stream()
            async with asyncio.timeout(PATIENCE):
                await (_echo(stream) if echo else _answer(stream))
        await _drain(sock)


async def _echo(stream: AsyncStream) -> None:
    while data := await stream.receive():
        await stream.send(data)
    await stream.close()


async def _answer(stream: AsyncStream) -> None:
    request = b""
    while b"\r\n\r\n" not in request:
        data = await stream.receive()
        if not data:
            break
        request += data
    else:
        await stream.send(ANSWER)
    await stream.close()


async def _drain(sock: socket.socket) -> None:
    """Read what a client still sends: closing a socket with unread data would reset it and overtake an alert."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError, TimeoutError):
        sock.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(DRAIN):
            while await loop.sock_recv(sock, 1 << 16):
                pass


def options_of(authority: Authority, key_type: str) -> list[HandshakeOptions]:
    """Return the options for each port, in order."""
    identities = (authority.issue(["localhost"], key_type=key_type).identity,)
    plain = HandshakeOptions(role=Role.SERVER, identities=identities)
    asking = HandshakeOptions(
        role=Role.SERVER,
        identities=identities,
        trust=authority.trust(),
        client_certificate=CertificateDemand.REQUEST,
    )
    keyed = HandshakeOptions(role=Role.SERVER, psks=(PresharedKey(b"test", Secret(b"\xaa")),))
    return [plain, plain, asking, keyed]


async def listen(
    runtime: Path, port: int, options: Sequence[HandshakeOptions], then: Callable[[], Awaitable[None]]
) -> None:
    """Serve the ports from ``port`` on until ``then`` has ended."""
    loop = asyncio.get_running_loop()
    async with AsyncClient(runtime) as client, asyncio.TaskGroup() as tasks:

        async def accept(listening: socket.socket, number: int) -> None:
            with listening:
                while True:
                    sock, _ = await loop.sock_accept(listening)
                    tasks.create_task(serve(client, sock, options[number], echo=number == ECHO))

        accepting = []
        for number in range(len(options)):
            listening = socket.create_server(("127.0.0.1", port + number), backlog=128)
            listening.setblocking(False)
            accepting.append(tasks.create_task(accept(listening, number)))
        await then()
        for task in accepting:
            task.cancel()


def run_script(suite: Path, python: str, port: int, client: Path, script: Script) -> Outcome:
    """Run one script of the suite against the server; ``client``: folder of a client's certificate and key."""
    file = suite / "scripts" / f"test-tls13-{script.name}.py"
    arguments = [argument.format(client=client) for argument in script.arguments]
    command = [python, str(file), "-h", "127.0.0.1", "-p", str(port + script.port), *arguments]
    run = subprocess.run(command, cwd=suite, capture_output=True, text=True, errors="replace", check=False)
    counts = {word: int(count) for word, count in re.findall(r"^(TOTAL|PASS|FAIL): (\d+)$", run.stdout, re.MULTILINE)}
    listed = run.stdout.rpartition("FAILED:")[2] if "FAILED:" in run.stdout else ""
    failed = tuple(re.findall(r"^\t'(.*)'$", listed, re.MULTILINE))
    if not counts:
        failed = (f"(no count) {run.stderr.strip()[-200:]}",)
    passed = counts.get("PASS", 0)
    return Outcome(script, passed + counts.get("FAIL", 0), passed, failed, run.stdout)


def report(outcomes: Sequence[Outcome], keep: Path | None) -> int:
    """Print the table; return the number of conversations that failed."""
    for outcome in sorted(outcomes, key=lambda outcome: outcome.script.name):
        print(f"{outcome.script.name:32}{outcome.passed:6} of {outcome.total}")
        for name in outcome.failed:
            print(f"    {name}")
        if keep is not None:
            (keep / f"{outcome.script.name}.txt").write_text(outcome.output)
    total, passed = sum(outcome.total for outcome in outcomes), sum(outcome.passed for outcome in outcomes)
    print(f"TOTAL: {total}\nPASS: {passed}\nFAIL: {total - passed}")
    return total - passed


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--key", choices=sorted(KEYS), default="rsa", help="type of the server's key (default: rsa)")
    parser.add_argument("--port", type=int, default=4433, help="first of four ports (default: 4433)")
    parser.add_argument("--suite", type=Path, help="checkout of tlsfuzzer: run it, count, and end")
    parser.add_argument("--python", default=sys.executable, help="Python with tlslite-ng, for the suite")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="names of the scripts to run")
    parser.add_argument("--jobs", type=int, default=2, help="scripts at a time (default: 2)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the scripts' output goes")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    authority = Authority("tlsfuzzer", key_type=KEYS[options.key])
    outcomes: list[Outcome] = []

    async def run_suite() -> None:
        if options.suite is None:
            print(f"serving on 127.0.0.1, ports {options.port} to {options.port + PSK}", flush=True)
            await asyncio.Event().wait()
        scripts = [
            script for script in SCRIPTS if options.key in script.keys and fnmatch.fnmatch(script.name, options.only)
        ]
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(options.jobs) as pool:
            run = [
                loop.run_in_executor(
                    pool, run_script, options.suite.resolve(), options.python, options.port, client, script
                )
                for script in scripts
            ]
            outcomes.extend(await asyncio.gather(*run))

    with (
        tempfile.TemporaryDirectory(prefix="hsframework-tlsfuzzer-") as folder,
        running_service(groups=("tls13",), configuration=CONFIGURATION) as service,
        contextlib.suppress(KeyboardInterrupt),
    ):
        client = Path(folder)
        files = authority.issue(["client.example"], key_type="rsa-2048").write(client)
        files.certificate.rename(client / "client.pem")
        files.private_key.rename(client / "client.key")
        served = options_of(authority, KEYS[options.key])
        asyncio.run(listen(service.runtime_dir, options.port, served, run_suite))
    return 1 if report(outcomes, options.keep) else 0


if __name__ == "__main__":
    sys.exit(main())
