"""Processor time that each speed mechanism saves: a pair of TLS 1.3 handshakes with it, and with it switched off.

Client, dispatcher and agent are the real ones, in one process on one event loop, so that one clock counts the work of
all three.  A mechanism is switched off by a patch from here; the product has no switches.  Rounds with and without it
take turns (on, off, off, on), so that other work on the machine weighs on both alike.

    python -m benchmarks.mechanisms [--rounds N] [NAME ...]

Printed: the median of the ratios of neighbouring rounds, off to on, less one; in brackets the quartiles.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import socket
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import structlog

from benchmarks.handshakes import NAME, SETUPS, Credentials, configuration_text, connections
from hsframework.agent import endpoint, pulling
from hsframework.agent.host import AgentHost
from hsframework.agent.served import prepare
from hsframework.client import AsyncClient, HandshakeOptions
from hsframework.configuration.toml import load_configuration
from hsframework.credentials.chain import ChainVerifier
from hsframework.dispatcher import custody, messages
from hsframework.dispatcher.agents import AgentServer
from hsframework.dispatcher.keys.trusts import TrustFiles
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.listeners import open_listeners
from hsframework.dispatcher.policy import Policy
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.sources import consumers
from hsframework.interface import AuthMode, Role
from hsframework.local.channel import AsyncChannel
from hsframework.local.deadlines import Deadlines
from hsframework.netlink.messages import MessageCodec
from hsframework.registry.plugins import load_plugins
from hsframework_tls13.prediction import Predictions

CONCURRENCY = 64
PAIRS = 128
"""Pairs of handshakes in one round."""

Patch = Callable[[], contextlib.AbstractContextManager[Any]]


class OwnTimers:
    """Deadlines with a timer of the loop for each, in the place of :class:`Deadlines`."""

    handles: dict[int, asyncio.TimerHandle] = {}  # noqa: RUF012
    number = 0

    @classmethod
    def add(cls, deadlines: Any, item: Any, when: float) -> int:
        """Add an item; the ticket is its timer's number."""
        cls.number += 1
        cls.handles[cls.number] = deadlines._loop.call_at(when, deadlines._passed, item)
        return cls.number

    @classmethod
    def remove(cls, deadlines: Any, item: Any, ticket: int) -> None:
        """Cancel the timer of an item."""
        handle = cls.handles.pop(ticket, None)
        if handle is not None:
            handle.cancel()


async def _readable_by_the_loop(self: Any, until: float | None = None) -> None:
    future = self._loop.create_future()
    fd = self._socket.fileno()
    self._loop.add_reader(fd, lambda: future.done() or future.set_result(None))
    try:
        await future
    finally:
        self._loop.remove_reader(fd)


def _peeks(*, waits_first: bool, whole_flights: bool) -> Callable[[Any, int], Any]:
    original = endpoint.StreamEndpoint.peek

    async def peek(self: Any, max_size: int) -> bytes:
        if not waits_first:
            self._awaits_answer = False
        data = await original(self, max_size)
        return data if whole_flights else data[: 5 + int.from_bytes(data[3:5], "big")]

    return peek


@contextlib.contextmanager
def _default_collector() -> Iterator[None]:
    before = gc.get_threshold()
    gc.unfreeze()
    gc.set_threshold(700, 10, 10)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.collect()
        gc.freeze()


def _encoded_each_time() -> contextlib.AbstractContextManager[Any]:
    original = messages._encoded_credentials

    def encoded(given: Any, role: Role, auth_mode: AuthMode) -> bytes:
        given.encoded.clear()
        return original(given, role, auth_mode)

    return mock.patch.object(messages, "_encoded_credentials", encoded)


def _never_remembered() -> contextlib.AbstractContextManager[Any]:
    original = ChainVerifier.verify

    def verify(self: Any, *arguments: Any, **options: Any) -> Any:
        self._cache.clear()
        return original(self, *arguments, **options)

    return mock.patch.object(ChainVerifier, "verify", verify)


def _own_timers() -> contextlib.AbstractContextManager[Any]:
    return mock.patch.multiple(
        Deadlines,
        add=lambda self, item, when: OwnTimers.add(self, item, when),
        remove=lambda self, item, ticket: OwnTimers.remove(self, item, ticket),
    )


MECHANISMS: dict[str, Patch] = {
    "nothing (the noise)": contextlib.nullcontext,
    "several messages in one packet": lambda: mock.patch.object(AsyncChannel, "send_soon", AsyncChannel.send),
    "ACCEPT for 16 requests": lambda: mock.patch.object(pulling, "BATCH", 1),
    "an outcome goes on as it was encoded": lambda: mock.patch.object(MessageCodec, "without_first", return_value=b""),
    "a submit that is repeated is agreed to once": lambda: mock.patch.object(
        consumers.ConsumerConnection, "_remember", return_value=None
    ),
    "a profile's credentials are encoded once": _encoded_each_time,
    "verified chains are remembered": _never_remembered,
    "one key share to a server that took it": lambda: mock.patch.object(Predictions, "takes_best", return_value=False),
    "whole flights at once": lambda: mock.patch.object(
        endpoint.StreamEndpoint, "peek", _peeks(waits_first=True, whole_flights=False)
    ),
    "after a send, wait before a look": lambda: mock.patch.object(
        endpoint.StreamEndpoint, "peek", _peeks(waits_first=False, whole_flights=True)
    ),
    "an epoll of the agent's own": lambda: mock.patch.object(endpoint._Endpoint, "_readable", _readable_by_the_loop),
    "deadlines share timers": _own_timers,
    "a trusted consumer's sockets are closed in place": lambda: mock.patch.object(
        custody, "_lingers", return_value=True
    ),
    "the collector runs at 20,000 objects, what is loaded is frozen": _default_collector,
}


@contextlib.asynccontextmanager
async def service(folder: Path) -> AsyncIterator[Path]:
    """Run a dispatcher and an agent of tls13 in this process; yield the runtime directory."""
    path = folder / "hsframework.toml"
    path.write_text(configuration_text(folder, Credentials(SETUPS[0]), 1))
    configuration = load_configuration(path)
    loop = asyncio.get_running_loop()
    runtime = folder / "run"
    listeners = open_listeners(runtime)
    dispatcher = Dispatcher(configuration)
    policy, trusts = Policy(configuration), TrustFiles()
    agents = AgentServer(dispatcher, policy, trusts, listeners["agent"], configuration.limits, loop=loop)
    local = consumers.LocalSource(
        dispatcher, policy, Vault(configuration), listeners["consumer"], configuration, loop=loop
    )
    registry = load_plugins()
    joined = asyncio.Event()
    host = AgentHost([prepare(registry, "tls13")], registry, runtime / "agent.sock", on_joined=joined.set)
    serving = loop.create_task(host.run())
    await joined.wait()
    try:
        yield runtime
    finally:
        host.stop()
        await serving
        dispatcher.stop()
        local.close()
        agents.close()
        trusts.close()
        dispatcher.close()


async def round_of_pairs(runtime: Path) -> float:
    """Return the processor seconds of :data:`PAIRS` pairs; making and closing the connections is not counted."""
    client_options = HandshakeOptions(peer_name=NAME, profile="client")
    server_options = HandshakeOptions(role=Role.SERVER, profile="server")
    made = connections(PAIRS)
    try:
        async with AsyncClient(runtime) as consumer:

            async def many(work: list[tuple[socket.socket, socket.socket]]) -> None:
                while work:
                    client, server = work.pop()
                    other = asyncio.create_task(consumer.handshake(client, client_options))
                    await consumer.handshake(server, server_options)
                    await other

            work = list(made)
            start = time.process_time()
            await asyncio.gather(*(many(work) for _ in range(CONCURRENCY)))
            return time.process_time() - start
    finally:
        for pair in made:
            for sock in pair:
                sock.close()


async def saved(runtime: Path, switch_off: Patch, rounds: int) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile of what is saved, as a part of the whole."""
    ratios = []
    for _ in range(rounds):
        times = {True: 0.0, False: 0.0}
        for off in (False, True, True, False):
            with switch_off() if off else contextlib.nullcontext():
                times[off] += await round_of_pairs(runtime)
        ratios.append(times[True] / times[False] - 1)
    lower, median, upper = statistics.quantiles(ratios, n=4)
    return lower, median, upper


async def measure(names: list[str], rounds: int) -> None:
    """Measure the mechanisms of these names, or all."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory() as folder:
        async with service(Path(folder)) as runtime:
            for _ in range(3):
                await round_of_pairs(runtime)
            gc.collect()
            gc.freeze()
            gc.set_threshold(20_000)
            spent = min([await round_of_pairs(runtime) for _ in range(5)])
            print(f"{spent / PAIRS * 1e6:.0f} µs of processor time a pair, {CONCURRENCY} pairs at a time\n")
            for name in names or MECHANISMS:
                lower, median, upper = await saved(runtime, MECHANISMS[name], rounds)
                print(f"{name:64s} {median:+7.1%}  ({lower:+.1%} to {upper:+.1%})", flush=True)


def main() -> None:
    """Measure, and print a line for each mechanism."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mechanisms", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="of on, off, off, on; 2 at least (default: 10)")
    parser.add_argument("names", nargs="*", metavar="NAME", help="mechanisms to measure (default: all)")
    chosen = parser.parse_args()
    unknown = set(chosen.names) - MECHANISMS.keys()
    if unknown:
        parser.error(f"there is no {unknown.pop()!r}; there are: {', '.join(MECHANISMS)}")
    if chosen.rounds < 2:
        parser.error("--rounds: at least 2")
    asyncio.run(measure(chosen.names, chosen.rounds))


if __name__ == "__main__":
    main()
