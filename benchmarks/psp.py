"""Benchmark of PSP: key exchanges beside the TLS handshakes underneath, packets sealed and opened beside bare AES-GCM.

    python -m benchmarks.psp [--seconds 3] [--rounds 5]

Key exchanges, both ends in one process on one event loop, over open TCP connections, with ECDSA P-256 certificates on
both ends and the software device:

* *psp*: the plugin's whole key exchange, from the first byte until both consumers have their keys.
* *tls*: the TLS 1.3 plugin's handshake on such connections, with the same certificates, as it is part of PSP's.
* *bare*: pyOpenSSL client and server joined by memory BIOs, in a plain loop.

They take turns, and each ratio is the median over the rounds.  The clock is the processor time of this process with the
kernel's work for it, because the machine may do other work too: pairs per second of one core.

Packets: Gbit/s of payload for one core, best of several rounds; *bare* is AESGCM of the same library with the same
nonce and header; *device* opens with a key that it derives for each packet, as it does on the receiving side.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import socket
import statistics
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain, islice

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from OpenSSL import SSL

from benchmarks.handshakes import Credentials, Setup, bare_contexts, bare_rate
from hsframework.agent.endpoint import StreamEndpoint
from hsframework.agent.readiness import Readiness
from hsframework.interface import AuthMode, CertificateDemand, Handshaker, Request, Role
from hsframework.testing.network import tcp_pair
from hsframework_psp.packets import PacketOpener, PacketSealer
from hsframework_psp.plugin import PspHandshaker
from hsframework_psp.settings import Settings
from hsframework_psp.software import SoftwareDevice
from hsframework_psp.versions import Version
from hsframework_tls13.plugin import Tls13Handshaker
from hsframework_tls13.settings import Settings as TlsSettings

BATCH = 64
"""Connections that are opened before the clock starts."""
AT_ONCE = 8
"""Pairs of handshakes under way."""
SIZES = (1400, 8900)
"""Bytes of payload: an ordinary packet's and a jumbo frame's."""

Pair = tuple[socket.socket, socket.socket]


class Exchanges:
    """A series of pairs of handshakes, by one handshaker."""

    def __init__(self, handshaker: Handshaker, credentials: Credentials) -> None:
        self._handshaker = handshaker
        trust = credentials.authority.trust()
        self._client = Request(
            id=1,
            group="",
            role=Role.CLIENT,
            auth_mode=AuthMode.X509,
            deadline=math.inf,
            peer_name="server.example",
            identities=(credentials.client.identity,),
            trust=trust,
        )
        self._server = Request(
            id=2,
            group="",
            role=Role.SERVER,
            auth_mode=AuthMode.X509,
            deadline=math.inf,
            identities=(credentials.server.identity,),
            trust=trust,
            client_certificate=CertificateDemand.REQUIRE,
        )

    def rate(self, seconds: float) -> float:
        """Return the pairs per second of processor time."""
        return asyncio.run(self._rate(seconds))

    async def _rate(self, seconds: float) -> float:
        count, spent = 0, 0.0
        readiness = Readiness(asyncio.get_running_loop())
        while spent < seconds:
            with ExitStack() as stack:
                pairs = [tcp_pair() for _ in range(BATCH)]
                for end in chain(*pairs):
                    stack.enter_context(end)
                start = time.process_time()
                waiting = iter(pairs)
                await asyncio.gather(*(self._worker(waiting, readiness) for _ in range(AT_ONCE)))
                spent += time.process_time() - start
                count += BATCH
        readiness.close()
        return count / spent

    async def _worker(self, pairs: Iterator[Pair], readiness: Readiness) -> None:
        for near, far in pairs:
            await asyncio.gather(
                self._one(StreamEndpoint(near, readiness), self._client),
                self._one(StreamEndpoint(far, readiness), self._server),
            )

    async def _one(self, endpoint: StreamEndpoint, request: Request) -> None:
        await self._handshaker.handshake(request, endpoint)
        endpoint.leave()


def _bare(contexts: tuple[SSL.Context, SSL.Context], seconds: float) -> float:
    begun, start = time.perf_counter(), time.process_time()
    rate = bare_rate(contexts, seconds)
    return rate * (time.perf_counter() - begun) / (time.process_time() - start)


def key_exchanges(seconds: float, rounds: int) -> None:
    """Measure key exchanges, and print pairs a second and ratios."""
    credentials = Credentials(Setup("", "ecdsa-p256", mutual=True))
    psp = Exchanges(PspHandshaker(Settings(device="software")), credentials)
    tls = Exchanges(Tls13Handshaker(TlsSettings(kernel_offload=False)), credentials)
    contexts = bare_contexts(credentials)
    measures: tuple[Callable[[float], float], ...] = (psp.rate, tls.rate, lambda span: _bare(contexts, span))
    for warm_up in measures:
        warm_up(0.2)
    found = [[measure(seconds / rounds) for measure in measures] for _ in range(rounds)]
    rates = [statistics.median(column) for column in zip(*found, strict=True)]
    to_tls, to_bare = (statistics.median(row[0] / row[other] for row in found) for other in (1, 2))
    print("key exchanges, pairs per second of one core (ECDSA P-256 on both ends)")
    print(f"  psp {rates[0]:6.0f}   tls underneath {rates[1]:6.0f}   bare pyOpenSSL {rates[2]:6.0f}")
    print(f"  psp/tls {to_tls:.2f}   psp/bare {to_bare:.2f}")


def gigabits(size: int, function: Callable[[], object]) -> float:
    """Return Gbit/s of payload, for calls that handle ``size`` bytes each."""
    timer = timeit.Timer(function)
    count, _ = timer.autorange()
    return size * 8 * count / min(timer.repeat(5, count)) / 1e9


def packets() -> None:
    """Measure sealing and opening, and print Gbit/s."""
    print("packets, Gbit/s of payload on one core")
    print(f"  {'':14}{'bytes':>6}{'seal':>8}{'bare':>8}{'ratio':>7}{'open':>8}{'bare':>8}{'ratio':>7}{'device':>8}")
    for version in islice(Version, 2):
        for size in SIZES:
            print(f"  {version.label:14}{size:6}" + _row(version, size))


def _row(version: Version, size: int) -> str:
    device = SoftwareDevice(os.urandom)
    grant = device.allocate(version)
    key = grant.key.reveal()
    sealer, opener, aead = PacketSealer(version, grant.spi, key), PacketOpener(version, grant.spi, key), AESGCM(key)
    payload = os.urandom(size)
    packet = sealer.seal(payload, next_header=6)
    header, nonce, sealed = packet[:16], packet[4:16], packet[16:]
    seal, bare_seal, opened, bare_open, whole = (
        gigabits(size, function)
        for function in (
            lambda: sealer.seal(payload, next_header=6),
            lambda: aead.encrypt(nonce, payload, header),
            lambda: opener.open(packet),
            lambda: aead.decrypt(nonce, sealed, header),
            lambda: device.open(packet),
        )
    )
    return (
        f"{seal:8.2f}{bare_seal:8.2f}{seal / bare_seal:7.2f}"
        f"{opened:8.2f}{bare_open:8.2f}{opened / bare_open:7.2f}{whole:8.2f}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure PSP's key exchange and the software device.")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each kind of key exchange, in all")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    key_exchanges(arguments.seconds, arguments.rounds)
    packets()


if __name__ == "__main__":
    main()
