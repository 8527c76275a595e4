"""Server of the agents' socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping
from typing import Any

from hsframework.configuration.settings import Limits
from hsframework.dispatcher.agents.connection import AgentConnection, Service
from hsframework.dispatcher.agents.operations import TABLE
from hsframework.dispatcher.connections import Listener
from hsframework.dispatcher.keys.trusts import TrustFiles
from hsframework.dispatcher.policy import PeerCredentials, Policy
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.traces import Traces
from hsframework.interface import Trust


class AgentServer:
    """Listener on the agents' socket; makes an :class:`AgentConnection` for each process that connects."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        policy: Policy,
        trusts: TrustFiles,
        sock: socket.socket | None,
        limits: Limits,
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._service = Service(dispatcher, policy, trusts, TABLE, loop)
        self.listener = Listener(
            sock,
            self._connected,
            limits,
            check=policy.check_restore,
            privileged=policy.is_privileged,
            account=policy.account,
            close_fd=dispatcher.close_fd,
            loop=loop,
        )

    @property
    def refused(self) -> Iterable[Mapping[str, Any]]:
        """The last agents that were not allowed to join: ``time``, ``process``, ``user``, ``reason``."""
        return self._service.refused

    @property
    def dispatcher(self) -> Dispatcher:
        """The dispatcher whose requests the agents are given."""
        return self._service.dispatcher

    @property
    def traces(self) -> Traces:
        """The traces of handshakes that are under way."""
        return self._service.traces

    def renew(self, trusts: Iterable[Trust]) -> None:
        """Have all agents drop what they remember, but for these trusts; their requests in hand go on."""
        self._service.trusts.keep(trust.digest for trust in trusts)
        for connection in self.listener.connections:
            assert isinstance(connection, AgentConnection)
            connection.renew()

    def close(self) -> None:
        """Stop serving agents."""
        self._service.traces.close()
        self.listener.close()

    def _connected(self, sock: socket.socket, peer: PeerCredentials) -> AgentConnection:
        return AgentConnection(sock, peer, self._service, self.listener.closed)
