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
from hsframework.dispatcher.renewal import Renewal
from hsframework.errors import MessageError
from hsframework.local.channel import AsyncChannel
from hsframework.local.control import (
    DISPATCHER_TO_SUPERVISOR,
    SUPERVISOR_TO_DISPATCHER,
    CellCounted,
    FromDispatcher,
    Introduction,
    Known,
    NewTerms,
    NotTaken,
    Ready,
    ReloadWanted,
)

_log = structlog.get_logger("hsframework.dispatcher")


class ControlChannel:
    """The dispatcher's end of the control messages with the supervisor.  Making it sends Ready.

    ``doors``: by name of the local socket, the one that serves its connections.  ``count``: takes what is counted in
    cells.  ``renewal``: takes what is to be in force.
    """

    def __init__(
        self,
        sock: socket.socket,
        policy: Policy,
        doors: Mapping[str, Listener],
        count: Callable[[CellCounted], object],
        stop: asyncio.Event,
        renewal: Renewal | None = None,
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._policy = policy
        self._doors = doors
        self._count = count
        self._renewal = renewal
        self._channel = AsyncChannel(sock, self._packet, lambda _: stop.set(), loop=loop)
        self.send(Ready())
        if renewal is not None:
            renewal.connect(lambda number: self.send(ReloadWanted(number)))

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
                sock, fd = socket.socket(fileno=fd), None
                self._doors[message.listener].adopt(sock, peer_credentials(sock))
                return
            if isinstance(message, CellCounted):
                self._count(message)
                return
            if isinstance(message, NewTerms | NotTaken):
                handed, fd = fd, None
                self._hand_on(message, handed)
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

    def _hand_on(self, message: NewTerms | NotTaken, fd: int | None) -> None:
        if self._renewal is None:
            if fd is not None:
                os.close(fd)
        elif isinstance(message, NewTerms):
            self._renewal.receive(message.part, message.order, fd)
        else:
            self._renewal.refused(message.message, message.order)
