"""The scenes of the conformance suite: pairs of requests of a scenario, on a network with faults."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace

from hsframework.client.request import HandshakeOptions
from hsframework.failures import Failure, HandshakeFailed
from hsframework.hookspecs import hookimpl
from hsframework.interface import PeerIdentity, Request, Role
from hsframework.testing.dispatcher import InMemoryDispatcher, Outcome, Submission, serving
from hsframework.testing.holdings import RUNS, Holdings, Population, grown
from hsframework.testing.network import BadNetwork, Conditions
from hsframework.testing.observation import Observation
from hsframework.testing.peers import MARKER, Sizes, send_and_hang_up, silence, stall_after
from hsframework.testing.processor_time import Slowness
from hsframework.testing.scenario import Pair, Scenario
from hsframework.testing.virtual_time import LoopBlocked, VirtualTimeLoop
from hsframework.testing.watched import Watch, WatchedHandshaker, make_task

SHORT = 2.0
"""Timeout of a handshake whose peer is silent, in virtual seconds."""

LIMIT = 60.0
"""Timeout of a handshake that should succeed, in virtual seconds; one that reaches it hangs."""

_MOST_ROUNDS = 1000
_KERNELS_TIME = 1.0
"""Real seconds for a kernel that takes records apart."""


@dataclass
class Ended:
    """The outcomes of both ends of one connection; None for an end without an outcome."""

    client: Outcome | None
    server: Outcome | None
    requests: tuple[Submission, ...]
    begun: float = 0.0
    """Seconds on the loop's clock."""
    left: bytes = b""
    right: bytes = b""
    """Bytes that wait in the client's socket, and in the server's."""

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcomes that there are."""
        return [item for item in (self.client, self.server) if item is not None]

    @property
    def ok(self) -> bool:
        """True if both ends have succeeded."""
        return len(self.outcomes) == 2 and all(item.ok for item in self.outcomes)

    def __str__(self) -> str:
        return f"client: {self.client or 'no outcome'}; server: {self.server or 'no outcome'}"


class Authorizations:
    """A plugin beside the scenario's, which notes the peers that it is asked about, and allows or refuses them."""

    def __init__(self) -> None:
        self.asked: list[tuple[Role, PeerIdentity]] = []
        """The role of the handshake and the peer of each question, in their order."""
        self.refused: Role | None = None
        """The role whose peers are refused."""

    @hookimpl
    def hsframework_authorize(self, request: Request, peer: PeerIdentity) -> None:
        self.asked.append((request.role, peer))
        if request.role is self.refused:
            raise HandshakeFailed(Failure.NOT_AUTHORIZED, "the suite's plugin refuses everybody")


class Stage:
    """An agent with the scenario's plugin, and the scenes that are played with it."""

    def __init__(
        self,
        scenario: Scenario,
        service: InMemoryDispatcher,
        kind: socket.SocketKind,
        authorizations: Authorizations,
        watch: Watch,
        slowness: Slowness | None = None,
    ) -> None:
        self.scenario = scenario
        self.service = service
        self.kind = kind
        self.authorizations = authorizations
        self.watch = watch
        self._slowness = slowness
        self.loop = asyncio.get_running_loop()

    @property
    def streams(self) -> bool:
        """True for a protocol on TCP, False for one on UDP."""
        return self.kind is socket.SOCK_STREAM

    @property
    def pair(self) -> Pair:
        """Options of client and server that succeed with each other."""
        return self.scenario.client, self.scenario.server

    @contextlib.contextmanager
    def network(self, conditions: Conditions | None = None) -> Iterator[BadNetwork]:
        """Make a network of the protocol's kind."""
        make = BadNetwork.streams if self.streams else BadNetwork.datagrams
        with make(conditions) as network:
            yield network

    async def handshake(
        self,
        pair: Pair | None = None,
        conditions: Conditions | None = None,
        *,
        timeout: float = LIMIT,
        prepare: Callable[[BadNetwork], object] = lambda network: None,
        idle: bool = True,
    ) -> Ended:
        """Run the handshakes of both ends until both have ended.

        ``pair``: options; None: those that succeed.  ``timeout``: seconds.  ``prepare``: sets up the network.
        ``idle``: wait until the agent has no request at all.

        A consumer closes the socket of a handshake that failed.  Where datagrams are lost, it opens the stream of its
        session, because the session may have to repeat the last flight.
        """
        lossy = not self.streams and conditions is not None and bool(conditions.drop or conditions.first_losses)
        with self.network(conditions) as network:
            prepare(network)
            begun = self.loop.time()
            requests = self.submit(network, pair or self.pair, timeout)
            async with contextlib.AsyncExitStack() as sessions:
                used = sessions if lossy and self.scenario.streams else None
                ends = zip(requests, (network.left, network.right), strict=True)
                first, second = await asyncio.gather(*(self.end(*end, used) for end in ends))
            if idle:
                await self.idle()
            return Ended(first, second, requests, begun)

    async def end(
        self, request: Submission, sock: socket.socket, sessions: contextlib.AsyncExitStack | None = None
    ) -> Outcome:
        """Wait for one end's outcome; ``sessions``: closes the stream of an established session at its end."""
        outcome = await request.outcome()
        if not outcome.ok:
            sock.close()
        elif sessions is not None:
            sessions.push_async_callback(outcome.session(sock).stream().close)
        return outcome

    def submit(
        self, network: BadNetwork, pair: Pair, timeout: float = LIMIT, *, kernel_consumers: bool = False
    ) -> tuple[Submission, Submission]:
        """Submit both sockets; return the client's submission and the server's."""
        client, server = (replace(options, timeout=timeout) for options in pair)
        # The server's first, because a real server waits for its clients.
        waiting = self.service.submit(network.right, server, kernel_consumer=kernel_consumers)
        return self.service.submit(network.left, client, kernel_consumer=kernel_consumers), waiting

    async def alone(
        self, options: HandshakeOptions, act: Callable[[BadNetwork, str], object], *, timeout: float = LIMIT
    ) -> Outcome:
        """Run one end's handshake with a peer that does only ``act(network, direction towards the end)``."""
        with self.network() as network:
            request = self.service.submit(network.left, replace(options, timeout=timeout))
            await self.quiet()
            act(network, "left")
            outcome = await self.end(request, network.left)
            await self.idle()
            return outcome

    async def cut(self, sizes: Sizes) -> Ended:
        """Run the handshakes of both ends of a stream whose flights are cut into pieces.

        Directly behind its last flight, each end's consumer sends :data:`MARKER`.  The result has the bytes that then
        wait in the sockets.
        """
        with self.network() as network:
            network.stalled = True
            requests = self.submit(network, self.pair)
            pending = dict(zip(requests, (network.left, network.right), strict=True))
            for _ in range(_MOST_ROUNDS):
                await self.quiet()
                for request in [item for item in pending if item.outcomes]:
                    sock = pending.pop(request)
                    if request.outcomes[0].ok:
                        sock.send(MARKER)
                await self.quiet()
                ways = [name for name in ("right", "left") if network.held(name)]
                if not ways and not pending:
                    break
                if not ways:
                    await asyncio.sleep(0.05)  # virtual time, for a timer of the plugin's
                for name in ways:
                    network.flush(name, *sizes(network.held(name)))
                    while network.delivering(name):
                        await self.quiet()
            client, server = (request.outcomes[0] if request.outcomes else None for request in requests)
            whole = len(MARKER) if client and server and client.ok and server.ok else 0
            return Ended(client, server, requests, 0.0, waiting(network.left, whole), waiting(network.right, whole))

    async def cancel(self, role: int, flights: int) -> None:
        """Withdraw one end's request after ``flights`` messages; its consumer then closes the socket.

        ``role``: 0 for the client, 1 for the server.
        """
        with self.network() as network:
            stall_after(flights)(network)
            network.stalled = flights == 0
            requests = self.submit(network, self.pair)
            await self.quiet()
            requests[role].cancel()
            await self.quiet()
            (network.left, network.right)[role].close()
            requests[1 - role].cancel()
            await self.idle()

    def endings(self) -> Iterator[tuple[str, Callable[[], Awaitable[object]]]]:
        """Yield scenes for all the ways in which a handshake can end, with a name."""
        yield "success", self.handshake
        for word, pair in zip(self.scenario.refused, self.scenario.refused_pairs(), strict=True):
            yield f"refusal ({word})", lambda pair=pair: self.handshake(pair)  # type: ignore[misc]
        for options in self.pair:
            name = options.role.name.lower()
            yield f"garbage ({name})", lambda options=options: self.alone(options, send_and_hang_up(b"\xff" * 100))  # type: ignore[misc]
            yield f"silence ({name})", lambda options=options: self.alone(options, silence)  # type: ignore[misc]
        for role in (0, 1):
            yield "cancellation", lambda role=role: self.cancel(role, 1)  # type: ignore[misc]

    async def forget(self, seen: Observation) -> None:
        """Drop what has been noted of handshakes, so that it is not taken for something that a plugin keeps."""
        await asyncio.sleep(LIMIT + SHORT)  # virtual time: the last deliveries, and the agent's deadlines
        await self.quiet()
        assert isinstance(self.loop, VirtualTimeLoop)
        self.loop.drop_cancelled_timers()
        seen.events.clear()
        self.authorizations.asked.clear()
        self.watch.errors.clear()

    async def quiet(self) -> None:
        """Wait until the loop is idle, without moving its time on."""
        assert isinstance(self.loop, VirtualTimeLoop)
        # Twice, because the first round may have queued callbacks behind this one.
        await self.loop.idle()
        await self.loop.idle()

    async def idle(self) -> None:
        """Wait until the agent has no requests and the loop is idle.  Raises LoopBlocked if the plugin holds it up."""
        await self.service.idle()
        await self.quiet()
        assert isinstance(self.loop, VirtualTimeLoop)
        if self.loop.blocked or (self._slowness is not None and self._slowness.is_certain):
            raise LoopBlocked


async def objects_left(stage: Stage, seen: Observation, scene: Callable[[], Awaitable[object]]) -> list[str]:
    """Return the types of which each run of a scene leaves an object behind, with their numbers."""
    await stage.forget(seen)
    populations = [Population()]
    for _ in range(2):
        for _ in range(RUNS):
            await scene()
        await stage.forget(seen)
        populations.append(Population())
    return grown(populations)


async def left_by_closing(stage: Stage) -> list[str]:
    """Return what handshakers of the scenario's protocol leave behind when they are closed, after a handshake each."""

    async def serve() -> None:
        async with open_stage(stage.scenario) as other:
            await other.handshake()

    await serve()
    before = Holdings()
    for _ in range(RUNS):
        await serve()
    return Holdings().more_than(before)


def waiting(sock: socket.socket, expected: int) -> bytes:
    """Return the bytes that can be read.

    A kernel with the session takes records apart some time after their last byte has arrived, so a socket with fewer
    than ``expected`` bytes is given :data:`_KERNELS_TIME`.
    """
    parts: list[bytes] = []
    with contextlib.suppress(OSError):
        while True:
            sock.settimeout(_KERNELS_TIME if sum(map(len, parts)) < expected else 0.0)
            data = sock.recv(1 << 16)
            if not data:
                break
            parts.append(data)
    return b"".join(parts)


@contextlib.asynccontextmanager
async def open_stage(scenario: Scenario, slowness: Slowness | None = None) -> AsyncIterator[Stage]:
    """Run an agent that serves the scenario's protocol.  Raises PluginError, ConfigurationError, LookupError."""
    registry = scenario.registry()
    name, kind = scenario.protocol_name(registry), scenario.kind(registry)
    noted = Authorizations()
    watch = Watch()
    asyncio.get_running_loop().set_task_factory(make_task)  # type: ignore[arg-type]
    async with serving(
        scenario.plugin,
        protocol=name,
        settings=scenario.settings,
        beside={"the suite": noted},
        around=lambda handshaker: WatchedHandshaker(handshaker, watch),
    ) as service:
        yield Stage(scenario, service, kind, noted, watch, slowness)
