"""A worker, from its fork to its end: an :class:`~hsframework.agent.host.AgentHost` on an event loop.

It reports to its keeper over a socket pair: that it has joined, that it is to be replaced, that its loop turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from hsframework.agent.containment import exhaustion
from hsframework.agent.host import AgentHost
from hsframework.agent.warmup import ExitStatus, KeeperOptions, Warm
from hsframework.local.pulse import Pulse
from hsframework.process.forks import forbid_programs
from hsframework.process.isolation import forbid_reaching_others
from hsframework.process.lock import lock_memory

_log = structlog.get_logger("hsframework.agent")

GC_THRESHOLD = 20_000
"""Objects between two runs of the garbage collector: a handshake makes many short-lived ones, and leaves no cycles."""

JOINED, RETIRES, ALIVE = b"J", b"R", b"A"
"""Reports of a worker."""

REPLACED = b"L"
"""The order to a worker that retires."""


@dataclass(frozen=True, slots=True)
class Work:
    """Parts of a worker, from its keeper.

    ``report``: its end of the socket pair.  ``interval``: seconds between signs of life.
    ``links``: links to a cell, one for each protocol, with which it ends; None: it connects to the dispatcher.
    """

    options: KeeperOptions
    warm: Warm
    report: socket.socket
    stop_numbers: tuple[signal.Signals, ...]
    interval: float
    links: Sequence[socket.socket] | None = None


def work(given: Work) -> int:
    """Serve until stopped.  Returns the exit status; raises RequestRefused when the agent may not join."""
    forbid_programs()
    if (problem := forbid_reaching_others()) is not None:
        _log.info("nothing but its user keeps this worker from others of the agent", reason=problem)
    # Not asyncio.run: it would wait for plugins' tasks that swallow their cancellation.
    gc.set_threshold(GC_THRESHOLD)
    lock_memory(given.options.memory)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(_serve(given))
    for item in given.warm.served:
        with contextlib.suppress(Exception):
            item.handshaker.close()
    return int(ExitStatus.OK)


async def _serve(given: Work) -> None:
    report = given.report

    def tell(message: bytes) -> None:
        with contextlib.suppress(OSError):
            report.send(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if reason := exhaustion(context.get("exception") or Exception()):
            host.retire(reason)
        loop.default_exception_handler(context)

    host = AgentHost(
        given.warm.served,
        given.warm.registry,
        given.options.agent_socket_path,
        on_joined=lambda: tell(JOINED),
        on_retired=lambda: tell(RETIRES),
        kernel_tls=given.warm.kernel_tls,
        links=given.links,
    )

    def replaced() -> None:
        loop.remove_reader(report)
        report.recv(16)
        host.stop()

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(unhandled)
    loop.add_reader(report, replaced)
    for number in given.stop_numbers:
        loop.add_signal_handler(number, host.stop)
    pulse = Pulse(loop, given.interval, lambda: tell(ALIVE))
    try:
        await host.run()
    finally:
        pulse.close()
