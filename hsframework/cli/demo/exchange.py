"""The run of one scenario: connection, handshake through the service, data in both directions, close."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hsframework.cli.demo.meeting import PATIENCE, Meeting, Peer
from hsframework.cli.demo.processes import DemoError
from hsframework.cli.demo.scenarios import Scenario
from hsframework.client import AsyncClient, AsyncSession
from hsframework.errors import HandshakeError, HsframeworkError, RequestRefused, errno_name
from hsframework.interface import AsyncStream, Role

DATA = 1024 * 1024
"""Bytes sent in each direction over each session."""


@dataclass(slots=True)
class Outcome:
    """The outcome of a scenario.  ``problem`` is empty if it was the expected one."""

    scenario: Scenario
    peer_pid: int = 0
    connected_at: float = 0.0
    """Seconds on the monotonic clock."""
    handshake: float = 0.0
    """Seconds that the handshake took."""
    transfer: float = 0.0
    """Seconds that the data took."""
    data_ok: bool = False
    status: int = 0
    message: str = ""
    problem: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    alpn: str | None = None
    in_kernel: bool = False


async def run_scenario(scenario: Scenario, client: AsyncClient, folder: Path) -> Outcome:
    """Run a scenario and return its outcome.  An unexpected outcome raises nothing: see ``Outcome.problem``."""
    outcome = Outcome(scenario)
    try:
        async with AsyncExitStack() as stack:
            meeting = await scenario.peers.meet(scenario.options.role, scenario.peer_words, folder, stack)
            outcome.peer_pid = meeting.peer.pid
            await _converse(scenario, client, meeting, outcome)
    except (HsframeworkError, OSError) as error:
        outcome.problem = str(error)
    except TimeoutError:
        outcome.problem = f"not done within {PATIENCE:.0f} s"
    return outcome


async def _converse(scenario: Scenario, client: AsyncClient, meeting: Meeting, outcome: Outcome) -> None:
    outcome.connected_at = time.monotonic()
    try:
        session = await meeting.handshake(client, scenario.options)
    except (HandshakeError, RequestRefused) as error:
        outcome.handshake = time.monotonic() - outcome.connected_at
        outcome.status, outcome.message = error.errno, str(error)
        if error.errno != scenario.expect:
            wanted = errno_name(scenario.expect) if scenario.expect else "a session"
            said = meeting.peer.said()
            outcome.problem = f"{wanted} was expected; {errno_name(error.errno)}: {error}; the peer: {said}"
        return
    outcome.handshake = time.monotonic() - outcome.connected_at
    _note(session, outcome)
    if scenario.expect:
        outcome.problem = f"{errno_name(scenario.expect)} was expected, and there is a session"
        return
    begun = time.monotonic()
    stream = session.stream()
    async with asyncio.timeout(PATIENCE):
        await _both_ways(stream, meeting.peer, session.role)
        await stream.close()
    outcome.transfer = time.monotonic() - begun
    outcome.data_ok = True


def _note(session: AsyncSession, outcome: Outcome) -> None:
    outcome.tags = dict(session.tags)
    outcome.alpn = session.alpn
    outcome.in_kernel = session.in_kernel
    wanted = outcome.scenario.options.alpn
    if wanted and session.alpn not in wanted:
        outcome.problem = f"ALPN {wanted[0]} was offered, and {session.alpn} is what was agreed on"


async def _both_ways(stream: AsyncStream, peer: Peer, role: Role) -> None:
    """Send ``DATA`` bytes from the client to the server, then as many back, and compare their SHA-256."""
    directions = ("to the peer", "from the peer")
    for direction in directions if role is Role.CLIENT else reversed(directions):
        sent = os.urandom(DATA)
        if direction == "to the peer":
            received = await _across(peer.receive(DATA), stream.send(sent))
        else:
            received = await _across(_receive_exactly(stream, DATA), peer.send(sent))
        if hashlib.sha256(sent).digest() != hashlib.sha256(received).digest():
            raise DemoError(f"the data {direction} arrived changed")


async def _across(receiving: Coroutine[Any, Any, bytes], sending: Coroutine[Any, Any, None]) -> bytes:
    """Run both at once; if one fails, the other is cancelled."""
    tasks = asyncio.create_task(receiving), asyncio.create_task(sending)
    try:
        received, _ = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    return received


async def _receive_exactly(stream: AsyncStream, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        data = await stream.receive(size - len(parts))
        if not data:
            raise DemoError(f"the peer closed the session after {len(parts)} of {size} bytes")
        parts += data
    return bytes(parts)
