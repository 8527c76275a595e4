"""A dispatcher that a test plays by hand, and a toy protocol whose handshakes do what the test says.

The sockets and the messages are real.  The toy's records are one byte of length and a body; its client sends ``hello``
and reads the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import socket
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hsframework
from hsframework.agent.host import AgentHost
from hsframework.agent.served import prepare
from hsframework.interface import AuthMode, Demand, Endpoint, Handshaker, Protocol, Request, Result
from hsframework.local.channel import LOCAL_MESSAGE_TYPE, AsyncChannel
from hsframework.local.trustfile import create_trust_file
from hsframework.netlink.messages import NLM_F_ACK, Message, MessageCodec, encode_error
from hsframework.netlink.spec import Specification, builtin_specification, parse_specification
from hsframework.registry.plugins import PluginRegistry

WAIT = 20.0
codec = MessageCodec(builtin_specification("local"), message_type=LOCAL_MESSAGE_TYPE, receives=("request",))

TOY_SPECIFICATION = parse_specification(
    """
name: toy
attribute-sets:
  - name: request
    attributes:
      - {name: colour, type: string}
  - name: session
    attributes:
      - {name: key, type: binary}
operations: {list: []}
""",
    sensitive="session: [key]",
)

Behaviour = Callable[[Request, Endpoint], Awaitable[Any]]


async def greet(request: Request, endpoint: Endpoint) -> Result:
    """Run the toy handshake."""
    await endpoint.send(b"\x05hello")
    record = await endpoint.receive_record(1, lambda header: header[0])
    return Result(session={"key": b"k" * 16}, tags={"answer": record[1:].decode()})


@dataclass(frozen=True)
class ToySettings:
    """Settings that a test may set."""

    greeting: str = "hello"


class ToyHandshaker(Handshaker):
    """Handshaker that does what ``behaviour`` says."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.requests: list[Request] = []

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        self.requests.append(request)
        result: Result = await self.behaviour(request, endpoint)
        return result


class ToyProtocol(Protocol):
    """In group ``toy``, on TCP and on AF_UNIX sockets."""

    name = "toy"
    groups: tuple[str, ...] = ("toy",)
    socket_protocols = frozenset({socket.IPPROTO_TCP, 0})
    settings_type = ToySettings
    auth_modes = frozenset(AuthMode)
    understands = frozenset(Demand) - {Demand.TLS_POLICIES}

    def __init__(self, behaviour: Behaviour = greet) -> None:
        self.handshaker = ToyHandshaker(behaviour)

    @property
    def specification(self) -> Specification | None:
        return TOY_SPECIFICATION

    def prepare(self, settings: Any) -> Handshaker:
        return self.handshaker


class ToyPlugin:
    """A plugin object with one or more protocols."""

    def __init__(self, *protocols: Protocol) -> None:
        self.protocols = protocols

    @hsframework.hookimpl
    def hsframework_protocols(self) -> tuple[Protocol, ...]:
        return self.protocols


class Audit:
    """A plugin that writes down what it is told."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.finished: list[tuple[int, Any]] = []

    @hsframework.hookimpl
    def hsframework_handshake_started(self, request: Request) -> None:
        self.started.append(request.id)

    @hsframework.hookimpl
    def hsframework_handshake_finished(self, request: Request, outcome: Any) -> None:
        self.finished.append((request.id, outcome))


def registry_with(*plugins: object) -> PluginRegistry:
    """Return a registry with these plugins; each must be acceptable."""
    registry = PluginRegistry()
    for number, plugin in enumerate(plugins):
        record = registry.register(plugin, f"plugin-{number}")
        assert record.error is None, record.error
    return registry


class AgentPeer:
    """The dispatcher's end of one agent's connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.inbox: asyncio.Queue[tuple[Message, int | None] | None] = asyncio.Queue()
        self.pid: int = struct.unpack("=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        self.channel = AsyncChannel(sock, self._packet, lambda _: self.inbox.put_nowait(None))
        self._send = self.channel.send

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Send what is sent within the block in one packet."""
        self._send = self.channel.send_soon
        yield
        self._send = self.channel.send

    def _packet(self, data: bytes, fd: int | None) -> None:
        self.inbox.put_nowait((codec.decode(data), fd))

    async def receive(self, operation: str) -> Message:
        """Receive the next message, which must be this operation."""
        message, fd = await self.receive_with_fd(operation)
        assert fd is None
        return message

    async def receive_with_fd(self, operation: str) -> tuple[Message, int | None]:
        """Receive the same, with the fd that came along."""
        item = await asyncio.wait_for(self.inbox.get(), WAIT)
        assert item is not None, "the agent closed the connection"
        message, fd = item
        assert message.operation == operation, message
        return message, fd

    async def closed(self) -> None:
        """Wait for the agent's end; what it sent before is dropped."""
        while await asyncio.wait_for(self.inbox.get(), WAIT) is not None:
            pass

    def send(
        self, operation: str, values: Mapping[str, Any], fd: int | None = None, *, sequence: int = 0, flags: int = 0
    ) -> None:
        """Send one message."""
        self._send(codec.encode(operation, values, sequence=sequence, flags=flags), fd)

    def refuse(self, message: Message, number: int, text: str = "") -> None:
        """Answer with an error; 0 acknowledges."""
        self._send(encode_error(number, message.sequence, text))

    async def joined(self) -> Message:
        """Let the agent join."""
        message = await self.receive("join")
        assert message.flags & NLM_F_ACK
        self.refuse(message, 0)
        return message

    async def asked(self, group: str = "toy") -> Message:
        """Send READY and receive the ACCEPT that follows."""
        self.send("ready", {"group": group})
        return await self.receive("accept")

    def give(self, accept: Message, fd: int, number: int = 1, **values: Any) -> None:
        """Answer ACCEPT with a request; underscores in names are dashes."""
        request = {
            "request-id": number,
            "group": "toy",
            "message-type": 1,
            "auth-mode": 1,
            "timeout": 5000,
            **{name.replace("_", "-"): value for name, value in values.items()},
        }
        self.send("accept", request, fd, sequence=accept.sequence)

    def trust(self, number: int, trust: Any) -> None:
        """Send a trust file."""
        fd, size = create_trust_file(trust)
        self.send("trust", {"trust-id": number, "size": size}, fd)
        os.close(fd)


class FakeDispatcher:
    """Listens at ``path``; every connection is an :class:`AgentPeer`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._peers: asyncio.Queue[AgentPeer] = asyncio.Queue()
        self._all: list[AgentPeer] = []
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Listen; a dispatcher before it may have left its socket behind."""
        self.path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(str(self.path))
        self._socket.listen(16)
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._connected)

    def _connected(self) -> None:
        assert self._socket is not None
        sock, _ = self._socket.accept()
        peer = AgentPeer(sock)
        self._all.append(peer)
        self._peers.put_nowait(peer)

    async def agent(self) -> AgentPeer:
        """Return the next agent that connects, joined."""
        peer = await self.connection()
        await peer.joined()
        return peer

    async def connection(self) -> AgentPeer:
        """Return the next agent that connects."""
        return await asyncio.wait_for(self._peers.get(), WAIT)

    def die(self) -> None:
        """Close listening socket and connections, as kill -9 would."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        for peer in self._all:
            peer.channel.close()
        self._all.clear()


@contextlib.asynccontextmanager
async def dispatcher() -> AsyncIterator[FakeDispatcher]:
    """Run a dispatcher that listens, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        fake = FakeDispatcher(Path(folder) / "agent.sock")
        fake.start()
        try:
            yield fake
        finally:
            fake.die()


@dataclass
class Running:
    """A host on the test's loop, and the dispatcher's end of its first connection."""

    host: AgentHost
    task: asyncio.Task[None]
    peer: AgentPeer
    dispatcher: FakeDispatcher
    registry: PluginRegistry


@contextlib.asynccontextmanager
async def running(
    behaviour: Behaviour = greet,
    *plugins: object,
    protocol: Protocol | None = None,
    capacity: int | None = None,
    on_retired: Callable[[], None] | None = None,
) -> AsyncIterator[Running]:
    """Run a host with the toy protocol, joined; at the end no task of it and no fd of it may be left."""
    gc.collect()  # what earlier tests have left goes now, and not in between
    fds_before, tasks_before = open_fds(), asyncio.all_tasks()
    registry = registry_with(ToyPlugin(protocol or ToyProtocol(behaviour)), *plugins)
    async with dispatcher() as fake:
        served = tuple(prepare(registry, name) for name in registry.protocols)
        host = AgentHost(served, registry, fake.path, name="test", capacity=capacity, on_retired=on_retired)
        task = asyncio.create_task(host.run())
        try:
            yield Running(host, task, await fake.agent(), fake, registry)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    assert asyncio.all_tasks() == tasks_before
    assert open_fds() == fds_before


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Make two ends of a stream connection: the one that is handed over, and the peer's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(WAIT)
        yield ours, theirs


def open_fds() -> int:
    """Count the open fds of this process."""
    return len(os.listdir("/proc/self/fd"))


async def forever(request: Request, endpoint: Endpoint) -> Result:
    """Wait without end."""
    await asyncio.Event().wait()
    raise AssertionError


async def succeeds(request: Request, endpoint: Endpoint) -> Result:
    return Result()


async def one(behaviour: Behaviour, *plugins: object, **values: Any) -> Message:
    """Serve one request with this behaviour; its DONE."""
    async with running(behaviour, *plugins) as agent:
        with pair() as (ours, _):
            agent.peer.give(await agent.peer.asked(), ours.fileno(), **values)
            done = await agent.peer.receive("done")
            assert done.values["request-id"] == 1
            return done


async def read(sock: socket.socket, size: int) -> bytes:
    """Read from the peer's end, without blocking the loop."""
    sock.setblocking(False)
    return await asyncio.get_running_loop().sock_recv(sock, size)


async def settled(peer: AgentPeer) -> None:
    """Wait until the agent has read everything up to here; it must have sent nothing else."""
    peer.send("cancel", {"request-id": 999, "reason": errno.ECANCELED}, flags=NLM_F_ACK)
    await acknowledged(peer)


async def acknowledged(peer: AgentPeer) -> None:
    """Check that the agent's next message is an acknowledgement."""
    item = await asyncio.wait_for(peer.inbox.get(), WAIT)
    assert item is not None
    assert item[0].error == 0
