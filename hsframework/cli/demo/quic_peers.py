"""The peers of the demonstration for QUIC: aioquic's own client and server, as child processes."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from hsframework.cli.demo.meeting import PATIENCE, Meeting, Peer, start_program
from hsframework.cli.demo.processes import DemoError
from hsframework.client import AsyncUdpListener, connect_udp
from hsframework.interface import Role

_POLL = 0.02
_PROGRAM = (sys.executable, "-P", "-m", "hsframework.cli.demo.aioquic_peer")
_LISTENING = "listening"


class AioquicPeers:
    """The aioquic client and server of :mod:`.aioquic_peer`.  Implements :class:`.meeting.Peers`."""

    name = "aioquic"
    protocol = "quic"
    transport = "UDP datagrams"
    handshake = "QUIC handshake"

    def program(self, role: Role) -> str:
        return "server" if role is Role.CLIENT else "client"

    async def meet(self, role: Role, words: Sequence[str], folder: Path, stack: AsyncExitStack) -> Meeting:
        if role is Role.CLIENT:
            port = free_port()
            peer = await self._start("server", port, words, folder, stack)
            await _until_it_listens(peer)
            sock = stack.enter_context(connect_udp("127.0.0.1", port))
            sock.setblocking(False)
            return Meeting(sock, peer, lambda client, options: client.handshake(sock, options))
        with AsyncUdpListener("127.0.0.1", 0, protocol=self.protocol) as listener:
            peer = await self._start("client", listener.address[1], words, folder, stack)
            async with asyncio.timeout(PATIENCE):
                newcomer = await listener.accept()
        stack.enter_context(newcomer.socket)
        return Meeting(newcomer.socket, peer, newcomer.handshake)

    async def _start(self, role: str, port: int, words: Sequence[str], folder: Path, stack: AsyncExitStack) -> Peer:
        command = [*_PROGRAM, role, "127.0.0.1", str(port), *words]
        peer = await start_program(f"aioquic's {role}", command, folder / f"aioquic-{role}-{port}.log")
        stack.push_async_callback(peer.end)
        return peer


async def _until_it_listens(peer: Peer) -> None:
    async with asyncio.timeout(PATIENCE):
        while peer.said() != _LISTENING:
            if peer.process.returncode is not None:
                raise DemoError(f"{peer.program} ended: {peer.said()}")
            await asyncio.sleep(_POLL)


def free_port() -> int:
    """Return a UDP port of the loopback interface that is not in use."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
