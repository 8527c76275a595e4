"""Requests of a dispatcher that is gone: their sockets are kept until a new one has taken them back.

Closing such a socket would not complete its request, and the consumer would wait for its own timer.  A socket that no
dispatcher has taken after :data:`KEEP` seconds is shut down, so that at least the peer sees the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from hsframework.agent.endpoint import DatagramEndpoint, StreamEndpoint

KEEP = 30.0
"""Seconds."""

_MESSAGE_HEADER = 20
"""Bytes before the attributes of a message."""

_log = structlog.get_logger("hsframework.agent")


@dataclass(frozen=True, slots=True, eq=False)
class Restorable:
    """A request that can be given back to another dispatcher.  ``values``: the attributes of its RESTORE."""

    endpoint: StreamEndpoint | DatagramEndpoint
    values: dict[str, Any]

    @classmethod
    def of(
        cls, endpoint: StreamEndpoint | DatagramEndpoint, given_back: Mapping[str, Any], done: bytes | None = None
    ) -> Restorable:
        """Return the request of an endpoint, which leaves the event loop and stays open.

        ``given_back``: the attributes by which another dispatcher knows it.  ``done``: its DONE; None: the handshake
        was interrupted.
        """
        endpoint.leave()
        return cls(endpoint, {**given_back, "outcome": None if done is None else done[_MESSAGE_HEADER:]})

    def fileno(self) -> int:
        """Return the socket to give back."""
        return self.endpoint.socket.fileno()


class StrandedRequests:
    """The stranded requests of one link, in their order."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: dict[Restorable, asyncio.TimerHandle] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._items)

    def items(self) -> list[Restorable]:
        """Return all that are kept now."""
        return list(self._items)

    async def drained(self) -> None:
        """Wait until none is kept."""
        await self._empty.wait()

    def keep(self, item: Restorable) -> None:
        """Keep a request whose dispatcher is gone."""
        self._empty.clear()
        self._items[item] = self._loop.call_later(KEEP, self._give_up, item)

    def taken(self, item: Restorable) -> None:
        """Close a socket of which the dispatcher has a copy."""
        if self._forget(item):
            item.endpoint.close(last=True)

    def refused(self, item: Restorable) -> None:
        """End a connection whose request will not be completed."""
        if self._forget(item):
            with contextlib.suppress(OSError):
                item.endpoint.socket.shutdown(socket.SHUT_RDWR)
            item.endpoint.close(last=True)

    def close(self) -> None:
        """End all connections."""
        for item in self.items():
            self.refused(item)

    def _forget(self, item: Restorable) -> bool:
        timer = self._items.pop(item, None)
        if timer is not None:
            timer.cancel()
        if not self._items:
            self._empty.set()
        return timer is not None

    def _give_up(self, item: Restorable) -> None:
        _log.error("no dispatcher took a request back; its connection is ended", request=item.values["request-id"])
        self.refused(item)
