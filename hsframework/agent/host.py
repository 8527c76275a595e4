"""Host of the protocols of one process, on one event loop and within one limit of requests in hand.

:meth:`AgentHost.run` ends when :meth:`AgentHost.stop` was called and what was in hand is over, after :data:`STOP_TIME`
at the latest.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import structlog

from hsframework.agent.in_hand import Shared
from hsframework.agent.link import Link
from hsframework.agent.room import Room
from hsframework.agent.served import Served, by_request, check_no_overlap
from hsframework.failures import Failure
from hsframework.registry.plugins import PluginRegistry

STOP_TIME = 10.0

_log = structlog.get_logger("hsframework.agent")


class AgentHost:
    """The protocols of one process, each with a link of its own.

    ``on_joined`` is called when every protocol has joined its groups, and again after each reconnection;
    ``on_retired`` when this process is to be replaced: :meth:`stop` is to be called once the replacement has joined.
    Without it the host stops at once.  ``on_renewed``: called when it is to be replaced because what it remembers is no
    longer in force: it takes requests until :meth:`stop`, which is to be called likewise.  ``capacity``: requests in
    hand; None: as many as the limit of open files allows.  ``links``: links to a cell, one for each protocol: it serves
    until one of them ends.  None: it connects to the dispatcher, and again when that has gone.  ``name``: for the
    dispatcher's log.  ``kernel_tls``: what this process can do with the kernel's TLS, for people.
    """

    def __init__(
        self,
        served: Sequence[Served],
        registry: PluginRegistry,
        agent_socket_path: Path | str,
        *,
        name: str | None = None,
        capacity: int | None = None,
        on_joined: Callable[[], None] = lambda: None,
        on_retired: Callable[[], None] | None = None,
        on_renewed: Callable[[], None] = lambda: None,
        kernel_tls: str | None = None,
        links: Sequence[socket.socket] | None = None,
    ) -> None:
        self._kernel_tls = kernel_tls
        self._given = None if links is None else deque(links)
        self.served = tuple(served)
        check_no_overlap(self.served)
        self._path = Path(agent_socket_path)
        self._name = name
        self.room = Room(capacity)
        self._shared = Shared(by_request(self.served), registry, self.room, self.retire, self.renew)
        self._on_joined = on_joined
        self._on_retired = on_retired
        self._on_renewed = on_renewed
        self._links: list[Link] = []
        self._joined: set[Link] = set()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._retiring = False

    @property
    def in_hand(self) -> int:
        """Return the number of requests that are being served."""
        return sum(len(link.in_hand) for link in self._links)

    def stop(self, *, at_leisure: bool = False) -> None:
        """Take no more requests, and end when those in hand are over.

        ``at_leisure``: however long they take; a later call may take that back.
        """
        self._stop.set()
        if not at_leisure:
            self._hurry.set()

    def renew(self) -> None:
        """Call ``on_renewed``, unless this process is to be replaced already."""
        if not self._stop.is_set() and not self._retiring:
            self._retiring = True
            self._on_renewed()

    def retire(self, reason: str) -> None:
        """Take no more requests, and call ``on_retired``, since this process is to be replaced.

        It stays a member of its groups until :meth:`stop`, so that requests wait in them for the replacement.
        """
        if not self._stop.is_set() and not self._retiring:
            self._retiring = True
            plugin = ", ".join(dict.fromkeys(served.plugin for served in self.served))
            _log.error("an agent process is replaced", plugin=plugin, reason=reason, in_hand=self.in_hand)
            for link in self._links:
                link.pause()
            if self._on_retired is None:
                self.stop()
            else:
                self._on_retired()

    async def run(self) -> None:
        """Serve until stopped.  Raises RequestRefused when the dispatcher does not let the agent join."""
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[None]] = []
        for served in self.served:
            name = self._name or f"{served.name}-{os.getpid()}"
            given = None if self._given is None else self._given.popleft()
            link = Link(served, self._shared, self._path, name, loop, kernel_tls=self._kernel_tls, given=given)
            self._links.append(link)
            tasks.append(loop.create_task(link.run(partial(self._link_joined, link))))
        stop = loop.create_task(self._stop.wait())
        try:
            await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set():
                await self._finish()
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            stop.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(stop, *tasks, return_exceptions=True)
            self._links.clear()

    async def _finish(self) -> None:
        _log.info("the agent stops", in_hand=self.in_hand)
        await asyncio.gather(*(link.leave() for link in self._links))
        drained, hurry = asyncio.ensure_future(self._drained()), asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait((drained, hurry), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((drained,), timeout=STOP_TIME)
        hurry.cancel()
        if not drained.done():
            drained.cancel()
            for link in self._links:
                link.in_hand.stop(Failure.INTERNAL, "the agent stops")
            for link in self._links:
                await link.in_hand.ended()

    async def _drained(self) -> None:
        for link in self._links:
            await link.drained()

    def _link_joined(self, link: Link) -> None:
        self._joined.add(link)
        if len(self._joined) == len(self.served):
            self._on_joined()
