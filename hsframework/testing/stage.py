"""The scenes of the conformance suite: a pair of requests of a scenario, on a network that does something to them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from hsframework.client.request import HandshakeOptions
from hsframework.testing.dispatcher import InMemoryDispatcher, Outcome, Submission, serving
from hsframework.testing.network import BadNetwork, Conditions
from hsframework.testing.scenario import Pair, Scenario
from hsframework.testing.virtual_time import VirtualTimeLoop

LIMIT = 60.0
"""Virtual seconds for a handshake that should succeed: what takes so long hangs."""

MARKER = b"<these bytes are the consumer's>"
_MOST_ROUNDS = 1000
Sizes = Callable[[int], Sequence[int]]
"""Where a flight of so many bytes is cut."""


@dataclass
class Ended:
    """Both ends of one connection, once their handshakes are over; an end that was not asked is None."""

    client: Outcome | None
    server: Outcome | None
    requests: tuple[Submission, ...]
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
        """Both ends, until both are over.  A consumer closes the socket of a handshake that failed."""
        with self.network(conditions) as network:
            prepare(network)
            requests = self.submit(network, pair or self.pair, timeout)
            ends = (network.left, network.right)
            first, second = await asyncio.gather(*map(self._end, requests, ends))
            await self.idle()
            return Ended(first, second, requests)

    async def _end(self, request: Submission, sock: socket.socket) -> Outcome:
        outcome = await request.outcome()
        if not outcome.ok:
            sock.close()
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
            return Ended(client, server, requests, _waiting(network.left), _waiting(network.right))

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


def _waiting(sock: socket.socket) -> bytes:
    sock.setblocking(False)
    parts = []
    with contextlib.suppress(OSError):
        while data := sock.recv(1 << 16):
            parts.append(data)
    return b"".join(parts)


@contextlib.asynccontextmanager
async def open_stage(scenario: Scenario) -> AsyncIterator[Stage]:
    """An agent that serves the scenario's protocol.  Raises PluginError, ConfigurationError, LookupError."""
    registry = scenario.registry()
    name, kind = scenario.protocol_name(registry), scenario.kind(registry)
    async with serving(scenario.plugin, protocol=name, settings=scenario.settings) as service:
        yield Stage(scenario, service, kind)


def cuts() -> Iterator[tuple[str, Sizes]]:
    """Where flights are cut, with a word for it: at each of the first and last bytes, at some between, at all."""
    yield "nowhere", lambda size: ()
    for at in range(1, 65):
        yield f"behind byte {at}", lambda size, at=at: (min(at, size),)  # type: ignore[misc]
    for at in range(1, len(MARKER) + 65):
        yield f"{at} bytes before the end", lambda size, at=at: (max(size - at, 0),)  # type: ignore[misc]
    chance = random.Random("cuts")
    for share in (chance.random() for _ in range(32)):
        yield f"at {share:.0%}", lambda size, share=share: (int(size * share),)  # type: ignore[misc]
    yield "behind every byte", lambda size: (1,) * size


def garbage(chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """What peers send that speak something else, or nothing sensible."""
    yield "a request of another protocol", b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"
    for size in (1, 2, 3, 5, 16, 100, 1400):
        yield f"{size} zero bytes", bytes(size)
        yield f"{size} bytes of ones", b"\xff" * size
        yield f"{size} random bytes", chance.randbytes(size)
    yield "many random bytes", chance.randbytes(60_000)
