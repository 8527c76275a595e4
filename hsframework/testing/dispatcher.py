"""Dispatcher in memory: a plugin's handshakes without root, without a kernel, without a service.

The code between the plugin and the test is the service's own: the plugin registry, :func:`prepare`, the agent's host,
link and endpoints, the messages between agent and dispatcher, and the session as a consumer gets it.  Only the
dispatcher and the consumer are the test's::

    async def scene():
        async with serving("noise", settings={"pattern": "XX"}) as service:
            with BadNetwork.streams(Conditions(chunk=3)) as network:
                client, server = await asyncio.gather(
                    service.handshake(network.left, HandshakeOptions(group="noise")),
                    service.handshake(network.right, HandshakeOptions(group="noise", role=Role.SERVER)),
                )
        assert client.ok and server.ok

    run(scene())        # hsframework.testing.virtual_time
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from hsframework.agent.host import AgentHost
from hsframework.agent.served import Served, prepare
from hsframework.client.request import HandshakeOptions
from hsframework.client.session import AsyncSession
from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.messages import accept_reply, codec, parameters, psk_values
from hsframework.errors import PluginError, describe_errno
from hsframework.interface import AuthMode, Handshaker, Role, Trust
from hsframework.local.channel import AsyncChannel
from hsframework.local.trustfile import create_trust_file
from hsframework.netlink.messages import NLM_F_ACK, Message, encode_error
from hsframework.registry.plugins import PluginRegistry, load_plugins

DEFAULT_TIMEOUT = 20.0
"""Seconds of a request that names none."""

_no_profiles = Vault(Configuration())


def registry_of(plugin: str | object, beside: Mapping[str, object] | None = None) -> PluginRegistry:
    """Return a registry with one plugin: an installed one by its entry point's name, or a module or object with hooks.

    ``beside``: further modules or objects, by the names that they get.  Raises PluginError, with the registry's reason,
    if it refuses one of them.
    """
    if isinstance(plugin, str):
        registry = load_plugins(only=(plugin,))
        if not registry.records:
            raise PluginError(f"no plugin {plugin!r} is installed here: pip install --editable . in its folder first")
    else:
        registry = PluginRegistry()
        registry.register(plugin, "plugin")
    for name, further in (beside or {}).items():
        registry.register(further, name)
    for record in registry.errors:
        raise PluginError(f"the plugin {record.name!r} cannot be used: {record.error}")
    return registry


@dataclass(frozen=True)
class Outcome:
    """Outcome of a request.  ``values``: of the DONE message, by attribute set ``outcome`` of the local family."""

    options: HandshakeOptions
    status: int
    values: Mapping[str, Any] = field(repr=False)
    at: float
    """The time of DONE, on the loop's clock."""
    registry: PluginRegistry = field(repr=False)

    @property
    def ok(self) -> bool:
        return self.status == 0

    @property
    def message(self) -> str:
        """Return the reason of a failure, for people; empty after a success."""
        return str(self.values.get("message", ""))

    def session(self, sock: socket.socket) -> AsyncSession:
        """Return the session as the consumer gets it that has handed over ``sock``."""
        return AsyncSession(sock, self.options.role, self.values, self.registry)

    def __str__(self) -> str:
        return "success" if self.ok else f"{describe_errno(self.status)}: {self.message}"


class Submission:
    """Request under way.  ``outcomes``: every DONE that came for it; more than one breaks a rule."""

    def __init__(
        self,
        dispatcher: InMemoryDispatcher,
        number: int,
        sock: socket.socket,
        options: HandshakeOptions,
        attributes: bytes = b"",
        kernel_consumer: bool = False,
    ) -> None:
        self.number = number
        self.options = options
        values = options.submit_values(attributes)
        self.given = _no_profiles.resolve(None, values)
        self.parameters = parameters(
            values,
            self.given,
            options.role,
            dispatcher.auth_mode(options),
            source="kernel" if kernel_consumer else "local",
            kernel_consumer=kernel_consumer,
        )
        self.outcomes: list[Outcome] = []
        self.cancelled = False
        self._dispatcher = dispatcher
        self._socket = sock
        self._blocking_timeout = sock.gettimeout()
        self.fd = os.dup(sock.fileno())
        """The dispatcher's copy."""
        self._done = asyncio.Event()

    async def outcome(self) -> Outcome:
        """Wait for the outcome, and return it."""
        await self._done.wait()
        return self.outcomes[0]

    def cancel(self) -> None:
        """Withdraw the request, as a consumer does.  No outcome comes then; :meth:`InMemoryDispatcher.idle` waits."""
        self.cancelled = True
        self._dispatcher.withdraw(self)

    def end(self, outcome: Outcome | None) -> None:
        if outcome is not None:
            self.outcomes.append(outcome)
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            # O_NONBLOCK is shared with the agent's copy; the dispatcher puts back what the owner had.
            if self._socket.fileno() >= 0:
                self._socket.settimeout(self._blocking_timeout)
        if outcome is not None:
            self._done.set()


class AgentConnection:
    """Link of an agent, the dispatcher's end."""

    def __init__(self, channel: AsyncChannel) -> None:
        self.channel = channel

    def send(
        self, operation: str, values: Mapping[str, Any], fd: int | None = None, *, sequence: int = 0, flags: int = 0
    ) -> None:
        """Send one message."""
        self.channel.send(codec.encode(operation, values, sequence=sequence, flags=flags), fd)

    def refuse(self, message: Message, number: int, text: str = "") -> None:
        """Answer a message with an errno; 0 acknowledges it."""
        self.channel.send(encode_error(number, message.sequence, text))

    def trust(self, number: int, trust: Trust) -> None:
        """Send a trust file."""
        fd, size = create_trust_file(trust)
        try:
            self.send("trust", {"trust-id": number, "size": size}, fd)
        finally:
            os.close(fd)


class InMemoryDispatcher:
    """Dispatcher for tests, made by :func:`serving`.  ``served``: the agent's protocols; ``host``: the agent."""

    def __init__(self, served: Sequence[Served], registry: PluginRegistry, path: Path) -> None:
        self.registry = registry
        self.served = tuple(served)
        self.host = AgentHost(self.served, registry, path, name="testing")
        self._numbers = count(1)
        self._queues: dict[str, deque[Submission]] = {}
        self._members: dict[str, AgentConnection] = {}
        self._pending: dict[int, Submission] = {}
        self._trusts: dict[bytes, int] = {}
        self._connections: list[AgentConnection] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener, self._connected)

    def submit(self, sock: socket.socket, options: HandshakeOptions, *, kernel_consumer: bool = False) -> Submission:
        """Hand a socket over, as a consumer does.  It stays the caller's.

        ``kernel_consumer``: True for a consumer in the kernel, whose session has to be in the socket.  Raises
        ValueError for unfit options.
        """
        if not any(options.group in served.protocol.groups for served in self.served):
            groups = ", ".join(group for served in self.served for group in served.protocol.groups)
            raise ValueError(f"nobody serves the group {options.group!r} here; the options name one of: {groups}")
        request = Submission(self, next(self._numbers), sock, options, self._attributes(options), kernel_consumer)
        self._queues.setdefault(options.group, deque()).append(request)
        member = self._members.get(options.group)
        if member is not None:
            member.send("ready", {"group": options.group})
        return request

    def auth_mode(self, options: HandshakeOptions) -> AuthMode:
        """Return the auth mode of a request: where the options have no keys, the protocol's own instead of X509."""
        mode = options.effective_auth_mode
        left_open = options.auth_mode is None and mode is AuthMode.X509 and not options.identities
        serving = [each.protocol for each in self.served if options.group in each.protocol.groups]
        has_it = any(mode in protocol.auth_modes for protocol in serving)
        return AuthMode.OWN if left_open and not has_it else mode

    async def handshake(self, sock: socket.socket, options: HandshakeOptions) -> Outcome:
        """Hand a socket over, wait for the outcome and return it."""
        return await self.submit(sock, options).outcome()

    async def idle(self) -> None:
        """Wait until the agent has no request in hand."""
        while self.host.in_hand or self._pending:
            await asyncio.sleep(0.001)
            for request in [item for item in self._pending.values() if item.cancelled]:
                if not self.host.in_hand:
                    self._forget(request, None)

    # Messages of the agent

    def _connected(self) -> None:
        sock, _ = self._listener.accept()
        connection = AgentConnection(AsyncChannel(sock, lambda data, fd: self._heard(connection, data, fd), _ignore))
        self._connections.append(connection)

    def _heard(self, connection: AgentConnection, data: bytes, fd: int | None) -> None:
        if fd is not None:
            os.close(fd)
        message = codec.decode(data)
        if message.operation == "join":
            self._members.update(dict.fromkeys(message.values["group"], connection))
            connection.refuse(message, 0)
            for group in message.values["group"]:
                if self._queues.get(group):
                    connection.send("ready", {"group": group})
        elif message.operation == "accept":
            self._accept(connection, message)
        elif message.operation == "psk-lookup":
            self._look_up(connection, message)
        elif message.operation == "done":
            self._done(message)
            if message.flags & NLM_F_ACK:
                connection.refuse(message, 0)
        elif message.operation == "leave":
            connection.refuse(message, 0)

    def _accept(self, connection: AgentConnection, message: Message) -> None:
        queue = self._queues.get(message.values["group"], deque())
        for _ in range(message.values.get("count", 1)):
            if not queue:
                connection.refuse(message, errno.EAGAIN)
                return
            request = queue.popleft()
            self._pending[request.number] = request
            trust, timeout = request.given.trust, request.options.timeout or DEFAULT_TIMEOUT
            reply = accept_reply(
                request.parameters,
                sequence=message.sequence,
                request_id=request.number,
                milliseconds=max(1, round(timeout * 1000)),
                trust_id=None if trust is None else self._trust_id(connection, trust),
            )
            connection.channel.send(reply, request.fd)

    def _attributes(self, options: HandshakeOptions) -> bytes:
        if isinstance(options.attributes, bytes):
            return options.attributes
        if not options.attributes:
            return b""
        for served in self.served:
            if options.group in served.protocol.groups and served.request_codec is not None:
                return served.request_codec.encode(options.attributes)
        raise ValueError("the options have attributes, and the protocol's specification has no attribute set request")

    def _trust_id(self, connection: AgentConnection, trust: Trust) -> int:
        number = self._trusts.get(trust.digest)
        if number is None:
            number = self._trusts[trust.digest] = len(self._trusts) + 1
            connection.trust(number, trust)
        return number

    def _look_up(self, connection: AgentConnection, message: Message) -> None:
        request = self._pending.get(message.values["request-id"])
        serves = request is not None and request.options.role is Role.SERVER
        key = request.given.find_psk(message.values["identity"]) if serves and request is not None else None
        values = {"request-id": message.values["request-id"], "psk": None if key is None else psk_values(key)}
        connection.send("psk-lookup", values, sequence=message.sequence)

    def _done(self, message: Message) -> None:
        request = self._pending.get(message.values.get("request-id", 0))
        if request is None:
            return
        now = asyncio.get_running_loop().time()
        outcome = Outcome(request.options, message.values["status"], message.values, now, self.registry)
        self._forget(request, outcome)

    def _forget(self, request: Submission, outcome: Outcome | None) -> None:
        self._pending.pop(request.number, None)
        request.end(outcome)

    def withdraw(self, request: Submission) -> None:
        member = self._members.get(request.options.group)
        if request.number in self._pending and member is not None:
            member.send("cancel", {"request-id": request.number, "reason": errno.ECANCELED})

    def close(self) -> None:
        """End every link."""
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for connection in self._connections:
            connection.channel.close()
        for request in [*self._pending.values(), *(item for queue in self._queues.values() for item in queue)]:
            request.end(None)


@contextlib.asynccontextmanager
async def serving(
    plugin: str | object,
    *,
    protocol: str | None = None,
    settings: Mapping[str, Any] | None = None,
    base: Path | None = None,
    beside: Mapping[str, object] | None = None,
    tables: Mapping[str, Mapping[str, Any]] | None = None,
    around: Callable[[Handshaker], Handshaker] = lambda handshaker: handshaker,
) -> AsyncIterator[InMemoryDispatcher]:
    """Run an agent that serves a plugin's protocols, or one of them, with its table of settings.

    ``plugin``, ``beside``: see :func:`registry_of`.  ``settings``: as in the table ``[plugins.NAME]``, keys with
    dashes; ``tables``: those for ``hsframework_configure``, by plugin; ``base``: the folder of relative paths.
    ``around``: returns the handshaker to run in place of each that was prepared.  Raises PluginError and
    ConfigurationError.
    """
    registry = registry_of(plugin, beside)
    registry.configure(tables or {}, base=base)
    names = tuple(registry.protocols) if protocol is None else (protocol,)
    prepared = [prepare(registry, name, settings, base=base) for name in names]
    served = tuple(replace(item, handshaker=around(item.handshaker)) for item in prepared)
    with tempfile.TemporaryDirectory(prefix="hs-") as folder:
        dispatcher = InMemoryDispatcher(served, registry, Path(folder) / "agent.sock")
        task = asyncio.ensure_future(dispatcher.host.run())
        try:
            yield dispatcher
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            dispatcher.close()
            for item in served:
                _close(item)


def _close(item: Served) -> None:
    try:
        item.handshaker.close()
    except Exception as error:
        raise PluginError(f"close() of {item.name}'s handshaker fails: {type(error).__name__}: {error}") from error


def _ignore(error: Exception | None) -> None:
    """Ignore the end of an agent's link, which comes with the end of a test."""
