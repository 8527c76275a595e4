"""The asyncio client: any number of handshakes at once over one link to the dispatcher.

* One client belongs to one event loop.
* The socket stays the caller's.  Until the call returns, nobody else may read from it or write to it.
* A call that is cancelled withdraws its request; the dispatcher shuts the socket down if a handshake was under way.
* When the dispatcher closes the link, every pending call ends at once with ECONNRESET; the next call connects anew.
* In a process that was forked a client makes a link of its own, on the event loop of its next call.
* A session that is said to be in the kernel is looked for in the socket before the call returns.
"""

from __future__ import annotations

import asyncio
import copy
import errno
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from hsframework.client.forks import renewed_in_children
from hsframework.client.planted import check_planted
from hsframework.client.request import HandshakeOptions
from hsframework.client.session import AsyncSession
from hsframework.client.sockets import check_socket
from hsframework.client.submits import Submits
from hsframework.client.sync import CONNECT_TIMEOUT, GRACE, UNTIMED
from hsframework.client.trusts import TrustFiles, travels_alone
from hsframework.client.wire import (
    User,
    cannot_send,
    check_dispatcher,
    client_closed,
    codec,
    connect_error,
    dispatcher_path,
    encode_cancel,
    link_lost,
    no_connection,
    open_socket,
    outcome,
    socket_closed,
)
from hsframework.errors import ClientError, ClientTimeout, MessageError
from hsframework.interface import Trust
from hsframework.local.channel import AsyncChannel
from hsframework.local.deadlines import Deadlines
from hsframework.netlink.messages import Message, sequence_numbers

if TYPE_CHECKING:
    from hsframework.registry.plugins import Registry

_RETRY = 0.01
"""Seconds between attempts while the dispatcher's backlog is full."""


class AsyncClient:
    """A client of the dispatcher on an event loop.

    ``runtime_dir``, ``registry``, ``dispatcher_user``: as for :class:`hsframework.client.Client`.

    ::

        async with AsyncClient() as client:
            session = await client.handshake(sock, HandshakeOptions(peer_name="server.example", trust=trust))
            await session.stream().send(b"hello")
    """

    def __init__(
        self,
        runtime_dir: Path | str | None = None,
        *,
        registry: Registry | None = None,
        dispatcher_user: User = None,
    ) -> None:
        self._runtime_dir = runtime_dir
        self._user = dispatcher_user
        self._registry = registry
        self._submits = Submits(registry)
        self._trusts = TrustFiles()
        self._trust_sent = b""
        """Digest of the trust that was sent over the link."""
        self._channel: AsyncChannel | None = None
        self._connecting: asyncio.Lock | None = None
        self._pending: dict[int, asyncio.Future[Message]] = {}
        self._numbers = sequence_numbers()
        self._guards: Deadlines[int] | None = None
        renewed_in_children(self, AsyncClient._renew)

    async def __aenter__(self) -> AsyncClient:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """Path of the dispatcher's socket."""
        return dispatcher_path(self._runtime_dir)

    @property
    def connected(self) -> bool:
        """True while the link to the dispatcher is open."""
        return self._channel is not None and not self._channel.closed

    @property
    def pending(self) -> int:
        """Number of handshakes under way."""
        return len(self._pending)

    async def connect(self) -> None:
        """Connect to the dispatcher, unless connected.  Raises ClientError."""
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        async with self._connecting:
            if not self.connected:
                self._trust_sent = b""
                self._channel = AsyncChannel(await _connect(self.path, self._user), self._on_message, self._on_closed)

    def close(self) -> None:
        """Close the link at once.

        Pending calls end with ECONNRESET, and the dispatcher withdraws their requests.
        """
        if self._channel is not None:
            self._channel.close()
        if self._guards is not None:
            self._guards.close()
        self._trusts.close()
        self._fail_pending(client_closed())

    async def handshake(self, sock: socket.socket, options: HandshakeOptions) -> AsyncSession:
        """Run a handshake on a connected socket and return the session.

        Raises RequestRefused (no handshake was begun, the socket is as it was), HandshakeError (the handshake failed),
        ClientError when the dispatcher cannot be reached or closes the link.  Each carries its errno.
        """
        sequence = next(number for number in self._numbers if number not in self._pending)
        check_socket(sock)
        data = self._submits.encode(options, sequence)
        if self._channel is None or self._channel.closed:
            await self.connect()
        assert self._channel is not None
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Message] = loop.create_future()
        limit = (UNTIMED if options.timeout is None else options.timeout) + GRACE
        if self._guards is None:
            self._guards = Deadlines(loop, self._hung)
        guards = self._guards
        ticket = guards.add(sequence, loop.time() + limit)
        self._pending[sequence] = future
        try:
            fd = sock.fileno()
            if fd < 0:
                raise socket_closed()
            try:
                if options.trust is not None and travels_alone(options.trust):
                    self._send_trust(options.trust, sequence)
                self._channel.send_soon(data, fd)
            except OSError as error:
                raise cannot_send(error) from None
            message = await future
        except asyncio.CancelledError:
            self._withdraw(sequence, errno.ECANCELED)
            raise
        finally:
            guards.remove(sequence, ticket)
            self._pending.pop(sequence, None)
        values = outcome(message, options.group)
        if values.get("in-kernel"):
            check_planted(sock, options.group)
        return AsyncSession(sock, options.role, values, self._registry)

    def _renew(self) -> None:
        """Leave the link to the process that was forked."""
        channel, self._channel = self._channel, None
        self._connecting = self._guards = None
        self._pending = {}
        self._trusts.renew()
        if channel is not None:
            channel.leave()

    def _send_trust(self, trust: Trust, sequence: int) -> None:
        """Send a large trust before the submit that names it, unless it is the last one that was sent."""
        assert self._channel is not None
        if trust.digest != self._trust_sent:
            file = self._trusts.file(trust)
            try:
                self._channel.send(file.message(sequence), file.fd)
            finally:
                os.close(file.fd)
            self._trust_sent = trust.digest

    def _withdraw(self, sequence: int, reason: int) -> None:
        if self.connected and self._channel is not None:
            self._channel.send(encode_cancel(sequence, reason))

    def _hung(self, sequence: int) -> None:
        future = self._pending.get(sequence)
        if future is not None and not future.done():
            self._withdraw(sequence, errno.ETIMEDOUT)
            future.set_exception(
                ClientTimeout("the dispatcher did not answer in time; is it hung?", errno=errno.ETIMEDOUT)
            )

    def _on_message(self, data: bytes, fd: int | None) -> None:
        if fd is not None:
            os.close(fd)
        try:
            message = codec().decode(data)
        except MessageError as error:
            if self._channel is not None:
                self._channel.close()
            self._on_closed(error)
            return
        if message.error == 0:
            return
        if message.error is not None:
            self._trust_sent = b""  # it may be the trust that was refused
        future = self._pending.get(message.sequence)
        if future is not None and not future.done():
            future.set_result(message)

    def _on_closed(self, error: Exception | None) -> None:
        self._fail_pending(link_lost(error))

    def _fail_pending(self, error: ClientError) -> None:
        for future in self._pending.values():
            if not future.done():
                future.set_exception(copy.copy(error))


async def _connect(path: Path, user: User) -> socket.socket:
    loop = asyncio.get_running_loop()
    end = loop.time() + CONNECT_TIMEOUT
    sock = open_socket(path, user)
    sock.setblocking(False)
    try:
        while True:
            try:
                sock.connect(str(path))
                break
            except BlockingIOError:
                if loop.time() >= end:
                    raise no_connection(path) from None
                await asyncio.sleep(_RETRY)
            except OSError as error:
                raise connect_error(path, error) from None
        check_dispatcher(sock, path, user)
        return sock
    except BaseException:
        sock.close()
        raise
