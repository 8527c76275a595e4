"""The agent host: the protocols of one process on one event loop, within one limit of requests in hand.

:meth:`AgentHost.run` ends when :meth:`AgentHost.stop` was called and what was in hand is over, after :data:`STOP_TIME`
at the latest.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import structlog

from hsframework.agent.link import Link
from hsframework.agent.served import Served, check_no_overlap
from hsframework.errors import HandshakeError
from hsframework.failures import Failure
from hsframework.registry.plugins import PluginRegistry

STOP_TIME = 10.0
FD_RESERVE = 64
"""File descriptors that are left for everything but requests."""

LOOK_AGAIN = 0.005
"""Seconds."""

MAX_IN_HAND = 8192
_MOST_FDS = 1 << 30

_log = structlog.get_logger("hsframework.agent")


def default_capacity() -> int:
    """How many requests fit under the limit of open files."""
    return max(1, min(_fd_limit() - FD_RESERVE, MAX_IN_HAND))


def _fd_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_FDS if soft == resource.RLIM_INFINITY else soft


class AgentHost:
    """``on_joined`` is called when every protocol has joined its groups, and again after each reconnection;
    ``on_retired`` when this process is to be replaced."""

    def __init__(
        self,
        served: Sequence[Served],
        registry: PluginRegistry,
        agent_socket_path: Path | str,
        *,
        name: str | None = None,
        capacity: int | None = None,
        on_joined: Callable[[], None] = lambda: None,
        on_retired: Callable[[], None] = lambda: None,
    ) -> None:
        self.served = tuple(served)
        check_no_overlap(self.served)
        self.registry = registry
        self._path = Path(agent_socket_path)
        self._name = name
        self._free = capacity or default_capacity()
        self._starved = False
        self._on_joined = on_joined
        self._on_retired = on_retired
        self.highest_fd = _fd_limit() - FD_RESERVE // 4
        """A number that requests never come to: the kernel gives the lowest that is free."""
        self._look_again = 0.0
        self._links: list[Link] = []
        self._joined: set[Link] = set()
        self._stop = asyncio.Event()
        self._idle = asyncio.Event()

    @property
    def in_hand(self) -> int:
        """Requests that are being served."""
        return sum(len(link.in_hand) for link in self._links)

    def stop(self) -> None:
        """Take no more requests, and end when those in hand are over."""
        self._stop.set()

    def shortage(self) -> str:
        """What soon runs out, if anything: here are more file descriptors open than requests can need, so some leak.

        Looked at after a pause of :data:`LOOK_AGAIN` at the earliest, since it is asked after each request.
        """
        now = time.monotonic()
        if now < self._look_again:
            return ""
        self._look_again = now + LOOK_AGAIN
        try:
            os.fstat(self.highest_fd)
        except OSError:
            return ""
        return "file descriptors run out"

    def retire(self, reason: str) -> None:
        """This process is no good any more: it wants to be replaced, and ends as by :meth:`stop`."""
        if not self._stop.is_set():
            plugin = ", ".join(dict.fromkeys(served.plugin for served in self.served))
            _log.error("an agent process is replaced", plugin=plugin, reason=reason, in_hand=self.in_hand)
            self._on_retired()
            self.stop()

    async def run(self) -> None:
        """Serve.  Raises RequestRefused when the dispatcher does not let the agent join."""
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[None]] = []
        for served in self.served:
            link = Link(self, served, self._path, self._name or f"{served.name}-{os.getpid()}", loop)
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
        self._check_idle()
        try:
            await asyncio.wait_for(self._idle.wait(), STOP_TIME)
        except TimeoutError:
            for link in self._links:
                for handshake in list(link.in_hand.values()):
                    handshake.stop(Failure.INTERNAL, "the agent stops")
            await self._idle.wait()

    def _link_joined(self, link: Link) -> None:
        self._joined.add(link)
        if len(self._joined) == len(self.served):
            self._on_joined()

    # What links call

    def pick(self, group: str, socket_protocol: int, preferred: Served) -> Served:
        """The protocol for a request.  Raises HandshakeError (EPROTONOSUPPORT)."""
        for served in (preferred, *self.served):
            if served.serves(group, socket_protocol):
                return served
        raise HandshakeError(
            f"no protocol here serves the group {group!r} on sockets of protocol {socket_protocol}",
            errno=errno.EPROTONOSUPPORT,
        )

    def take_credits(self, wanted: int) -> int:
        """Reserve room for up to ``wanted`` requests; 0: there is none now."""
        number = min(wanted, max(self._free, 0))
        self._free -= number
        if not number:
            self._starved = True
        return number

    def occupy(self) -> None:
        """A request came that was not asked for; it takes room all the same."""
        self._free -= 1

    def give_credits_back(self, number: int) -> None:
        """Room was made: a request has ended, or did not come."""
        self._free += number
        if self._starved and self._free > 0:
            self._starved = False
            for link in self._links:
                link.pull()
        if self._stop.is_set():
            self._check_idle()

    def _check_idle(self) -> None:
        if not self.in_hand:
            self._idle.set()
