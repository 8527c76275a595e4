"""The worker: a process forked from the keeper, in which an :class:`~hsframework.agent.host.AgentHost` runs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Sequence
from typing import Any

from hsframework.agent.containment import exhaustion
from hsframework.agent.host import AgentHost
from hsframework.agent.warmup import ExitStatus, KeeperOptions, Warm
from hsframework.local.pulse import Pulse
from hsframework.process.confinement import confine_worker
from hsframework.process.forks import forbid_programs
from hsframework.process.giving_way import WINDOW
from hsframework.process.lock import lock_memory

JOINED, RETIRES, RENEWS, ALIVE = b"J", b"R", b"N", b"A"
"""Reports of a worker to its keeper."""

REPLACED = b"L"
"""The keeper's order to a worker that retires."""

GC_THRESHOLD = 20_000
"""Objects between two runs of the garbage collector: a handshake makes many short-lived ones, and leaves no cycles."""


class Worker:
    """Event loop of a worker.

    ``stop_numbers``: signals that stop it.  ``interval``: seconds between two reports that its loop turns.  ``links``:
    links to a cell, one for each protocol, with which it ends; None: it connects to the dispatcher.
    """

    def __init__(
        self,
        options: KeeperOptions,
        warm: Warm,
        stop_numbers: tuple[signal.Signals, ...],
        interval: float,
        links: Sequence[socket.socket] | None = None,
    ) -> None:
        self._options = options
        self._warm = warm
        self._stop_numbers = stop_numbers
        self._interval = interval if links is None else min(interval, WINDOW)
        self._links = links

    def run(self, report: socket.socket) -> int:
        """Serve until a signal or the keeper's order; ``report``: the socket to the keeper.

        Returns an :class:`~hsframework.agent.warmup.ExitStatus`; raises RequestRefused if the agent may not join.
        """
        forbid_programs()
        # Not asyncio.run: it would wait for plugins' tasks that swallow their cancellation.
        gc.set_threshold(GC_THRESHOLD)
        lock_memory(self._options.memory)
        confine_worker(own_user=self._options.user is not None)
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.run_until_complete(self._serve(report))
        for item in self._warm.served:
            with contextlib.suppress(Exception):
                item.handshaker.close()
        return int(ExitStatus.OK)

    async def _serve(self, report: socket.socket) -> None:
        def tell(message: bytes) -> None:
            with contextlib.suppress(OSError):
                report.send(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

        def unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            if reason := exhaustion(context.get("exception") or Exception()):
                host.retire(reason)
            loop.default_exception_handler(context)

        host = AgentHost(
            self._warm.served,
            self._warm.registry,
            self._options.agent_socket_path,
            on_joined=lambda: tell(JOINED),
            on_retired=lambda: tell(RETIRES),
            on_renewed=lambda: tell(RENEWS),
            kernel_tls=self._warm.kernel_tls,
            links=self._links,
        )

        def replaced() -> None:
            loop.remove_reader(report)
            report.recv(16)
            host.stop(at_leisure=True)

        loop = asyncio.get_running_loop()
        loop.set_exception_handler(unhandled)
        loop.add_reader(report, replaced)
        for number in self._stop_numbers:
            loop.add_signal_handler(number, host.stop)
        pulse = Pulse(loop, self._interval, lambda: tell(ALIVE))
        try:
            await host.run()
        finally:
            pulse.close()
