"""The scenes of the conformance suite: a pair of requests of a scenario, on a network that does something to them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace

from hsframework.client.request import HandshakeOptions
from hsframework.testing.dispatcher import InMemoryDispatcher, Outcome, Submission, serving
from hsframework.testing.network import BadNetwork, Conditions
from hsframework.testing.peers import MARKER, Sizes, send_and_hang_up, silence, stall_after
from hsframework.testing.scenario import Pair, Scenario
from hsframework.testing.virtual_time import LoopBlocked, VirtualTimeLoop

SHORT = 2.0
"""Virtual seconds of a handshake whose peer is silent."""

LIMIT = 60.0
"""Virtual seconds for a handshake that should succeed: what takes so long hangs."""

_MOST_ROUNDS = 1000
_KERNELS_TIME = 1.0
"""Seconds, real ones."""


@dataclass
class Ended:
    """Both ends of one connection, once their handshakes are over; an end that was not asked is None."""

    client: Outcome | None
    server: Outcome | None
    requests: tuple[Submission, ...]
    begun: float = 0.0
    """On the loop's clock."""
    left: bytes = b""
    right: bytes = b""
    """What waits in the client's socket, and in the server's."""

    @property
    def outcomes(self) -> list[Outcome]:
        return [item for item in (self.client, self.server) if item is not None]

    @property
    def ok(self) -> bool:
        """Both were asked and have succeeded."""
        return len(self.outcomes) == 2 and all(item.ok for item in self.outcomes)

    def __str__(self) -> str:
        return f"client: {self.client or 'no outcome'}; server: {self.server or 'no outcome'}"


class Stage:
    """One agent with the scenario's plugin."""

    def __init__(self, scenario: Scenario, service: InMemoryDispatcher, kind: socket.SocketKind) -> None:
        self.scenario = scenario
        self.service = service
        self.kind = kind
        self.loop = asyncio.get_running_loop()

    @property
    def streams(self) -> bool:
        """On TCP, not UDP."""
        return self.kind is socket.SOCK_STREAM

    @property
    def pair(self) -> Pair:
        """The options that succeed."""
        return self.scenario.client, self.scenario.server

    @contextlib.contextmanager
    def network(self, conditions: Conditions | None = None) -> Iterator[BadNetwork]:
        """Of the protocol's kind."""
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
    ) -> Ended:
        """Both ends, until both are over.  A consumer closes the socket of a handshake that failed.

        Where datagrams get lost, a consumer goes on with its session: the last flight may be the session's to repeat.
        """
        lossy = not self.streams and conditions is not None and bool(conditions.drop or conditions.first_losses)
        with self.network(conditions) as network:
            prepare(network)
            begun = self.loop.time()
            requests = self.submit(network, pair or self.pair, timeout)
            async with contextlib.AsyncExitStack() as sessions:
                used = sessions if lossy and self.scenario.streams else None
                ends = zip(requests, (network.left, network.right), strict=True)
                first, second = await asyncio.gather(*(self._end(*end, used) for end in ends))
            await self.idle()
            return Ended(first, second, requests, begun)

    async def _end(
        self, request: Submission, sock: socket.socket, sessions: contextlib.AsyncExitStack | None = None
    ) -> Outcome:
        """``sessions``: where a session that is there is put to use."""
        outcome = await request.outcome()
        if not outcome.ok:
            sock.close()
        elif sessions is not None:
            sessions.push_async_callback(outcome.session(sock).stream().close)
        return outcome

    def submit(self, network: BadNetwork, pair: Pair, timeout: float = LIMIT) -> tuple[Submission, Submission]:
        """Hand both sockets over."""
        client, server = (replace(options, timeout=timeout) for options in pair)
        # The server's first: a real one waits for its clients.
        waiting = self.service.submit(network.right, server)
        return self.service.submit(network.left, client), waiting

    async def alone(
        self, options: HandshakeOptions, act: Callable[[BadNetwork, str], object], *, timeout: float = LIMIT
    ) -> Outcome:
        """One end, with a peer that does what ``act(network, direction towards the end)`` does and no more."""
        with self.network() as network:
            request = self.service.submit(network.left, replace(options, timeout=timeout))
            await self.quiet()
            act(network, "left")
            outcome = await self._end(request, network.left)
            await self.idle()
            return outcome

    async def cut(self, sizes: Sizes) -> Ended:
        """Both ends of a stream; each flight arrives whole but for the cuts, and directly behind the last of them what
        the end's consumer sends.  Tells what waits in the sockets then."""
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
                    await asyncio.sleep(0.05)  # virtual: a timer of the plugin's
                for name in ways:
                    network.flush(name, *sizes(network.held(name)))
                    while network.delivering(name):
                        await self.quiet()
            client, server = (request.outcomes[0] if request.outcomes else None for request in requests)
            whole = len(MARKER) if client and server and client.ok and server.ok else 0
            return Ended(client, server, requests, 0.0, _waiting(network.left, whole), _waiting(network.right, whole))

    async def cancel(self, role: int, flights: int) -> None:
        """Withdraw one end's request after so many messages were delivered; its consumer closes the socket then."""
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
        yield "success", self.handshake
        for word, pair in self.scenario.refused.items():
            yield f"refusal ({word})", lambda pair=pair: self.handshake(pair)  # type: ignore[misc]
        for options in self.pair:
            name = options.role.name.lower()
            yield f"garbage ({name})", lambda options=options: self.alone(options, send_and_hang_up(b"\xff" * 100))  # type: ignore[misc]
            yield f"silence ({name})", lambda options=options: self.alone(options, silence)  # type: ignore[misc]
        for role in (0, 1):
            yield "cancellation", lambda role=role: self.cancel(role, 1)  # type: ignore[misc]

    async def quiet(self) -> None:
        """Wait until nothing else can happen at this moment, in flight or in hand."""
        assert isinstance(self.loop, VirtualTimeLoop)
        # Twice: what the first round has brought about may have put callbacks behind us in the line.
        await self.loop.idle()
        await self.loop.idle()

    async def idle(self) -> None:
        """Wait until the agent has nothing in hand, and all is said."""
        await self.service.idle()
        await self.quiet()
        assert isinstance(self.loop, VirtualTimeLoop)
        if self.loop.blocked:
            raise LoopBlocked


def _waiting(sock: socket.socket, expected: int) -> bytes:
    """What can be read now.  A kernel that takes records apart does so after their last byte has come, in its own time:
    where less is there than ``expected``, it is given :data:`_KERNELS_TIME`."""
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
async def open_stage(scenario: Scenario) -> AsyncIterator[Stage]:
    """An agent that serves the scenario's protocol.  Raises PluginError, ConfigurationError, LookupError."""
    registry = scenario.registry()
    name, kind = scenario.protocol_name(registry), scenario.kind(registry)
    async with serving(scenario.plugin, protocol=name, settings=scenario.settings) as service:
        yield Stage(scenario, service, kind)
