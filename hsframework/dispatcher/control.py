"""The dispatcher's end of its control socket.

The messages are those of :mod:`hsframework.local.control`.  When the supervisor is gone, the dispatcher stops.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping

import structlog

from hsframework.dispatcher.connections import Listener
from hsframework.dispatcher.policy import Policy, peer_credentials
from hsframework.errors import MessageError
from hsframework.local.channel import AsyncChannel
from hsframework.local.control import (
    DISPATCHER_TO_SUPERVISOR,
    SUPERVISOR_TO_DISPATCHER,
    CellCounted,
    FromDispatcher,
    Introduction,
    Known,
    Ready,
)

_log = structlog.get_logger("hsframework.dispatcher")


class ControlChannel:
    """The dispatcher's end of the control messages with the supervisor.  Making it sends Ready.

    ``doors``: by name of the local socket, the one that serves its connections.  ``count``: takes what is counted in
    cells.
    """

    def __init__(
        self,
        sock: socket.socket,
        policy: Policy,
        doors: Mapping[str, Listener],
        count: Callable[[CellCounted], object],
        stop: asyncio.Event,
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._policy = policy
        self._doors = doors
        self._count = count
        self._channel = AsyncChannel(sock, self._packet, lambda _: stop.set(), loop=loop)
        self.send(Ready())

    def send(self, message: FromDispatcher) -> None:
        """Send a message to the supervisor."""
        self._channel.send(DISPATCHER_TO_SUPERVISOR.encode(message))

    def close(self) -> None:
        """Close the socket."""
        self._channel.close()

    def _packet(self, data: bytes, fd: int | None) -> None:
        try:
            message = SUPERVISOR_TO_DISPATCHER.decode(data)
            if isinstance(message, Introduction):
                if fd is None or message.listener not in self._doors:
                    raise MessageError("introduction: without a connection, or to no local socket")
                handed, fd = fd, None
                sock = socket.socket(fileno=handed)
                self._doors[message.listener].adopt(sock, peer_credentials(sock))
                return
            if isinstance(message, CellCounted):
                self._count(message)
                return
        except MessageError as error:
            _log.error("a message of the supervisor is not understood", reason=str(error))
            return
        finally:
            if fd is not None:
                os.close(fd)
        if message.uid is not None:
            self._policy.allow_join(message.name, message.uid, message.groups)
        self.send(Known(message.name))
