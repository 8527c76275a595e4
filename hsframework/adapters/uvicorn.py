"""uvicorn over sessions (``pip install hsframework[uvicorn]``).

::

    async with AsyncClient() as client:
        options = HandshakeOptions(role=Role.SERVER, profile="web")
        await Server(client, options, uvicorn.Config("app:app", port=8443)).serve()

Applications see the scheme ``https``.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import uvicorn

from hsframework.adapters.server import SessionServer
from hsframework.client import AsyncClient, HandshakeOptions

_STARTUP_FAILURE = 3  # uvicorn's


class Server(uvicorn.Server):
    """A uvicorn server whose connections are sessions.  For one process: ``workers`` is not looked at."""

    def __init__(self, client: AsyncClient, options: HandshakeOptions, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._client = client
        self._options = options

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve; called by ``serve``."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(_STARTUP_FAILURE)
        listeners = sockets or [self.config.bind_socket()]
        server: Any = SessionServer(
            self._client,
            self._protocol,
            listeners,
            self._options,
            backlog=self.config.backlog,
            on_failure=lambda error: None,
        )
        self.servers = [server]
        self.started = True

    def _protocol(self) -> asyncio.BaseProtocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.BaseProtocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol
