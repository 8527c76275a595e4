"""Requests of a dispatcher that is gone: their sockets are kept until a new one has taken them back.

Closing such a socket would complete nothing, and the consumer would wait for its own timer.  What nobody wants after
:data:`KEEP` seconds is shut down, so that at least the peer knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from hsframework.agent.endpoint import DatagramEndpoint, StreamEndpoint
    from hsframework.agent.handshake import Handshake

KEEP = 30.0
_log = structlog.get_logger("hsframework.agent")


@dataclass(frozen=True, slots=True, eq=False)
class Stranded:
    """One request.  ``values``: what RESTORE says of it."""

    endpoint: StreamEndpoint | DatagramEndpoint
    values: dict[str, Any]

    def fileno(self) -> int:
        """The socket to give back."""
        return self.endpoint.socket.fileno()


class StrandedRequests:
    """Those of one link, in the order of their coming."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: dict[Stranded, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._items)

    def items(self) -> list[Stranded]:
        """All that are here now."""
        return list(self._items)

    def keep(self, handshake: Handshake) -> None:
        """Keep the socket of a handshake that has ended."""
        handshake.endpoint.leave()
        request = handshake.request
        values = {
            "request-id": request.id,
            "group": request.group,
            "source": handshake.source,
            "kernel-consumer": request.kernel_consumer,
        }
        item = Stranded(handshake.endpoint, values)
        self._items[item] = self._loop.call_later(KEEP, self._give_up, item)

    def taken(self, item: Stranded) -> None:
        """A dispatcher has its copy: ours is closed."""
        if self._forget(item):
            item.endpoint.close(last=True)

    def refused(self, item: Stranded) -> None:
        """Nobody will complete it: the connection is ended."""
        if self._forget(item):
            with contextlib.suppress(OSError):
                item.endpoint.socket.shutdown(socket.SHUT_RDWR)
            item.endpoint.close(last=True)

    def close(self) -> None:
        """Let go of everything."""
        for item in self.items():
            self.refused(item)

    def _forget(self, item: Stranded) -> bool:
        timer = self._items.pop(item, None)
        if timer is not None:
            timer.cancel()
        return timer is not None

    def _give_up(self, item: Stranded) -> None:
        _log.error("no dispatcher took a request back; its connection is ended", request=item.values["request-id"])
        self.refused(item)
