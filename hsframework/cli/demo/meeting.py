"""A peer program and our socket to it: what differs from protocol to protocol before the handshake."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol as TypingProtocol

from hsframework.cli.demo.processes import DemoError
from hsframework.client import AsyncClient, AsyncSession, HandshakeOptions
from hsframework.interface import Role

PATIENCE = 20.0
"""Seconds for a peer to come, and for the data of one session."""


class Peer:
    """A running program, with pipes for its data and a file for its messages."""

    def __init__(self, process: asyncio.subprocess.Process, program: str, errors: Path) -> None:
        self.process = process
        self.program = program
        self._errors = errors

    @property
    def pid(self) -> int:
        return self.process.pid

    async def receive(self, size: int) -> bytes:
        """So many bytes of what it got over the connection.  Raises DemoError if it ended before."""
        assert self.process.stdout is not None
        try:
            return await self.process.stdout.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise DemoError(f"{self.program} ended after {len(error.partial)} of {size} bytes: {self.said()}") from None

    async def send(self, data: bytes) -> None:
        """Let it send ``data`` over the connection."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        await self.process.stdin.drain()

    async def end(self) -> None:
        """End it, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        # Reads what is left and closes the pipes.
        await self.process.communicate()

    def said(self) -> str:
        """The last line of its own messages."""
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


async def start_program(program: str, words: Sequence[str], errors: Path) -> Peer:
    """``words`` as a child; ``program`` is what it is called in messages."""
    with errors.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log
        )
    return Peer(process, program, errors)


@dataclass(frozen=True, slots=True)
class Meeting:
    """Our socket, who is at its other end, and how the handshake is asked for."""

    socket: socket.socket
    peer: Peer
    handshake: Callable[[AsyncClient, HandshakeOptions], Awaitable[AsyncSession]]


class Peers(TypingProtocol):
    """Programs that are not ours, for one protocol."""

    name: str
    """Whose they are."""
    protocol: str
    """The plugin that serves the handshakes with them."""
    connection: str
    handshake: str
    """What the picture calls the connection, and the handshake."""

    def program(self, role: Role) -> str:
        """What runs at the other end when this is our role."""
        ...

    async def meet(self, role: Role, words: Sequence[str], folder: Path, stack: AsyncExitStack) -> Meeting:
        """Start one and connect.  Raises DemoError."""
        ...
