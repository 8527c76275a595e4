"""Control channel between supervisor and dispatcher: JSON messages on a SOCK_SEQPACKET socket pair.

::

    supervisor → dispatcher   {"event": "agent", "name": …, "uid": number or null, "groups": […]}   an agent was started
    dispatcher → supervisor   {"event": "ready"}                 both sockets are served
                              {"event": "known", "name": …}      that agent may join its groups

When the supervisor is gone, the dispatcher stops.
"""

from __future__ import annotations

import asyncio
import json
import socket

from hsframework.dispatcher.policy import Policy
from hsframework.local.channel import AsyncChannel


class ControlChannel:
    """Control channel, the dispatcher's end."""

    def __init__(
        self, sock: socket.socket, policy: Policy, stop: asyncio.Event, *, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._policy = policy
        self._channel = AsyncChannel(sock, self._packet, lambda _: stop.set(), loop=loop)
        self._say({"event": "ready"})

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _packet(self, data: bytes, fd: int | None) -> None:
        event = json.loads(data)
        if event["uid"] is not None:
            self._policy.allow_join(event["uid"], event["groups"])
        self._say({"event": "known", "name": event["name"]})

    def _say(self, event: dict[str, str]) -> None:
        self._channel.send(json.dumps(event).encode())
