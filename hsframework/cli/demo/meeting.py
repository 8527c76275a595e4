"""A peer program and our socket to it: the parts of a scenario that differ between protocols before the handshake."""

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
"""Seconds for a peer to connect, and for the data of one session."""


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
        """Return the next ``size`` bytes that the program received from us.  Raises DemoError if it ends before."""
        assert self.process.stdout is not None
        try:
            return await self.process.stdout.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise DemoError(f"{self.program} ended after {len(error.partial)} of {size} bytes: {self.said()}") from None

    async def send(self, data: bytes) -> None:
        """Make the program send ``data`` to us."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        await self.process.stdin.drain()

    async def end(self) -> None:
        """Terminate the program, unless it has ended, and wait for it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        # Reads the rest of the output and closes the pipes.
        await self.process.communicate()

    def said(self) -> str:
        """Return the last line of the program's messages on stderr."""
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


async def start_program(program: str, words: Sequence[str], errors: Path) -> Peer:
    """Run ``words`` as a child process; ``program``: its name in messages."""
    with errors.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log
        )
    return Peer(process, program, errors)


@dataclass(frozen=True, slots=True)
class Meeting:
    """A socket of ours, the peer at its other end, and the call that runs the handshake on it."""

    socket: socket.socket
    peer: Peer
    handshake: Callable[[AsyncClient, HandshakeOptions], Awaitable[AsyncSession]]


class Peers(TypingProtocol):
    """The peer programs for one protocol."""

    name: str
    """Project or package of the programs."""
    protocol: str
    """Protocol of the handshakes with them."""
    transport: str
    handshake: str
    """Labels of transport and handshake in the picture."""

    def program(self, role: Role) -> str:
        """Return the name of the program at the other end; ``role``: ours."""
        ...

    async def meet(self, role: Role, words: Sequence[str], folder: Path, stack: AsyncExitStack) -> Meeting:
        """Start a program and connect to it, or let it connect to us.  Raises DemoError."""
        ...
