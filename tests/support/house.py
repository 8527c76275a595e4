"""A dispatcher on the test's own event loop, with agents and consumers that speak the local family by hand.

The sockets are real, the messages are the codec's; nothing of the agent process or of the client library takes part.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.agents import AgentServer
from hsframework.dispatcher.keys.trusts import TrustFiles
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.listeners import open_listeners
from hsframework.dispatcher.policy import Policy
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.sources.consumers import LocalSource
from hsframework.local.channel import LOCAL_MESSAGE_TYPE, AsyncChannel
from hsframework.netlink.messages import NLM_F_ACK, Message, MessageCodec
from hsframework.netlink.spec import builtin_specification
from hsframework.testing.network import tcp_pair

WAIT = 20.0
codec = MessageCodec(builtin_specification("local"), message_type=LOCAL_MESSAGE_TYPE, receives=("reply", "event"))


@dataclass
class House:
    """A running dispatcher and the folder of its sockets."""

    folder: Path
    dispatcher: Dispatcher
    agents: AgentServer
    local: LocalSource
    peers: list[Peer] = field(default_factory=list)

    async def agent(self, *groups: str, **values: Any) -> Peer:
        """Connect an agent that has joined ``groups``.  ``values``: of JOIN, beside or instead of ``ABLE``."""
        peer = self._connect("agent.sock")
        join = {"group": list(groups), "protocol": "toy", "agent": "by hand", **ABLE}
        answer = await peer.ask("join", {**join, **values})
        assert answer.error == 0, answer
        return peer

    async def stranger(self) -> Peer:
        """Connect to the agents' socket without joining anything."""
        return self._connect("agent.sock")

    async def consumer(self) -> Peer:
        """Connect a consumer."""
        return self._connect("consumer.sock")

    async def queued(self, number: int, group: str = "toy") -> None:
        """Wait until so many requests wait in the group."""
        async with asyncio.timeout(WAIT):
            while len(self.dispatcher.groups[group]) != number:
                await asyncio.sleep(0)

    def _connect(self, name: str) -> Peer:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.connect(str(self.folder / name))
        peer = Peer(sock)
        self.peers.append(peer)
        return peer


class Peer:
    """One connection to the dispatcher, agent or consumer."""

    def __init__(self, sock: socket.socket) -> None:
        self.inbox: asyncio.Queue[tuple[Message, int | None] | None] = asyncio.Queue()
        self.channel = AsyncChannel(sock, self._packet, lambda _: self.inbox.put_nowait(None))
        self._sequence = 0

    def _packet(self, data: bytes, fd: int | None) -> None:
        self.inbox.put_nowait((codec.decode(data), fd))

    def send(self, operation: str, values: Mapping[str, Any], fd: int | None = None, *, flags: int = 0) -> int:
        """Send one message; its sequence number is returned."""
        self._sequence += 1
        self.channel.send(codec.encode(operation, values, sequence=self._sequence, flags=flags), fd)
        return self._sequence

    def send_bytes(self, data: bytes, fd: int | None = None) -> None:
        """Send what no codec would."""
        self.channel.send(data, fd)

    async def receive(self) -> tuple[Message, int | None]:
        """Return the next message and its fd.  Raises AssertionError when the dispatcher has closed the connection."""
        item = await asyncio.wait_for(self.inbox.get(), WAIT)
        assert item is not None, "the dispatcher closed the connection"
        return item

    async def closed(self) -> None:
        """Wait until the dispatcher has closed the connection; what it sent before is dropped."""
        while await asyncio.wait_for(self.inbox.get(), WAIT) is not None:
            pass

    async def ask(self, operation: str, values: Mapping[str, Any], fd: int | None = None) -> Message:
        """Send with NLM_F_ACK; the answer is returned, and what came before it is passed over."""
        sequence = self.send(operation, values, fd, flags=NLM_F_ACK)
        while True:
            message, _ = await self.receive()
            if message.sequence == sequence:
                return message

    async def take(self, group: str = "toy") -> tuple[Message, int]:
        """Pull one request: ACCEPT, and after EAGAIN again on READY.  The fd is the caller's."""
        self.send("accept", {"group": group})
        empty = False
        while True:
            message, fd = await self.receive()
            if message.operation == "accept":
                assert fd is not None
                return message, fd
            if message.error is not None:
                assert message.error == errno.EAGAIN, message
                empty = True
            elif message.operation == "ready" and empty:
                empty = False
                self.send("accept", {"group": group})

    async def take_message(self, group: str = "toy") -> Message:
        """Take a request and return its message, for a test that has no use for the socket."""
        message, fd = await self.take(group)
        os.close(fd)
        return message

    async def expect(self, operation: str) -> Message:
        """Return the next message of this operation; READY and EAGAIN in between are passed over."""
        while True:
            message, fd = await self.receive()
            if message.operation == operation:
                return message
            assert fd is None
            assert message.operation in ("ready", "error"), message

    def close(self) -> None:
        """Go away without a word."""
        self.channel.close()


@contextlib.asynccontextmanager
async def house(
    configuration: Configuration | None = None, *, expected_groups: Iterable[str] = ()
) -> AsyncIterator[House]:
    """Run a dispatcher for the length of the block; afterwards it must hold no fd and no request."""
    with tempfile.TemporaryDirectory() as folder:
        configuration = configuration or Configuration()
        loop = asyncio.get_running_loop()
        listeners = open_listeners(Path(folder) / "run")
        dispatcher = Dispatcher(configuration, expected_groups=expected_groups)
        policy, trusts = Policy(configuration), TrustFiles()
        agents = AgentServer(dispatcher, policy, trusts, listeners["agent"], configuration.limits, loop=loop)
        local = LocalSource(dispatcher, policy, Vault(configuration), listeners["consumer"], configuration, loop=loop)
        running = House(Path(folder) / "run", dispatcher, agents, local)
        try:
            yield running
        finally:
            for peer in running.peers:
                peer.close()
            dispatcher.stop()
            local.close()
            agents.close()
            trusts.close()
            dispatcher.close()
        assert not dispatcher.requests


@contextlib.contextmanager
def connected_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Make two ends of a TCP connection over loopback."""
    one, two = tcp_pair()
    with one, two:
        yield one, two


async def serves(home: House) -> None:
    """Check that a request still goes through from end to end."""
    with connected_pair() as (ours, _):
        agent, consumer = await home.agent("well"), await home.consumer()
        consumer.send("submit", {**REQUEST, "group": "well"}, ours.fileno())
        request, fd = await agent.take("well")
        os.close(fd)
        agent.send("done", {"request-id": request.values["request-id"], "status": 0, "session": b"s"})
        assert (await consumer.expect("result")).values["status"] == 0
        agent.close()


def open_fds() -> int:
    """Count the open fds of this process."""
    return len(os.listdir("/proc/self/fd"))


ABLE = {"auth-mode": [0, 1, 2, 3], "understands": ["alpn", "client-certificate", "peer-name", "trust"]}
"""Part of JOIN with which an agent gets all requests but those with a TLS policy."""

REQUEST = {"group": "toy", "message-type": 1, "auth-mode": 1}
"""The least that a submit holds."""
