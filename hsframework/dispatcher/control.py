"""The dispatcher's end of its control socket.

The messages are those of :mod:`hsframework.local.control`.  When the supervisor is gone, the dispatcher stops.
"""

from __future__ import annotations

import asyncio
import os
import socket

import structlog

from hsframework.dispatcher.policy import Policy
from hsframework.errors import MessageError
from hsframework.local.channel import AsyncChannel
from hsframework.local.control import (
    DISPATCHER_TO_SUPERVISOR,
    SUPERVISOR_TO_DISPATCHER,
    FromDispatcher,
    Known,
    Ready,
)

_log = structlog.get_logger("hsframework.dispatcher")


class ControlChannel:
    """The dispatcher's end of the control messages with the supervisor.  Making it sends Ready."""

    def __init__(
        self, sock: socket.socket, policy: Policy, stop: asyncio.Event, *, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._policy = policy
        self._channel = AsyncChannel(sock, self._packet, lambda _: stop.set(), loop=loop)
        self.send(Ready())

    def send(self, message: FromDispatcher) -> None:
        """Send a message to the supervisor."""
        self._channel.send(DISPATCHER_TO_SUPERVISOR.encode(message))

    def close(self) -> None:
        """Close the socket."""
        self._channel.close()

    def _packet(self, data: bytes, fd: int | None) -> None:
        if fd is not None:
            os.close(fd)
        try:
            agent = SUPERVISOR_TO_DISPATCHER.decode(data)
        except MessageError as error:
            _log.error("a message of the supervisor is not understood", reason=str(error))
            return
        if agent.uid is not None:
            self._policy.allow_join(agent.name, agent.uid, agent.groups)
        self.send(Known(agent.name))
