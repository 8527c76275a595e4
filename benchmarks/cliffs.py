"""Benchmark of what a handshake costs when there are many of something, as a ratio to the simple case in the same run.

    python -m benchmarks.cliffs [--peers 5000] [--trusts 500] [--revoked 1000000] [--psks 1000] [--only WORD ...]

One service with one worker is a server (mutual authentication, ECDSA P-256).  Its peers are pyOpenSSL clients here; for
pre-shared keys both ends are the service's.  The simple case is one profile, a trust of one authority without a
revocation list, and a peer that repeats.  Each point changes one thing:

* *peers*: as many clients as ``--peers`` in turn, each with a certificate of its own; the first time, and again
* *trusts*: as many profiles as ``--trusts``, each with a trust of its own
* *bundles*: as many profiles, each with a trust of its own in 140 authorities that all of them share
* *identities*: as many profiles, each with a server's certificate of its own
* *revoked*, *peers revoked*: a trust with a list of ``--revoked`` serial numbers; with one peer, and with all of them
* *psks in a profile*: a profile with as many keys as ``--peers``, whose clients take turns
* *psks inline*: a request that brings as many keys as ``--psks``

The figure is the processor time of dispatcher and worker for a handshake (/proc/PID/schedstat), since the machine may
do other work; point and simple case take turns.  Each point has been through once before it is measured, but for *peers
first*.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import socket
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from benchmarks.support.running import Running, child_titled, children, running_service
from hsframework.client import AsyncClient, HandshakeOptions
from hsframework.errors import HsframeworkError
from hsframework.interface import AuthMode, PresharedKey, Role, Secret
from hsframework.testing.certificates import Authority, generate_key, to_pem
from tests.support.long_lists import entry, list_of

BUNDLE = 140
"""Authorities that the trusts of the point *bundles* share, as many as in a distribution's."""
ROUNDS = 3
AT_ONCE = 8
FIRST_REVOKED = 1 << 100
"""The first serial number of the list; the peers' are below."""
SIMPLE = HandshakeOptions(role=Role.SERVER, profile="simple", timeout=60.0)


class World:
    """Authorities, certificates and keys of one run, and the configuration that names them."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.peers: int = arguments.peers
        self.trusts: int = arguments.trusts
        self.revoked: int = arguments.revoked
        self.inline: int = arguments.psks
        self.authority = Authority("Benchmark CA")
        self.server = self.authority.issue(["server.example"])
        self.key = generate_key()
        self.certificates = [self._client(number + 1) for number in range(self.peers)]
        most = max(self.peers, self.inline)
        self.psks = [PresharedKey(b"client-%d" % n, Secret(secrets.token_bytes(32))) for n in range(most)]

    def _client(self, serial_number: int) -> x509.Certificate:
        begin = datetime.now(UTC) - timedelta(hours=1)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"client {serial_number}")])
        builder = x509.CertificateBuilder(self.authority.subject, name, self.key.public_key(), serial_number)
        builder = builder.not_valid_before(begin).not_valid_after(begin + timedelta(days=30))
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.key.public_key()),
            critical=False,
        )
        return builder.sign(self.authority.key, hashes.SHA256())

    def configuration(self, folder: Path) -> str:
        """Write the files, and return the configuration."""
        ca, server = self.authority.write(folder, "ca"), self.server.write(folder, "server")
        own = f'{{ certificate = "{server.certificate}", private-key = "{server.private_key}" }}'
        demand = 'client-certificate = "require"'
        crl = folder / "long.crl"
        numbers = range(FIRST_REVOKED, FIRST_REVOKED + self.revoked)
        crl.write_bytes(to_pem(list_of(self.authority, map(entry, numbers)), "X509 CRL"))
        psks = folder / "psks"
        psks.touch(0o600)
        psks.write_text("".join(f"{key.identity.decode()}:{key.key.reveal().hex()}\n" for key in self.psks))
        bundle = folder / "bundle.pem"
        bundle.write_bytes(b"".join(to_pem(Authority(f"Shared {n}").certificate) for n in range(BUNDLE)))
        text = [
            'log.level = "warning"',
            f"identities.server = {own}",
            f'trust.simple.bundle = ["{ca}"]',
            f'trust.revoked = {{ bundle = ["{ca}"], crl = ["{crl}"] }}',
            f'psks.many.file = "{psks}"',
            f'profiles.simple = {{ identities = ["server"], trust = "simple", {demand} }}',
            f'profiles.revoked = {{ identities = ["server"], trust = "revoked", {demand} }}',
            'profiles.psks = { psks = ["many"] }',
        ]
        for number in range(self.trusts):
            mine = Authority(f"Own {number}").write(folder, f"own-{number}")
            issued = self.authority.issue(["server.example"]).write(folder, f"server-{number}")
            text += [
                f'trust.t{number}.bundle = ["{ca}", "{mine}"]',
                f'trust.b{number}.bundle = ["{ca}", "{mine}", "{bundle}"]',
                f'identities.i{number} = {{ certificate = "{issued.certificate}", '
                f'private-key = "{issued.private_key}" }}',
                f'profiles.t{number} = {{ identities = ["server"], trust = "t{number}", {demand} }}',
                f'profiles.b{number} = {{ identities = ["server"], trust = "b{number}", {demand} }}',
                f'profiles.i{number} = {{ identities = ["i{number}"], trust = "simple", {demand} }}',
            ]
        return "\n".join(text)


class Job(NamedTuple):
    """One handshake: the service's server, and its peer: a certificate, or the options of a client of the service."""

    server: HandshakeOptions
    client: x509.Certificate | HandshakeOptions


Turns = Callable[[int], Job]
"""Returns the job of a number."""


class Point(NamedTuple):
    """One point: ``many`` jobs that take turns, and the simple case that they are compared with."""

    name: str
    many: int
    turns: Turns
    simple: Turns
    warm: bool = True
    """True: each job has been done once before it is measured."""


def points(world: World) -> Iterator[Point]:
    """Yield every point."""
    own = world.certificates
    repeated = own[0]

    def profiles(letter: str) -> Turns:
        every = [HandshakeOptions(role=Role.SERVER, profile=f"{letter}{n}", timeout=60.0) for n in range(world.trusts)]
        return lambda number: Job(every[number % world.trusts], repeated)

    def simple(number: int) -> Job:
        return Job(SIMPLE, repeated)

    def peers(number: int) -> Job:
        return Job(SIMPLE, own[number % world.peers])

    revoked = HandshakeOptions(role=Role.SERVER, profile="revoked", timeout=60.0)
    yield Point("peers first", world.peers, peers, simple, warm=False)
    yield Point("peers", world.peers, peers, simple, warm=False)  # the point before has been through all of them
    yield Point("trusts", world.trusts, profiles("t"), simple)
    yield Point("bundles", world.trusts, profiles("b"), simple)
    yield Point("identities", world.trusts, profiles("i"), simple)
    yield Point("revoked", 500, lambda number: Job(revoked, repeated), simple)
    yield Point("peers revoked first", world.peers, lambda n: Job(revoked, own[n % world.peers]), simple, warm=False)
    yield Point("peers revoked", world.peers, lambda n: Job(revoked, own[n % world.peers]), simple, warm=False)
    yield from _psk_points(world)


def _psk_points(world: World) -> Iterator[Point]:
    def server(keys: Sequence[PresharedKey]) -> HandshakeOptions:
        return HandshakeOptions(role=Role.SERVER, psks=tuple(keys), auth_mode=AuthMode.PSK, timeout=60.0)

    clients = [HandshakeOptions(psks=(key,), auth_mode=AuthMode.PSK, timeout=60.0) for key in world.psks]
    one, many = server(world.psks[:1]), server(world.psks[: world.inline])
    profile = HandshakeOptions(role=Role.SERVER, profile="psks", auth_mode=AuthMode.PSK, timeout=60.0)

    def simple(number: int) -> Job:
        return Job(one, clients[0])

    yield Point("psks in a profile", 500, lambda n: Job(profile, clients[n * 7 % len(clients)]), simple)
    yield Point("psks inline", 500, lambda n: Job(many, clients[n % world.inline]), simple)


class Peers:
    """Clients of the service's servers, in this process."""

    def __init__(self, world: World) -> None:
        self._key = world.key
        self._context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self._context.set_min_proto_version(SSL.TLS1_3_VERSION)

    async def handshake(self, sock: socket.socket, certificate: x509.Certificate) -> None:
        """Make a client's handshake with this certificate."""
        loop = asyncio.get_running_loop()
        connection = SSL.Connection(self._context, None)
        connection.use_certificate(certificate)
        assert isinstance(self._key, ec.EllipticCurvePrivateKey)
        connection.use_privatekey(self._key)
        connection.set_connect_state()
        sock.setblocking(False)
        done = False
        while not done:
            with suppress(SSL.WantReadError):
                connection.do_handshake()
                done = True
            with suppress(SSL.WantReadError):
                await loop.sock_sendall(sock, connection.bio_read(1 << 16))
            if not done:
                connection.bio_write(await loop.sock_recv(sock, 1 << 16))


def processor_seconds(service: Running) -> float:
    """Return the seconds that dispatcher and worker have run so far."""
    dispatcher, keeper = (child_titled(service.pid, f"hsframework {name}") for name in ("dispatcher", "agent tls13"))
    pids = dispatcher, *children(keeper)
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e9


async def run(folder: Path, peers: Peers, jobs: Iterator[Job], at_once: int = AT_ONCE) -> None:
    """Do the jobs, ``at_once`` of them at a time.  Raises HsframeworkError if one fails."""
    async with AsyncClient(folder) as consumer:
        with socket.create_server(("127.0.0.1", 0), backlog=AT_ONCE) as listener:

            async def worker() -> None:
                for job in jobs:
                    theirs = socket.create_connection(listener.getsockname())
                    ours = listener.accept()[0]
                    with theirs, ours:
                        other = (
                            consumer.handshake(theirs, job.client)
                            if isinstance(job.client, HandshakeOptions)
                            else peers.handshake(theirs, job.client)
                        )
                        await asyncio.gather(consumer.handshake(ours, job.server), other)

            await asyncio.gather(*(worker() for _ in range(at_once)))


def _answers(runtime: Path, peers: Peers, job: Job) -> bool:
    """Return True if the service does a job: a connection that it does not take yet says nothing."""
    try:
        asyncio.run(run(runtime, peers, iter((job,)), at_once=1))
    except HsframeworkError:
        return False
    return True


def cost(service: Running, peers: Peers, turns: Turns, begin: int, number: int) -> float:
    """Return the microseconds of a handshake of jobs ``begin`` and following."""
    before = processor_seconds(service)
    asyncio.run(run(service.folder, peers, map(turns, range(begin, begin + number))))
    return 1e6 * (processor_seconds(service) - before) / number


def measure(service: Running, peers: Peers, point: Point, simple_jobs: int) -> tuple[float, float]:
    """Return the microseconds of the simple case and of the point."""
    if point.warm:
        cost(service, peers, point.turns, 0, point.many)
    cost(service, peers, point.simple, 0, 50)
    simple, many = [], []
    size = point.many // ROUNDS
    for number in range(ROUNDS):
        simple.append(cost(service, peers, point.simple, 0, simple_jobs))
        many.append(cost(service, peers, point.turns, number * size, size))
    return statistics.median(simple), statistics.median(many)


def main() -> int:
    """Measure and print.  Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, default=5000)
    parser.add_argument("--trusts", type=int, default=500)
    parser.add_argument("--revoked", type=int, default=1_000_000)
    parser.add_argument("--psks", type=int, default=1000)
    parser.add_argument("--simple", type=int, default=200, help="handshakes of the simple case in each round")
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="points whose names begin with one")
    arguments = parser.parse_args()
    world = World(arguments)
    print(f"{arguments.peers} peers, {arguments.trusts} trusts, {arguments.revoked} revoked serial numbers,", end=" ")
    print(f"{arguments.psks} keys inline; processor time of the service for a handshake, µs\n")
    print(f"{'':24}{'simple':>8}{'many':>8}{'ratio':>8}")
    peers = Peers(world)
    with running_service(
        "tls13", world.configuration, lambda runtime: _answers(runtime, peers, Job(SIMPLE, world.certificates[0]))
    ) as service:
        for point in points(world):
            if not arguments.only or any(map(point.name.startswith, arguments.only)):
                simple, many = measure(service, peers, point, arguments.simple)
                print(f"{point.name:24}{simple:8.0f}{many:8.0f}{many / simple:8.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
