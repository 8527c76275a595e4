"""The peers of the demonstration for PSP: ``hsframework connect`` and ``listen``; no other program has the protocol."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from hsframework.cli.demo.meeting import Meeting, Peer, start_program
from hsframework.cli.demo.peers import meet_over_tcp
from hsframework.interface import Role


class PspPeers:
    """Consumers of the service at ``runtime``, as processes of their own.  Implements :class:`.meeting.Peers`."""

    name = "hsframework"
    protocol = "psp"
    transport = "TCP connection"
    handshake = "PSP key exchange"

    def __init__(self, runtime: Path) -> None:
        self._runtime = runtime

    def program(self, role: Role) -> str:
        return "listen" if role is Role.CLIENT else "connect"

    async def meet(self, role: Role, words: Sequence[str], folder: Path, stack: AsyncExitStack) -> Meeting:
        program = self.program(role)

        async def start(port: int) -> Peer:
            command = [
                sys.executable,
                "-P",
                "-m",
                "hsframework",
                program,
                "--runtime-dir",
                str(self._runtime),
                "--quiet",
            ]
            once = ["--once"] if role is Role.CLIENT else []
            command += ["--protocol", self.protocol, *once, *words, "127.0.0.1", str(port)]
            return await start_program(f"hsframework {program}", command, folder / f"{program}-{port}.log")

        return await meet_over_tcp(role, start, stack)
